"""The plots of docs/performance.md, drawn from the curves in the results: the same results give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Lines = dict[str, list[tuple[float, float]]]  # name -> points

_STYLE = {
    "svg.hashsalt": "odqa",  # ids in the file depend on it alone
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


@dataclass(frozen=True)
class Plot:
    """A plot: where it goes, what its axes are, and how its lines are read from the results.

    `points` returns nothing where there is no such result.
    """

    file: str
    title: str
    across: str
    up: str
    points: Callable[[Mapping[str, Mapping[str, Any]]], Lines]
    logarithmic: bool = False  # the axis across


def _growth(results: Mapping[str, Mapping[str, Any]]) -> Lines:
    points = results.get("growth", {}).get("curves", {}).get("growth", [])
    return {"without the network": [(one["passages"], one["milliseconds"]) for one in points]} if points else {}


def _recall(results: Mapping[str, Mapping[str, Any]]) -> Lines:
    lines: Lines = {}
    for name, points in results.get("vector_search", {}).get("curves", {}).items():
        for one in points:
            line = f"{int(name.split()[1]):,} vectors, {one['kind']}"
            lines.setdefault(line, []).append((one["milliseconds"], one["recall"]))
    return {name: sorted(points) for name, points in lines.items()}


PLOTS = (
    Plot("performance-growth.svg", "Time per passage while an index grows", "passages", "ms per passage", _growth),
    Plot(
        "performance-recall.svg",
        "Recall and time of one search",
        "milliseconds (p50)",
        "recall@5",
        _recall,
        logarithmic=True,
    ),
)


def draw(plot: Plot, lines: Lines, path: Path) -> None:
    """Draw a plot as SVG; nothing in it depends on the time or the machine."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, label=name)
        axes.set(title=plot.title, xlabel=plot.across, ylabel=plot.up)
        if plot.logarithmic:
            axes.set_xscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=7)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
