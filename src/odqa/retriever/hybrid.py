"""Question -> passages: a dense list and a full-text list, fused by their scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.protocols import Encoder, PassageIds, Vectors
from odqa.types import Passage, RetrievedPassage

WORD = re.compile(r"\w+")

# Words that say how a question is asked, not what it is about. FTS5 scores every passage that holds any word of the
# expression, so leaving these out is both faster and no worse.
STOP_WORDS = frozenset(
    """
    a about an and any are as at be been but by can could did do does done for from had has have he her him his how i if
    in into is it its me my of on or our she should so some than that the their them there these they this those to us
    was we were what when where which who whom whose why will with would you your
    """.split()
)


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


def has_words(question: str) -> bool:
    """Tell whether a question holds a letter or a digit of any script; punctuation and emoji alone ask nothing."""
    return any(character.isalnum() for character in question)


def text_expression(question: str, *, near: bool = False) -> str:
    """Build the FTS5 expression of a question: its words, quoted and OR-ed, without stop words where others remain.

    With `near`, neighbouring words count once more where they stand near each other: better beside a dense list, worse
    alone. Quoting makes every word a literal, so no FTS5 syntax in a question has any effect. Returns "" for a question
    without words.
    """
    words = list(dict.fromkeys(word.lower() for word in WORD.findall(question)))
    telling = [f'"{word}"' for word in words if word not in STOP_WORDS] or [f'"{word}"' for word in words]
    pairs = [f"NEAR({a} {b}, {settings.NEAR_TOKENS})" for a, b in pairwise(telling)] if near else []
    return " OR ".join(telling + pairs)


class HybridRetriever:
    """Finds passages by meaning, by words, or both. Holds no state besides what it is given."""

    def __init__(self, index: SearchableIndex, encoder: Encoder | None, *, fusion: Fusion | None = None) -> None:
        """Search `index` with the questions' vectors from `encoder`, the encoder that made the index.

        None will do for the mode "text".
        """
        self._index, self._encoder = index, encoder
        self._fusion = fusion or Fusion()

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
        dense = self._dense(questions, depth, allowed) if mode != "text" else [{} for _ in questions]
        near = mode == "hybrid"
        text = [self._text(q, depth, allowed, near=near) if mode != "dense" else {} for q in questions]
        weights = Fusion(self._fusion.dense_weight * (mode != "text"), self._fusion.text_weight * (mode != "dense"))
        return [self._fuse(d, t, top_k, depth, weights) for d, t in zip(dense, text, strict=True)]

    def _dense(self, questions: Sequence[str], depth: int, allowed: PassageIds | None) -> list[dict[int, float]]:
        if self._encoder is None:
            raise ValueError("this retriever has no encoder: only the mode 'text' is possible")
        vectors = self._encoder.encode_questions(questions)
        distances, ids = self._index.search_dense(vectors, top_k=depth, allowed=allowed)
        return [
            {int(i): -float(d) for i, d in zip(id_row, distance_row, strict=True) if i >= 0}
            for id_row, distance_row in zip(ids, distances, strict=True)
        ]

    def _text(self, question: str, depth: int, allowed: PassageIds | None, *, near: bool) -> dict[int, float]:
        expression = text_expression(question, near=near)
        return dict(self._index.search_text(expression, top_k=depth, allowed=allowed)) if expression else {}

    def _fuse(
        self, dense: dict[int, float], text: dict[int, float], top_k: int, depth: int, weights: Fusion
    ) -> tuple[RetrievedPassage, ...]:
        """Fuse two ranked lists of at most `depth` (dicts keep their order); equal scores go to the older passage."""
        nearness, words = _from_worst(dense), _of_best(text)
        unnamed = min(words.values(), default=0.0) if len(words) >= depth else 0.0
        both = weights.dense_weight + weights.text_weight
        scores = {
            i: (weights.dense_weight * nearness.get(i, 0.0) + weights.text_weight * words.get(i, unnamed)) / both
            for i in (*dense, *text)
        }
        order = sorted(scores, key=lambda i: (-scores[i], i))
        # A passage may have been deleted since it was ranked: a few more are read, so that top_k remain.
        living = self._index.passages(order[: top_k + 8])
        kept = [i for i in order[: top_k + 8] if i in living][:top_k]
        return tuple(
            RetrievedPassage(living[i], scores[i], rank, dense.get(i), text.get(i))
            for rank, i in enumerate(kept, start=1)
        )


def _from_worst(scores: dict[int, float]) -> dict[int, float]:
    """Bring scores to [0, 1], the worst to 0 and the best to 1; all to 1 if they are equal."""
    worst, best = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    return {i: (score - worst) / (best - worst) if best > worst else 1.0 for i, score in scores.items()}


def _of_best(scores: dict[int, float]) -> dict[int, float]:
    """Divide positive scores by the best of them."""
    best = max(scores.values(), default=1.0)
    return {i: score / best if best > 0 else 0.0 for i, score in scores.items()}
