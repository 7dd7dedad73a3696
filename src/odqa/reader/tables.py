"""Tables as sentences: what a reader is given in the place of a table, and which place of the table each part is.

A reader that learned from articles does not look up a row and a column. "Team | 15 | 39 EUR" below
"Plan | Users | Price" is given to it as "Plan Team has Users 15, Price 39 EUR.", of which "Team", "15" and "39 EUR" are
the cells, and all else is put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from odqa.reader.bounds import CELL_BORDER
from odqa.types import Span

Offsets = Sequence[tuple[int, int]]

LONGEST_CELL = 100  # code points; what has longer ones is text in columns
LEAST_ROWS = 3  # without headings: commands that hand their output on ("a | b") seldom stand in three lines
MOST_TIMES_AS_LONG = 3.0


@dataclass(slots=True)
class Reading:
    """A text to be read in the place of another; `copied` holds, in order, what stands in both.

    Each is a start in `text`, a start in the original, and a number of code points.
    """

    text: str = ""
    copied: list[tuple[int, int, int]] = field(default_factory=list)

    def copy(self, original: str, place: Span) -> None:
        """Append a part of the original."""
        if place.start < place.end:
            self.copied.append((len(self.text), place.start, len(place)))
            self.text += place.of(original)

    def placed(self, offsets: Offsets) -> tuple[list[tuple[int, int]], NDArray[np.bool_]]:
        """Return where the tokens of `text` stand in the original, and which stand there not: bool [tokens].

        The latter are given the place, without length, behind what is before them. Places ascend as the offsets do.
        """
        found, put_in = [], np.ones(len(offsets), dtype=np.bool_)
        number, behind = 0, 0
        for token, (start, end) in enumerate(offsets):
            while number < len(self.copied) and start >= self.copied[number][0] + self.copied[number][2]:
                behind = self.copied[number][1] + self.copied[number][2]
                number += 1
            at, place, length = self.copied[number] if number < len(self.copied) else (len(self.text), 0, 0)
            if at <= start and end <= at + length:
                put_in[token] = False
                found.append((place + start - at, place + end - at))
            else:
                found.append((behind, behind))
        return found, put_in


def as_sentences(text: str) -> Reading | None:
    """Return a text with its tables as sentences, or None where it has none that can be read so."""
    if "|" not in text:
        return None
    reading, at = Reading(), 0
    begin = len(text) - len(text.lstrip())
    for block in _blocks(text):
        ruled = len(block) > 1 and _is_rule(block[1].of(text))
        rows = [list(_cells(text, line)) for line in block if not _is_rule(line.of(text))]
        headed = ruled or _has_headings(text, rows, in_sight=block[0].start > begin)
        if not _is_table(rows, least=2 if headed else LEAST_ROWS):
            continue
        reading.copy(text, Span(at, block[0].start))
        _put(reading, text, rows, headed=headed)
        at = block[-1].end
    if not at:
        return None
    reading.copy(text, Span(at, len(text)))
    return reading if len(reading.text) <= MOST_TIMES_AS_LONG * len(text) else None


def _blocks(text: str) -> Iterator[list[Span]]:
    """Yield the lines of each run of lines with borders between cells."""
    block: list[Span] = []
    start = 0
    for line in [*text.split("\n"), ""]:  # nothing ends the last run
        if "|" in line and (CELL_BORDER.search(line) or _is_rule(line)):
            block.append(Span(start, start + len(line)))
        elif block:
            yield block
            block = []
        start += len(line) + 1


def _is_rule(line: str) -> bool:
    """Tell whether a line is what stands below the headings of a table in Markdown."""
    return "-" in line and set(line) <= set("|:- \t\r")


def _cells(text: str, line: Span) -> Iterator[Span]:
    """Yield the cells of a line without the blanks around them; bars at its beginning and end are no borders."""
    cut = line.of(text).rstrip()
    start = len(cut) - len(cut.lstrip())
    if cut.startswith("|", start):
        start += 1
    end = len(cut) - (len(cut) > start and cut.endswith("|"))
    for border in [*(one.start() for one in CELL_BORDER.finditer(cut, start, end)), end]:
        cell = cut[start:border]
        blank = len(cell) - len(cell.lstrip())
        yield Span(line.start + start + blank, line.start + start + max(blank, len(cell.rstrip())))
        start = border + 1


def _is_table(rows: Sequence[Sequence[Span]], *, least: int) -> bool:
    widths = {len(row) for row in rows}
    return len(rows) >= least and len(widths) == 1 and max(widths) > 1 and max(map(len, chain(*rows))) <= LONGEST_CELL


def _has_headings(text: str, rows: Sequence[Sequence[Span]], *, in_sight: bool) -> bool:
    """Tell whether the first of some rows names the columns.

    It has words alone and stands where the table begins, which is `in_sight` if something stands before it; else each
    later row has a number. Two columns are taken for names and values.
    """
    if not rows or len(rows[0]) < 3 or not all(map(len, rows[0])):
        return False
    digits = [any(letter.isdigit() for cell in row for letter in cell.of(text)) for row in rows]
    return not digits[0] and (in_sight or all(digits[1:]))


def _put(reading: Reading, text: str, rows: Sequence[Sequence[Span]], *, headed: bool) -> None:
    """Append the headings, which may be asked for or be none, and the rows as sentences."""
    names = [cell.of(text) for cell in rows[0]] if headed else [""] * len(rows[0])
    if headed:
        for cell in rows[0]:
            reading.copy(text, cell)
            reading.text += ", "
        reading.text = reading.text[:-2] + ":\n"
    for first, *others in rows[1:] if headed else rows:
        reading.text += f"{names[0]} " if names[0] else ""
        reading.copy(text, first)
        reading.text += " has " if any(names) else " is "
        between = ""
        for name, cell in zip(names[1:], others, strict=True):
            if len(cell):
                reading.text += f"{between}{name} " if name else between
                reading.copy(text, cell)
                between = ", "
        reading.text += ".\n"
