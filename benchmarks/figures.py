"""Figures with their spread and their bar, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bars import BY_KEY


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, median and most of what several rounds gave."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def __mul__(self, factor: float) -> Spread:
        return Spread(self.least * factor, self.median * factor, self.most * factor)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `key` names a bar, or says in words what it is where there is none.

    `value` is the median where there were rounds, with the spread of the rounds. `unit` is that of the bar.
    """

    key: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    note: str = ""


def figure(key: str, value: float | Spread, unit: str = "", *, note: str = "") -> Figure:
    """Make a figure; where `key` names a bar, the unit is the bar's.

    Raises:
        ValueError: there is neither a bar nor a unit, or they contradict each other.
    """
    bar = BY_KEY.get(key)
    unit = unit or (bar.unit if bar else "")
    if not unit or (bar and bar.unit != unit):
        raise ValueError(f"{key}: unit {unit!r}, but the bar says {bar.unit if bar else 'nothing'}")
    if isinstance(value, Spread):
        return Figure(key, value.median, unit, value.least, value.most, note)
    return Figure(key, float(value), unit, note=note)


@dataclass(slots=True)
class Measured:
    """What a benchmark found.

    Attributes:
        figures: in the order in which they are shown.
        settings: what was measured on: counts, lengths, choices.
        left_out: what could not be measured, with the reason.
        curves: name -> points, for plots.
    """

    figures: list[Figure] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def bar_text(figure: Figure) -> str:
    """Return the bar of a figure with its verdict, "" where there is none."""
    bar = BY_KEY.get(figure.key)
    if bar is None:
        return ""
    must = "" if bar.must is None else f"must {bar.must:g}, "
    aim = "" if bar.aim is None else f"aim {bar.aim:g}: "
    return f"{must}{aim}{bar.verdict(figure.value)}"


def value_text(figure: Figure) -> str:
    """Return value, unit and spread: `2.31 x [2.20, 2.45]`."""
    spread = "" if figure.least is None else f" [{number(figure.least)}, {number(figure.most or 0.0)}]"
    return f"{number(figure.value)} {figure.unit}{spread}"


def number(value: float) -> str:
    """Return three significant digits, and whole numbers above 1,000 with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def name_of(figure: Figure) -> str:
    """Return what a figure is in words."""
    bar = BY_KEY.get(figure.key)
    if bar is None:
        return figure.key
    return bar.question if not bar.against else f"{bar.question}, against: {bar.against}"


def table(measured: Measured) -> str:
    """Return the figures for people, one a line, each beside its bar."""
    lines = []
    for one in measured.figures:
        lines.append(f"{name_of(one)}\n    {value_text(one)}" + (f"   ({bar_text(one)})" if bar_text(one) else ""))
        if one.note:
            lines.append(f"    {one.note}")
    lines += [f"not measured: {reason}" for reason in measured.left_out]
    return "\n".join(lines)
