"""Candidates of a reader -> the answers of a question: in order, merged, with calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from odqa import settings
from odqa.metrics import normalise_answer
from odqa.models.registry import Calibration
from odqa.protocols import SpanCandidate
from odqa.types import Answer, Place, RetrievedPassage, Span

__all__ = ["Calibration", "accepted", "answers", "lead", "probability"]


@dataclass(frozen=True, slots=True)
class _ScoredPlace:
    """A candidate with its final score, at its place in the document."""

    place: Place
    text: str
    rank: int
    score: float
    counts: bool  # as support of equal answers


def answers(
    candidates: Sequence[SpanCandidate],
    retrieved: Sequence[RetrievedPassage],
    *,
    calibration: Calibration,
    n_best: int,
) -> tuple[Answer, ...]:
    """Return the `n_best` answers of a question, best first, equal scores by rank of the passage and by position.

    1. A candidate scores `reader_weight` * its score - `retrieval_weight` * (best retrieval score - its passage's).
    2. Spans of one document that overlap, be it through overlapping passages, are one place: the best of them.
    3. Places whose texts are equal after `odqa.metrics.normalise_answer` are one answer. It scores as its best place
       does + `support_weight` * log(number of its places). Of each passage, only places among its
       `settings.SPAN_CANDIDATES` best candidates are counted, so that more candidates change no score.
    4. The margin of an answer is its score less the best score of the others, so it is negative for all but the first,
       and +`margin_cap` if there is no other; `probability` takes both, and the `lead` of the best passage.

    Margins look at every answer, not only at the `n_best` that are returned. No candidates give no answers.

    Args:
        candidates: spans of the passages; `passage` is the place in `retrieved`.
        retrieved: the passages that were read, and others for the lead, if fewer than `settings.LEAD_PASSAGES` were.
        calibration: the weights, of the reader's registry entry.
        n_best: most answers.

    Raises:
        ValueError: `n_best` is below 1, a rank is below 1, or a candidate's passage or span does not exist.
    """
    if n_best < 1:
        raise ValueError(f"n_best must be at least 1, not {n_best}")
    most = max((found.score for found in retrieved), default=0.0)
    least = _least_counted(candidates)
    places = _distinct_places([_scored(one, retrieved, calibration, most=most, least=least) for one in candidates])
    groups: dict[str, list[_ScoredPlace]] = {}
    for place in places:
        # A text of nothing but articles and punctuation normalises to "": it equals only itself.
        groups.setdefault(normalise_answer(place.text) or place.text, []).append(place)
    scored = [(_supported(group, calibration.support_weight), group) for group in groups.values()]
    scored.sort(key=lambda item: (-item[0], item[1][0].rank, item[1][0].place.span))
    totals = [score for score, _ in scored]
    ahead = lead(retrieved)
    return tuple(_answer(at, scored[at][1], totals, ahead, calibration) for at in range(min(n_best, len(scored))))


def accepted(found: Sequence[Answer], *, threshold: float) -> Answer | None:
    """Return the best answer, or None ("no answer") when there is none or its probability is below `threshold`."""
    return found[0] if found and found[0].probability >= threshold else None


def lead(retrieved: Sequence[RetrievedPassage]) -> float:
    """Return how far the best retrieval score lies above the fifth (`settings.LEAD_PASSAGES`), or the last; 0 or more.

    Where one passage says what the question says, it stands out among the others, however many there are. One alone
    leads by `settings.LONE_LEAD`.
    """
    scores = sorted((found.score for found in retrieved), reverse=True)[: settings.LEAD_PASSAGES]
    return scores[0] - scores[-1] if len(scores) > 1 else settings.LONE_LEAD


def probability(score: float, margin: float, ahead: float, *, calibration: Calibration) -> float:
    """Return the calibrated chance in [0, 1] that an answer is right, a logistic function of the three.

    Score and margin are held within `margin_cap`, as one straight line does not fit all scores (docs/decisions.md).

    Args:
        score: the answer's score.
        margin: by how much it is above the best other answer, negative if below.
        ahead: the lead of the best passage in retrieval.
        calibration: the coefficients.
    """
    score, margin = (max(-calibration.margin_cap, min(calibration.margin_cap, value)) for value in (score, margin))
    odds = calibration.score_coefficient * score + calibration.margin_coefficient * margin + calibration.intercept
    odds += calibration.lead_coefficient * ahead
    return 1.0 / (1.0 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1.0 + math.exp(odds))


def _scored(
    candidate: SpanCandidate,
    retrieved: Sequence[RetrievedPassage],
    calibration: Calibration,
    *,
    most: float,
    least: Mapping[int, float],
) -> _ScoredPlace:
    if not 0 <= candidate.passage < len(retrieved):
        raise ValueError(f"a candidate names passage {candidate.passage} of {len(retrieved)}")
    holder = retrieved[candidate.passage]
    text = candidate.span.of(holder.passage.text)
    if not text or len(text) != len(candidate.span):
        raise ValueError(f"span {candidate.span} is empty or outside passage {holder.passage.passage_id}")
    if holder.rank < 1:
        raise ValueError(f"ranks count from 1; passage {holder.passage.passage_id} has rank {holder.rank}")
    start = holder.passage.span.start
    span = Span(start + candidate.span.start, start + candidate.span.end)
    below = most - holder.score
    score = calibration.reader_weight * candidate.score - calibration.retrieval_weight * below
    counts = candidate.score >= least[candidate.passage]
    return _ScoredPlace(Place(holder.passage, span), text, holder.rank, score, counts)


def _least_counted(candidates: Sequence[SpanCandidate]) -> dict[int, float]:
    """Return, for each passage, the score of the last of its candidates that counts as support."""
    scores: dict[int, list[float]] = {}
    for candidate in candidates:
        scores.setdefault(candidate.passage, []).append(candidate.score)
    return {passage: min(nlargest(settings.SPAN_CANDIDATES, own)) for passage, own in scores.items()}


def _supported(group: Sequence[_ScoredPlace], weight: float) -> float:
    """Return the score of places with equal texts, best first."""
    return group[0].score + weight * math.log(max(1, sum(place.counts for place in group)))


def _distinct_places(places: Sequence[_ScoredPlace]) -> list[_ScoredPlace]:
    """Keep, best first, the places that overlap no better one of their document."""
    kept: list[_ScoredPlace] = []
    taken: dict[str, list[Span]] = {}
    for place in sorted(places, key=lambda p: (-p.score, p.rank, p.place.span)):
        spans = taken.setdefault(place.place.passage.doc_id, [])
        if not any(place.place.span.overlaps(span) for span in spans):
            spans.append(place.place.span)
            kept.append(place)
    return kept


def _answer(
    at: int, group: Sequence[_ScoredPlace], totals: Sequence[float], ahead: float, calibration: Calibration
) -> Answer:
    score, best = totals[at], group[0]
    others = totals[:1] if at else totals[1:2]
    margin = score - others[0] if others else calibration.margin_cap
    return Answer(
        text=best.text,
        span=best.place.span,
        passage=best.place.passage,
        score=score,
        probability=probability(score, margin, ahead, calibration=calibration),
        places=tuple(p.place for p in group),
    )
