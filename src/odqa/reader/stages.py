"""Early exit: the best passages are read first, the others only where one of them may still hold the best answer.

The final score of an answer is its reader score less what its passage lacks in retrieval (`odqa.reader.merge`), and the
second part is known before anything is read. So it is known, too, which reader score a passage would need to win; where
readers hardly ever give one that high, the passage is left unread. How high that is was fitted on held-out articles
(`Calibration.unread_above`, docs/decisions.md). Of the others that are read, a part is (`odqa.reader.focus`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from odqa import settings
from odqa.models.registry import Calibration
from odqa.protocols import Reader, SpanCandidate
from odqa.reader.focus import focus
from odqa.reader.merge import answers
from odqa.reader.tables import as_sentences
from odqa.types import Answer, RetrievedPassage, Span


def read_answers(
    reader: Reader,
    questions: Sequence[str],
    retrieved: Sequence[Sequence[RetrievedPassage]],
    *,
    calibration: Calibration,
    n_best: int,
    read_all: bool = False,
    top_k: int | None = None,
) -> list[tuple[Answer, ...]]:
    """Return the `n_best` answers of each question, best first; arguments and errors are those of `read_in_stages`.

    Of each question's passages the first `top_k` are read, None reads all; the others are for the lead of the best.
    """
    spans = max(n_best, settings.SPAN_CANDIDATES)
    first = [passages[:top_k] for passages in retrieved]
    candidates = read_in_stages(reader, questions, first, calibration=calibration, n_best=spans, read_all=read_all)
    return [
        answers(found, passages, calibration=calibration, n_best=n_best)
        for found, passages in zip(candidates, retrieved, strict=True)
    ]


def read_in_stages(
    reader: Reader,
    questions: Sequence[str],
    retrieved: Sequence[Sequence[RetrievedPassage]],
    *,
    calibration: Calibration,
    n_best: int,
    read_all: bool = False,
) -> list[list[SpanCandidate]]:
    """Return each question's candidates, best first by the reader's score; `passage` is the place in `retrieved`.

    Passages are read in the order in which they were retrieved, `settings.READ_STAGES` of them at a time and then all
    others, and those of several questions together: those of the first stage whole, of the others the sentences that
    say most of the question. With `read_all`, or a calibration without `unread_above`, every passage is read, and
    whole.

    Args:
        reader: reads several questions with their passages.
        questions: texts.
        retrieved: the passages of each question, best first.
        calibration: the weights of the final score, and from which score on a passage is left unread.
        n_best: most candidates of a passage.
        read_all: leave no passage unread, nor any part of one.

    Raises:
        ValueError: as the reader does.
    """
    found: list[list[SpanCandidate]] = [[] for _ in questions]
    best = [-math.inf] * len(questions)
    gaps = [_gaps(passages, calibration) for passages in retrieved]
    limits = [_limits(passages, calibration) for passages in retrieved]
    deepest = max(map(len, retrieved), default=0)
    stages = _stages(deepest) if calibration.unread_above and not read_all else [range(deepest)]
    for number, stage in enumerate(stages):
        wanted = []
        for at, own in enumerate(gaps):
            limit = limits[at][min(number, len(limits[at])) - 1] * calibration.reader_weight if number else math.inf
            wanted.append([place for place in stage if place < len(own) and best[at] + own[place] <= limit])
        asked = [at for at, places in enumerate(wanted) if places]
        if not asked:
            continue
        texts = [[retrieved[at][place].passage.text for place in wanted[at]] for at in asked]
        least = settings.FOCUS_CHARACTERS[min(number, len(settings.FOCUS_CHARACTERS)) - 1] if number else None
        read = _read(reader, [questions[at] for at in asked], texts, n_best=n_best, least=least)
        for at, spans in zip(asked, read, strict=True):
            for span in spans:
                place = wanted[at][span.passage]
                found[at].append(SpanCandidate(place, span.span, span.score))
                best[at] = max(best[at], calibration.reader_weight * span.score - gaps[at][place])
    return [sorted(spans, key=lambda c: (-c.score, c.passage, c.span)) for spans in found]


def _read(
    reader: Reader, questions: Sequence[str], texts: Sequence[Sequence[str]], *, n_best: int, least: int | None
) -> list[list[SpanCandidate]]:
    """Read at least so many characters of each passage, or all of them; spans count from the passage's start anyway.

    Of a passage with a table, all of it: a row means little without the headings.
    """
    if least is None:
        return reader.read_many(questions, texts, n_best=n_best)
    parts = [
        [focus(question, text, characters=len(text) if as_sentences(text) else _share(text, least)) for text in own]
        for question, own in zip(questions, texts, strict=True)
    ]
    cut = [[part.of(text) for part, text in zip(*pair, strict=True)] for pair in zip(parts, texts, strict=True)]
    return [
        [
            SpanCandidate(c.passage, Span(at + c.span.start, at + c.span.end), c.score)
            for c in spans
            for at in (own[c.passage].start,)
        ]
        for own, spans in zip(parts, reader.read_many(questions, cut, n_best=n_best), strict=True)
    ]


def _share(text: str, least: int) -> int:
    """Return how many characters of a passage are read."""
    return min(settings.FOCUS_MOST_CHARACTERS, max(least, int(settings.FOCUS_SHARE * len(text))))


def _stages(passages: int) -> list[range]:
    """Cut the places of so many passages into those that are read together."""
    ends = [0]
    for size in settings.READ_STAGES:
        ends.append(min(passages, ends[-1] + size))
    return [range(start, end) for start, end in zip(ends, [*ends[1:], passages], strict=True) if end > start]


def _limits(passages: Sequence[RetrievedPassage], calibration: Calibration) -> tuple[float, ...]:
    """Return the reader scores beyond which the passages of each later stage are left unread.

    Whole documents lose more by passages that are left unread than paragraphs do (docs/decisions.md).
    """
    characters = sum(len(found.passage.text) for found in passages)
    if calibration.unread_above_long and passages and characters >= settings.LONG_CHARACTERS * len(passages):
        return calibration.unread_above_long
    return calibration.unread_above


def _gaps(passages: Sequence[RetrievedPassage], calibration: Calibration) -> list[float]:
    """Return what the final scores of each passage's answers lose for its place in retrieval, 0 or more."""
    most = max((found.score for found in passages), default=0.0)
    return [calibration.retrieval_weight * (most - found.score) for found in passages]
