"""Questions that stand in a passage: they do not answer the one that was asked, and the answer to theirs follows them.

Lists of frequent questions, interviews, chats and exercises hold what is asked nearly word for word, and a reader that
learned from articles is drawn to it: to the question itself, to who asked it, to what stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from odqa.types import Span
from odqa.words import stem, telling, words_of

# Fitted on held-out paragraphs with questions put into them (docs/decisions.md).
ALIKE = 0.6  # from this likeness on, a question of the passage is the one that was asked
LESS, MUCH_LESS = 6.0, 12.0  # what an answer's score loses; much where the two questions have the same words

Penalties = NDArray[np.float32]

# Not in an address (a?b=c), nor at the end of a title, a quotation or a remark in brackets ("1999 [when?] it ended"),
# whose sentence goes on and need not ask anything; "](" is that of a link.
_ASKS = re.compile(r"[?？](?![?？])!*(?=[\s*_<|]|\]\(|$)(?![^\S\n]+[a-z])")
# What ends a sentence, a paragraph, or a line that is not merely wrapped, or begins a quotation that is not over yet.
# (`odqa.words.sentences` looks for what a passage says: it runs over lines and cuts long sentences.)
_BEFORE = re.compile(r"[.!?。！？][\"'”’)\]*_]*\s|\n[^\S\n]*(?=\n|[^a-z\s])|(?<=\s)[\"“](?=[^\"“”]*\Z)")
_LABEL = re.compile(r"\s*[^\n?？]{1,40}?:\s+")  # who speaks: "Ann: ", "[10:30] Ann: ", "Q: "
_KINDS = frozenset("how what when where which who whom whose why".split())
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Interrogatives:
    """The questions of a passage, in order, and what they take from answers; see `interrogatives`.

    `start` and `end` are float32 [tokens of the passage], to be added to the logits.
    """

    places: Sequence[Span]
    start: Penalties
    end: Penalties

    def are_crossed_by(self, place: Span) -> bool:
        """Tell whether a span holds part of a question, and of what stands before or behind it."""
        return any(one.overlaps(place) and not one.start <= place.start <= place.end <= one.end for one in self.places)


def interrogatives(question: str, text: str, offsets: Sequence[tuple[int, int]]) -> Interrogatives | None:
    """Return the questions of a passage, and what to add to the start and to the end logits of its tokens.

    -inf within a question that is like the one that was asked: no answer begins or ends there. -`LESS` / 2 within
    others, which somebody may well ask about. And -`LESS` to -`MUCH_LESS` for beginning elsewhere than behind the
    question that is most like the one that was asked, if one is like it at all. There means: before the next question.
    Of several questions in a row, all are answered behind the last.

    Args:
        question: what was asked.
        text: the passage.
        offsets: of each of its tokens, in code points.

    Returns:
        None where the passage asks nothing, as most do.
    """
    places = asking(text)
    if not places:
        return None
    wanted = _stems(question)
    likeness = [_likeness(wanted, _stems(text[_behind_label(text, one) : one.end])) for one in places]
    begins = np.array([first for first, _ in offsets], dtype=np.int64)
    start = np.zeros(len(begins), dtype=np.float32)
    if max(likeness) >= ALIKE and (answering := _answering(text, places, likeness)):
        start -= np.float32(LESS + (MUCH_LESS - LESS) * (max(likeness) - ALIKE) / (1 - ALIKE))
        for place in answering:
            start[_within(begins, place)] = 0
    end = np.zeros_like(start)
    for place, alike in zip(places, likeness, strict=True):
        inside = _within(begins, place)
        start[inside] = end[inside] = -np.inf if alike >= ALIKE else -LESS / 2
    return Interrogatives(places, start, end)


def asking(text: str) -> list[Span]:
    """Return the sentences of a text that ask something, in order, each with the beginning of its line if it is first.

    So whoever asks in a chat ("Ann: When is it?") is part of the question.
    """
    found, last = [], 0
    for mark in _ASKS.finditer(text):
        start = last
        for before in _BEFORE.finditer(text, last, mark.start()):
            start = before.end()
        start = mark.start() - len(text[start : mark.start()].lstrip())
        if _LETTER.search(text, start, mark.start()):
            found.append(Span(start, mark.end()))
        last = mark.end()
    return found


def _answering(text: str, places: Sequence[Span], likeness: Sequence[float]) -> list[Span]:
    """Return the parts of a text that follow the questions that are most like the one that was asked.

    Without who says it, where that stands before question and answer.
    """
    most, found, row = max(likeness), [], 0.0
    ends = [*places, Span(len(text), len(text) + 1)]
    for (one, following), alike in zip(pairwise(ends), likeness, strict=True):
        row = max(row, alike)
        if not _LETTER.search(text, one.end, following.start):
            continue  # the next one follows at once
        if row == most:
            answer = Span(one.end, following.start)
            labelled = _behind_label(text, one) > one.start
            found.append(Span(_behind_label(text, answer), answer.end) if labelled else answer)
        row = 0.0
    return found


def _behind_label(text: str, place: Span) -> int:
    """Return where a place in a text begins if who speaks is left out."""
    label = _LABEL.match(text, place.start, place.end)
    return label.end() if label else place.start


def _stems(text: str) -> set[str]:
    """Return the stems of what a question is about, and of what kind it is: when somebody was born is not where."""
    words = words_of(text)
    return {stem(word) for word in telling(words)} | _KINDS.intersection(words)


def _likeness(first: set[str], second: set[str]) -> float:
    """Return the share of words that are in both: twice their number, by the sum of the numbers of words (Dice)."""
    return 2 * len(first & second) / max(1, len(first) + len(second))


def _within(begins: NDArray[np.int64], place: Span) -> slice:
    """Return which tokens begin within a place."""
    return slice(*np.searchsorted(begins, (place.start, place.end)).tolist())
