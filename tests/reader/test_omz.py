"""The profile "omz" against plain loops written from the description of the reference demo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_networks
from small_networks import IDS, reader_tables

from odqa.protocols import Encoding, SpanCandidate
from odqa.reader.extractive import ExtractiveReader
from odqa.reader.omz import omz_answers, omz_span, omz_windows
from odqa.reader.windows import Window
from odqa.types import Passage, RetrievedPassage, Span

CLS, SEP = 101, 102


def encoding(tokens: int, first: int = 1000) -> Encoding:
    return Encoding(list(range(first, first + tokens)), [(2 * at, 2 * at + 1) for at in range(tokens)])


def cut(tokens: int, question: int = 5, max_tokens: int = 384) -> list[Window]:
    asked = list(range(question))
    return omz_windows(asked, [encoding(tokens)], cls_id=CLS, sep_id=SEP, max_tokens=max_tokens)


def described(tokens: int, window: int) -> list[tuple[int, int]]:
    """A window; then half a window on, and again, while what is left fills at least half a window."""
    found, start = [], 0
    end = min(window, tokens)
    while end > start:
        found.append((start, end))
        start = min(start + window // 2, tokens)
        end = min(start + window, tokens)
        if end - start < window // 2:
            break
    return found


@pytest.mark.parametrize("max_tokens", [384, 160, 37])
def test_windows_are_the_demos(max_tokens: int) -> None:
    for tokens in [*range(12), *range(100, 130), *range(170, 180), *range(340, 530)]:
        found = [(w.first_token, w.first_token + w.context_tokens) for w in cut(tokens, 2, max_tokens)]
        assert found == described(tokens, max_tokens - 35), tokens


def test_windows_of_known_passages() -> None:
    """W = 384 - (32 + 3) = 349, and a step of 174."""
    assert [(w.first_token, w.context_tokens) for w in cut(347)] == [(0, 347)]
    assert [(w.first_token, w.context_tokens) for w in cut(348)] == [(0, 348), (174, 174)]  # inside the first
    assert [(w.first_token, w.context_tokens) for w in cut(349)] == [(0, 349), (174, 175)]  # inside the first
    assert [(w.first_token, w.context_tokens) for w in cut(523)] == [(0, 349), (174, 349), (348, 175)]
    assert [(w.first_token, w.context_tokens) for w in cut(173)] == [(0, 173)]  # the plain demo would have none
    assert cut(0) == []


def test_a_window_is_question_and_context() -> None:
    passages = [encoding(3), encoding(0), encoding(350, first=5000)]
    found = omz_windows([7, 8], passages, cls_id=CLS, sep_id=SEP, max_tokens=384)
    assert found[0] == Window(0, [CLS, 7, 8, SEP, 1000, 1001, 1002, SEP], [0, 0, 0, 0, 1, 1, 1, 1], 4, 0)
    assert [(w.passage, w.first_token) for w in found] == [(0, 0), (2, 0), (2, 174)]
    assert found[2].ids == [CLS, 7, 8, SEP, *range(5174, 5350), SEP]


def test_a_question_is_cut_only_where_the_demo_would_fail() -> None:
    assert len(cut(349, question=32)[0].ids) == 384
    assert cut(349, question=33)[0].ids == cut(349, question=32)[0].ids
    assert len(cut(300, question=81)[0].ids) == 384  # fits as it is, though longer than 32
    assert cut(300, question=82)[0].ids == cut(300, question=81)[0].ids
    assert len(cut(1, question=1000)[0].ids) == 384


def test_windows_too_short_for_this_profile() -> None:
    with pytest.raises(ValueError, match=r"keeps 32 tokens .* windows of 36 tokens are too short"):
        cut(10, max_tokens=36)


def best_of(starts: Sequence[float], ends: Sequence[float], first: int, behind: int) -> tuple[float, int, int]:
    """Try every start with every end, each softmax over all positions."""
    start_sum = sum(math.exp(value) for value in starts)
    end_sum = sum(math.exp(value) for value in ends)
    best = (-1.0, -1, -1)
    for i in range(first, behind):
        for j in range(first, behind):
            if j < i or j - i + 1 > 15:
                continue
            score = math.exp(starts[i]) / start_sum * math.exp(ends[j]) / end_sum
            if score > best[0]:
                best = (score, i, j)
    return best


@pytest.mark.parametrize("seed", range(30))
def test_spans_are_those_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, question = int(rng.integers(1, 60)), int(rng.integers(1, 20))
    start, end = rng.normal(size=(2, 96)).astype(np.float32) * rng.choice([1.0, 4.0, 12.0])
    window = Window(0, [0] * (question + 3 + tokens), [], question + 2, 1000)
    score, i, j = best_of(start.tolist(), end.tolist(), question + 2, question + 2 + tokens)
    found = omz_span(start, end, window)
    assert (found.first, found.last) == (1000 + i - question - 2, 1000 + j - question - 2)
    assert found.score == pytest.approx(score, rel=1e-9)


def test_limits_of_a_span() -> None:
    start, end = np.zeros((2, 40), np.float32)
    start[[0, 5, 39]] = 9.0  # [CLS] and padding weigh in the sum but are no answer
    end[[1, 19, 20]] = 4.0
    window = Window(0, [0] * 30, [], 4, 0)
    found = omz_span(start, end, window)
    assert (found.first, found.last) == (5 - 4, 19 - 4)  # 15 tokens; to position 20 it would be 16
    shares = math.exp(9) / (3 * math.exp(9) + 37) * math.exp(4) / (3 * math.exp(4) + 37)
    assert found.score == pytest.approx(shares, rel=1e-6)
    flat = omz_span(np.zeros(40, np.float32), np.zeros(40, np.float32), window)
    assert (flat.first, flat.last, flat.score) == (0, 0, pytest.approx(1 / 1600))


def test_reading_is_that_of_plain_loops(tmp_path: Path) -> None:
    """From texts to spans, with the padding up to 384 in each softmax, whatever lengths rows are run at."""
    spec = replace(small_networks.reader_spec(tmp_path), window_tokens=384)
    reader = ExtractiveReader(spec, environment={"ODQA_MODELS_DIR": str(tmp_path)})
    rng = np.random.default_rng(5)
    words = ["the", "cat", "sat", "on", "mat", "paris", "tower", "cafe", "cats", "2000", "x", "."]
    texts = [" ".join(rng.choice(words, size=size)) for size in (1, 30, 348, 600)]
    questions = ["who sat on the mat?", "where"]
    found = reader.read_as_omz(questions, [texts, texts[:1]])
    assert found == [reader.read_as_omz([questions[0]], [texts])[0], reader.read_as_omz(["where"], [texts[:1]])[0]]

    starts, ends = reader_tables()
    asked = reader._tokenizer.encode(questions[0]).ids
    expected = []
    for number, text in enumerate(texts):
        pieces = reader._tokenizer.encode(text)
        for first, behind in described(len(pieces.ids), 349):
            ids = [IDS["[CLS]"], *asked, IDS["[SEP]"], *pieces.ids[first:behind], IDS["[SEP]"]]
            types = [0] * (len(asked) + 2) + [1] * (behind - first + 1)
            padding = 384 - len(ids)
            ids, types = ids + [0] * padding, types + [0] * padding
            logits = [[float(table[i]) + t for i, t in zip(ids, types, strict=True)] for table in (starts, ends)]
            score, i, j = best_of(*logits, len(asked) + 2, len(asked) + 2 + behind - first)
            at = first - len(asked) - 2
            expected.append((number, Span(pieces.offsets[at + i][0], pieces.offsets[at + j][1]), score))
    assert len(expected) > len(texts)
    assert [(one.passage, one.span) for one in found[0]] == [(number, span) for number, span, _ in expected]
    assert [one.score for one in found[0]] == pytest.approx([score for _, _, score in expected], rel=1e-4)


def test_reading_wants_what_reading_always_wants(tmp_path: Path) -> None:
    reader = ExtractiveReader(small_networks.reader_spec(tmp_path), environment={"ODQA_MODELS_DIR": str(tmp_path)})
    assert reader.read_as_omz([], []) == []
    assert reader.read_as_omz(["who"], [["", "\n"]]) == [[]]
    with pytest.raises(ValueError, match="one list of passages for each question"):
        reader.read_as_omz(["who"], [])
    with pytest.raises(ValueError, match="has no words"):
        reader.read_as_omz([" "], [["cat"]])


# ---- answers -------------------------------------------------------------------------------------------------------


def retrieved(rank: int, doc_id: str, start: int, text: str) -> RetrievedPassage:
    passage = Passage(rank, doc_id, "", text, Span(start, start + len(text)), f"/{doc_id}")
    return RetrievedPassage(passage, 1.0 / rank, rank)


def test_answers_are_ordered_by_their_product_alone() -> None:
    passages = [retrieved(1, "a", 0, "one two three"), retrieved(2, "b", 100, "two four")]
    spans = [
        SpanCandidate(0, Span(0, 3), 0.1),
        SpanCandidate(0, Span(0, 7), 0.3),
        SpanCandidate(1, Span(4, 8), 0.9),
        SpanCandidate(1, Span(0, 3), 0.3),
        SpanCandidate(0, Span(0, 3), 0.2),  # the same place again, from another window
    ]
    found = omz_answers(spans, passages, n_best=10)
    assert [(a.text, a.score, a.probability, a.span, a.passage.doc_id) for a in found] == [
        ("four", 0.9, 0.9, Span(104, 108), "b"),
        ("one two", 0.3, 0.3, Span(0, 7), "a"),
        ("two", 0.3, 0.3, Span(100, 103), "b"),
        ("one", 0.2, 0.2, Span(0, 3), "a"),
    ]
    assert all(answer.places[0].span == answer.span for answer in found)
    assert omz_answers(spans, passages, n_best=2) == found[:2]
    assert omz_answers([], passages, n_best=2) == ()
    with pytest.raises(ValueError, match="n_best"):
        omz_answers(spans, passages, n_best=0)


def test_a_place_in_overlapping_passages_counts_once() -> None:
    passages = [retrieved(1, "a", 0, "one two three"), retrieved(2, "a", 4, "two three four")]
    spans = [SpanCandidate(0, Span(4, 7), 0.2), SpanCandidate(1, Span(0, 3), 0.5)]
    assert [(a.span, a.score, a.passage.passage_id) for a in omz_answers(spans, passages, n_best=5)] == [
        (Span(4, 7), 0.5, 2)
    ]
