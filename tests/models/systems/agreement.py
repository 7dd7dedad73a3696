"""Compares what a model gives through odqa with an independent implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from pairs import Pair

from odqa import settings
from odqa.models.runtime import Row, Tokenizer
from odqa.protocols import Encoding
from odqa.reader.bounds import closed, in_one_block, joined
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder
from odqa.types import Span

Logits = tuple[NDArray[np.float32], NDArray[np.float32]]


class VectorBert(Protocol):
    """An implementation of encoders to compare with."""

    def vector(self, ids: Sequence[int]) -> NDArray[np.float32]: ...


class SpanBert(Protocol):
    """An implementation of readers to compare with."""

    def logits(self, ids: Sequence[int], types: Sequence[int]) -> Logits: ...


# ---- encoders ------------------------------------------------------------------------------------------------------

Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]  # of questions, and of as many passages


@dataclass(frozen=True)
class VectorAgreement:
    """How near two sets of vectors are, and what that means for the L2 distances of questions to passages.

    Attributes:
        differences: the largest absolute difference of each vector, questions first.
        moved: the largest difference of a distance.
        same_order: how many questions have all passages in the same order.
        same_nearest: how many questions have the same nearest passage.
    """

    differences: tuple[float, ...]
    moved: float
    same_order: int
    same_nearest: int

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(self.differences)


def encoded(encoder: DenseEncoder, asked: Sequence[Pair]) -> Vectors:
    """Let odqa encode the questions and the passages."""
    passages = encoder.encode_passages([pair.passage for pair in asked], titles=[""] * len(asked))
    return encoder.encode_questions([pair.question for pair in asked]), passages


def expected_vectors(bert: VectorBert, tokenizer: Tokenizer, asked: Sequence[Pair]) -> Vectors:
    """Encode the questions and the passages with another implementation, from ids as published."""

    def vectors(texts: Sequence[str], most: int) -> NDArray[np.float32]:
        ids = [tokenizer.encode(text).ids[: most - 2] for text in texts]
        return np.stack([bert.vector([tokenizer.cls_id, *row, tokenizer.sep_id]) for row in ids])

    return vectors([pair.question for pair in asked], 32), vectors([pair.passage for pair in asked], 384)


def compare_vectors(found: Vectors, wanted: Vectors) -> VectorAgreement:
    """Compare the vectors, and the order of all passages by L2 distance from each question."""
    differences = np.abs(np.concatenate(found) - np.concatenate(wanted)).max(axis=1)
    here, there = _distances(*found), _distances(*wanted)
    here_order, there_order = np.argsort(here, axis=1), np.argsort(there, axis=1)
    return VectorAgreement(
        tuple(differences.tolist()),
        moved=float(np.abs(here - there).max()),
        same_order=int((here_order == there_order).all(axis=1).sum()),
        same_nearest=int((here_order[:, 0] == there_order[:, 0]).sum()),
    )


def _distances(questions: NDArray[np.float32], passages: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([np.linalg.norm(passages.astype(np.float64) - question, axis=1) for question in questions])


# ---- readers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpanAgreement:
    """How near the logits of two implementations are, and what that means for the best spans.

    Attributes:
        differences: the largest absolute difference of each pair's logits.
        alike: how many pairs have the same best span.
        decided: how many pairs have a best span that these differences could not change.
        wrong: how many of these have another one in odqa.
    """

    differences: tuple[float, ...]
    alike: int
    decided: int
    wrong: int

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(self.differences)


def compare_reader(reader: ExtractiveReader, bert: SpanBert, asked: Sequence[Pair]) -> SpanAgreement:
    """Compare the logits of all windows that odqa makes, and the best span of each pair."""
    differences, alike, decided, wrong = [], 0, 0, 0
    for pair in asked:
        rows, found, best = _recorded(reader, pair)
        wanted = [bert.logits(row.ids, row.token_types) for row in rows]
        differences.append(max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(found, wanted, strict=True)))
        ranked = expected_spans(reader._tokenizer, pair, rows, wanted)
        same = best == ranked[0][1]
        clear = ranked[0][0] - ranked[1][0] > 8 * differences[-1]  # each of two scores is a sum of four logits
        alike, decided, wrong = alike + same, decided + clear, wrong + (clear and not same)
    return SpanAgreement(tuple(differences), alike, decided, wrong)


def _recorded(reader: ExtractiveReader, pair: Pair) -> tuple[list[Row], list[Logits], tuple[int, int]]:
    """Let odqa read a pair: the rows that it gave to the network, what it got, and where the best span stands."""
    seen: list[tuple[list[Row], list[Logits]]] = []
    inner = reader._network.logits

    def logits(rows: Sequence[Row]) -> list[Logits]:
        seen.append((list(rows), inner(rows)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader._network, "logits", logits)
        best = reader.read(pair.question, [pair.passage], n_best=1)[0].span
    return *seen[0], (best.start, best.end)


def expected_spans(
    tokenizer: Tokenizer, pair: Pair, rows: Sequence[Row], logits: Sequence[Logits]
) -> list[tuple[float, tuple[int, int]]]:
    """Rank all spans of a passage by plain loops: score, and place in the text; the best first.

    Where an answer may begin and end is odqa's own rule, with tests of its own (`tests/reader/test_bounds.py`).
    """
    passage, asked = tokenizer.encode(pair.passage), tokenizer.encode(pair.question).ids
    head = [tokenizer.cls_id, *asked, tokenizer.sep_id]
    continues = joined(pair.passage, passage.offsets, tokenizer.continues[passage.ids]).tolist()
    best: dict[tuple[int, int], float] = {}
    begins = 0
    for row, (start, end) in zip(rows, logits, strict=True):
        tokens = len(row.ids) - len(head) - 1
        assert row.ids == [*head, *passage.ids[begins : begins + tokens], tokenizer.sep_id]
        assert row.token_types == [0] * len(head) + [1] * (tokens + 1)
        for i in range(tokens):
            for j in range(i, min(i + settings.ANSWER_TOKENS, tokens)):
                at = len(head)
                score = float(start[at + i]) + float(end[at + j]) - float(start[0]) - float(end[0])
                span = closed(pair.passage, Span(*_place(passage, continues, begins + i, begins + j)))
                place = (span.start, span.end)
                if score > best.get(place, -np.inf) and in_one_block(pair.passage, span):
                    best[place] = score
        begins += tokens - settings.DOC_STRIDE_TOKENS
    return sorted(((score, place) for place, score in best.items()), key=lambda item: (-item[0], item[1]))


def _place(passage: Encoding, continues: Sequence[bool], first: int, last: int) -> tuple[int, int]:
    """Widen a span of tokens to whole words, and say where it stands."""
    while continues[first] and first > 0:
        first -= 1
    while last + 1 < len(continues) and continues[last + 1]:
        last += 1
    return passage.offsets[first][0], passage.offsets[last][1]
