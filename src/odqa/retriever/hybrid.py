"""Question -> passages: a dense list and a full-text list, fused by their scores, and a second look at the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.protocols import Encoder, PassageIds, Vectors
from odqa.retriever.frequent import near_pairs, rarest
from odqa.retriever.second_look import Evidence, Look
from odqa.types import Passage, RetrievedPassage
from odqa.words import telling, words_of


class SearchableIndex(Protocol):
    """What the retriever needs of an index; see `odqa.store.index.Index`."""

    def search_dense(
        self, vectors: Vectors, *, top_k: int, allowed: PassageIds | None = None
    ) -> tuple[NDArray[np.float32], PassageIds]:
        """Return squared L2 distances and ids, both [n, top_k]."""
        ...

    def search_text(self, expression: str, *, top_k: int, allowed: PassageIds | None = None) -> list[tuple[int, float]]:
        """Return (passage_id, BM25 score), best first."""
        ...

    def count_matches(self, expressions: Sequence[str], *, most: int) -> list[int] | None:
        """Count the passages that match each expression, up to `most`; None if there are no more than that at all."""
        ...

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Return the living passages among `ids`."""
        ...


@dataclass(frozen=True, slots=True)
class Fusion:
    """Weights of the mean of both scores, each brought to [0, 1] within its own list; one list alone has all weight.

    Dense: (worst distance - distance) / (worst - best), so no model's scale matters. Full text: BM25 score / best BM25
    score. A passage that a list does not name counts there as the last of a list that was cut, else as 0. The weights
    were fitted on held-out articles (docs/decisions.md).
    """

    dense_weight: float = settings.FUSION_DENSE_WEIGHT
    text_weight: float = settings.FUSION_TEXT_WEIGHT


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Weights of the mean that orders the best passages of the fusion anew, in the mode "hybrid" alone.

    The scores of both lists, and the evidence of single sentences (`odqa.retriever.second_look`), all in [0, 1]. The
    weights were fitted on held-out articles (docs/decisions.md).
    """

    passages: int = settings.SECOND_LOOK
    dense_weight: float = settings.SECOND_DENSE_WEIGHT
    text_weight: float = settings.SECOND_TEXT_WEIGHT
    coverage_weight: float = settings.COVERAGE_WEIGHT
    pairs_weight: float = settings.PAIRS_WEIGHT


def has_words(question: str) -> bool:
    """Tell whether a question holds a letter or a digit of any script; punctuation and emoji alone ask nothing."""
    return any(character.isalnum() for character in question)


def text_expression(question: str, *, near: bool = False, index: SearchableIndex | None = None) -> str:
    """Build the FTS5 expression of a question: its words, quoted and OR-ed, without stop words where others remain.

    With `near`, neighbouring words count once more where they stand near each other: better beside a dense list, worse
    alone. With an `index`, words that too many of its passages hold are left out of that (see frequent.py). Quoting
    makes every word a literal, so no FTS5 syntax in a question has any effect. Returns "" for a question without words.
    """
    words = [f'"{word}"' for word in telling(words_of(question))]
    if not near:
        return " OR ".join(words)
    counts = index.count_matches(words, most=settings.TEXT_MATCHES) if index is not None else None
    kept = set(words) if counts is None else rarest(words, counts, most=settings.TEXT_MATCHES)
    return " OR ".join([*(word for word in words if word in kept), *near_pairs(words, kept)])


class _Fused(NamedTuple):
    """A passage with its score, its scores in [0, 1] of each list, and those as the lists gave them.

    `nearness` is 0 for the farthest of the list. `closeness` falls by the distance beyond the nearest, against that of
    the farthest: it keeps what `nearness` does not, whether one is much nearer than the others.
    """

    passage_id: int
    score: float
    nearness: float
    closeness: float
    words: float
    dense_score: float | None
    text_score: float | None


class HybridRetriever:
    """Finds passages by meaning, by words, or both. Holds no state besides what it is given."""

    def __init__(
        self,
        index: SearchableIndex,
        encoder: Encoder | None,
        *,
        fusion: Fusion | None = None,
        second_look: SecondLook | None = None,
    ) -> None:
        """Search `index` with the questions' vectors from `encoder`, the encoder that made the index.

        None will do for the mode "text". `SecondLook(passages=0)` leaves the order of the fusion as it is.
        """
        self._index, self._encoder = index, encoder
        self._fusion, self._second = fusion or Fusion(), second_look or SecondLook()

    def retrieve(
        self,
        questions: Sequence[str],
        *,
        top_k: int = settings.TOP_K,
        mode: str = settings.DEFAULT_MODE,
        candidates: int = settings.CANDIDATES,
        allowed: PassageIds | None = None,
    ) -> list[tuple[RetrievedPassage, ...]]:
        """Return the best `top_k` passages of each question, best first; fewer where the index holds fewer.

        Args:
            questions: Texts, each with at least one letter or digit.
            top_k: Passages per question, at least 1.
            mode: "hybrid", "dense" or "text".
            candidates: Passages taken from each list before fusion; at least `top_k` are taken.
            allowed: Ids to search among, int64; None means all, an empty array none.

        Raises:
            ValueError: `top_k` below 1, an unknown mode, or a question that is blank or has no words.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}: at least 1 passage has to be retrieved")
        if mode not in settings.MODES:
            raise ValueError(f"unknown mode {mode!r}: one of {', '.join(settings.MODES)}")
        for question in questions:
            if not question.strip():
                raise ValueError("the question is blank: ask something")
            if not has_words(question):
                raise ValueError(f"the question {question!r} has no words: ask something")
        depth = max(top_k, candidates)
        near = mode == "hybrid"
        # Beside the full text, which knows words better, vectors are asked for their meaning alone.
        dense = self._dense(questions, depth, allowed, lexical=not near) if mode != "text" else [{} for _ in questions]
        text = [self._text(q, depth, allowed, near=near) if mode != "dense" else {} for q in questions]
        weights = Fusion(self._fusion.dense_weight * (mode != "text"), self._fusion.text_weight * (mode != "dense"))
        fused = [_fuse(d, t, depth, weights) for d, t in zip(dense, text, strict=True)]
        look = self._second.passages if mode == "hybrid" else 0
        return [self._best(q, f, top_k, look) for q, f in zip(questions, fused, strict=True)]

    def _dense(
        self, questions: Sequence[str], depth: int, allowed: PassageIds | None, *, lexical: bool
    ) -> list[dict[int, float]]:
        if self._encoder is None:
            raise ValueError("this retriever has no encoder: only the mode 'text' is possible")
        vectors = self._encoder.encode_questions(questions, lexical=lexical)
        distances, ids = self._index.search_dense(vectors, top_k=depth, allowed=allowed)
        return [
            {i: -distance for i, distance in zip(*row, strict=True) if i >= 0}
            for row in zip(ids.tolist(), distances.tolist(), strict=True)
        ]

    def _text(self, question: str, depth: int, allowed: PassageIds | None, *, near: bool) -> dict[int, float]:
        expression = text_expression(question, near=near, index=self._index)
        return dict(self._index.search_text(expression, top_k=depth, allowed=allowed)) if expression else {}

    def _best(self, question: str, fused: Sequence[_Fused], top_k: int, look: int) -> tuple[RetrievedPassage, ...]:
        """Read the best passages, look at the first `look` of them again, and return `top_k`."""
        deepest = max(top_k, look)
        living: dict[int, Passage] = {}
        kept: list[_Fused] = []
        rest = fused
        while rest and len(kept) < deepest:  # one may have been deleted since it was ranked: the next takes its place
            lacking = deepest - len(kept)
            part, rest = rest[:lacking], rest[lacking:]
            living |= self._index.passages([one.passage_id for one in part])
            kept += [one for one in part if one.passage_id in living]
        if look:
            texts = [living[one.passage_id].text for one in kept[:look]]
            kept = _looked_at(kept, Look(question, texts), self._second, count=top_k)
        return tuple(
            RetrievedPassage(living[one.passage_id], one.score, rank, one.dense_score, one.text_score)
            for rank, one in enumerate(kept[:top_k], start=1)
        )


def _fuse(dense: dict[int, float], text: dict[int, float], depth: int, weights: Fusion) -> list[_Fused]:
    """Fuse two ranked lists of at most `depth` (dicts keep their order); equal scores go to the older passage."""
    nearness, closeness, words = _from_worst(dense), _of_farthest(dense), _of_best(text)
    farthest = min(closeness.values(), default=0.0)
    unnamed = min(words.values(), default=0.0) if len(words) >= depth else 0.0
    both = weights.dense_weight + weights.text_weight
    fused = []
    for i in dict.fromkeys((*dense, *text)):
        near, said = nearness.get(i, 0.0), words.get(i, unnamed)
        score = (weights.dense_weight * near + weights.text_weight * said) / both
        fused.append(_Fused(i, score, near, closeness.get(i, farthest), said, dense.get(i), text.get(i)))
    return sorted(fused, key=lambda one: (-one.score, one.passage_id))


def _looked_at(fused: Sequence[_Fused], look: Look, weights: SecondLook, *, count: int) -> list[_Fused]:
    """Order the first passages by all four scores; the others, without evidence, stay behind them, as they were.

    Of the first, those are left out that cannot be among the best `count`, whatever their sentences say.
    """
    whole = weights.dense_weight + weights.text_weight + weights.coverage_weight + weights.pairs_weight

    def score(one: _Fused, seen: Evidence) -> float:
        lists = weights.dense_weight * one.closeness + weights.text_weight * one.words
        return (lists + weights.coverage_weight * seen.coverage + weights.pairs_weight * seen.pairs) / whole

    highest = [score(one, look.most(at)) for at, one in enumerate(fused[: len(look)])]
    best: list[float] = []
    ordered: list[_Fused] = []
    for at in sorted(range(len(highest)), key=lambda at: -highest[at]):
        if len(best) == count and highest[at] < best[0]:
            break
        ordered.append(fused[at]._replace(score=score(fused[at], look.evidence(at))))
        heappush(best, ordered[-1].score)
        if len(best) > count:
            heappop(best)
    ordered.sort(key=lambda one: (-one.score, one.passage_id))
    for one in fused[len(look) :]:
        ordered.append(one._replace(score=min(ordered[-1].score, score(one, Evidence(0.0, 0.0)))))
    return ordered


def _from_worst(scores: dict[int, float]) -> dict[int, float]:
    """Bring scores to [0, 1], the worst to 0 and the best to 1; all to 1 if they are equal."""
    worst, best = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return {i: (score - worst) / (best - worst) if best > worst else 1.0 for i, score in scores.items()}


def _of_farthest(scores: dict[int, float]) -> dict[int, float]:
    """Take from 1 how much farther each is than the nearest, in parts of the farthest; scores are distances below 0."""
    nearest, farthest = max(scores.values(), default=0.0), min(scores.values(), default=0.0)
    return {i: 1.0 - (score - nearest) / farthest if farthest < 0 else 1.0 for i, score in scores.items()}


def _of_best(scores: dict[int, float]) -> dict[int, float]:
    """Divide positive scores by the best of them."""
    best = max(scores.values(), default=1.0)
    return {i: score / best if best > 0 else 0.0 for i, score in scores.items()}
