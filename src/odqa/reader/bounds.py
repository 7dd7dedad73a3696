"""Where an answer may begin and end: names, numbers, brackets and cells of tables are not cut.

The tokenizer cuts at every sign, so a reader may begin or end an answer at one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from odqa.reader.spans import word_bounds
from odqa.types import Span

LONGEST = 200  # code points of a word with signs; what is longer (packed data, a list without spaces) may be cut

# Every alternative begins with its sign, so that the search leaps from one sign to the next.
_BETWEEN = r"""
    \. (?<=[^\W_]\.) (?=[a-z\d])        # Cargo.toml, 3.5; not "end.Next", where a space is missing
  | \. (?<=\b[A-Z]\.) (?=[A-Z]\b)       # U.S.
  | ,  (?<=\d,) (?=\d{3}(?!\d))         # 1,000
  | :  (?<=\d:) (?=\d)                  # 10:30
  | :: (?<=\w::) (?=\w)                 # std::io
  | [/\\@&] (?<=\w[/\\@&]) (?=\w)       # src/main, km/h, C&A, a@b
"""
_TO_THE_LEFT = re.compile(
    _BETWEEN
    + r"""
  | \. (?<=\.[A-Za-z]\.)                # the last one of U.S. and p.m.
  | _  (?<=\w_)                         # __init__
  | %  (?<=\d%)                         # 5%
  | \+\+ (?<=\b[A-Z]\+\+) (?!\w)        # C++
  | \# (?<=\b[A-Z]\#) (?!\w)            # C#
""",
    re.VERBOSE,
)
_TO_THE_RIGHT = re.compile(
    _BETWEEN
    + r"""
  | _  (?=\w)
  | \. (?<![\w.]\.) (?=[a-z\d])         # .gitignore, .5
  | -  (?<![\w-]-) (?=\w)               # -j, -5
  | -- (?<![\w-]--) (?=\w)              # --read-all
  | [$\#@] (?<!\w[$\#@]) (?=\w)         # $5, #12, @name
""",
    re.VERBOSE,
)
_ADDRESS = re.compile(r"https?://[^\s<>\"'`|()\[\]{}]*[\w/]")  # hyphens and all
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"), ("“", "”"), ("«", "»"), ('"', '"'), ("`", "`"))
_ANY_OF_PAIRS = re.compile(r"[()\[\]{}<>“”«»\"`]")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
CELL_BORDER = re.compile(r"(?:^|(?<=\s))\|(?=\s|$)")


def joined(text: str, offsets: Sequence[tuple[int, int]], continues: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which tokens continue the word before them, signs within names and numbers considered.

    "Cargo.toml", "1,000" and "--read-all" are answered whole or not at all. Hyphens within a word and apostrophes are
    left to the reader: "49-day" may well be answered with "49", and "Darwin's" with "Darwin".

    Args:
        text: what was tokenised.
        offsets: of each token, in code points of the text.
        continues: bool [tokens]; True where a token continues a word as the tokenizer cuts them. Left as it is.

    Returns:
        bool [tokens]: True there, and where a sign joins a token to the one before it.
    """
    places = {at for match in _TO_THE_LEFT.finditer(text) for at in range(match.start(), match.end())}
    places.update(at for match in _TO_THE_RIGHT.finditer(text) for at in range(match.start() + 1, match.end() + 1))
    places.update(at for match in _ADDRESS.finditer(text) for at in range(match.start() + 1, match.end()))
    if not places:
        return continues
    more = continues | np.array([start in places for start, _ in offsets], dtype=np.bool_)
    first, last = word_bounds(more)
    bounds = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    return np.where(bounds[last, 1] - bounds[first, 0] > LONGEST, continues, more)


def closed(text: str, place: Span) -> Span:
    """Take in brackets and quotation marks next to a span that holds their counterparts alone: "28 km (17 mi" does."""
    if not _ANY_OF_PAIRS.search(text, place.start, place.end):  # nearly always
        return place
    while (wider := _with_one_more(text, place)) != place:
        place = wider
    return place


def _with_one_more(text: str, place: Span) -> Span:
    cut = place.of(text)
    for opens, closes in _PAIRS:
        if opens not in cut and closes not in cut:
            continue
        alone = cut.count(opens) % 2 if opens == closes else cut.count(opens) - cut.count(closes)
        if alone == 1 and text.startswith(closes, place.end):
            return Span(place.start, place.end + 1)
        if (alone == -1 or (alone == 1 and opens == closes)) and text.endswith(opens, 0, place.start):
            return Span(place.start - 1, place.end)
    return place


def in_one_block(text: str, place: Span) -> bool:
    """Tell whether a span stands within one paragraph and within one cell of a table.

    Others join what does not belong together. A bar that leads the output of one command into the next is no border.
    """
    cut = place.of(text)
    if "\n" in cut and _BLANK_LINE.search(cut):
        return False
    if "|" not in cut or not CELL_BORDER.search(cut):
        return True
    first = text.rfind("\n", 0, place.start) + 1
    above = text.rfind("\n", 0, max(0, first - 1)) + 1
    last = text.find("\n", place.end)
    below = text.find("\n", last + 1) if last >= 0 else -1
    lines = text[above : below if below >= 0 else len(text)].split("\n")  # the span's own, and one on either side
    borders = sum(CELL_BORDER.search(line) is not None for line in lines)
    return borders < 2 and not text[first : place.end].lstrip().startswith("|")
