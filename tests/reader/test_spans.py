from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.reader.spans import TokenSpan, best_spans, word_bounds


def test_word_bounds_by_hand() -> None:
    first, last = word_bounds(np.array([False, True, True, False, False, True]))
    assert first.tolist() == [0, 0, 0, 3, 4, 4]
    assert last.tolist() == [2, 2, 2, 3, 5, 5]
    assert [bound.tolist() for bound in word_bounds(np.array([True, True]))] == [[0, 0], [1, 1]]
    assert [bound.tolist() for bound in word_bounds(np.array([], dtype=bool))] == [[], []]
    given = np.array([True])
    word_bounds(given)
    assert given.tolist() == [True]


def triple_loop(
    start: list[float], end: list[float], context_start: int, continues: list[bool], n_best: int, answer_tokens: int
) -> list[TokenSpan]:
    tokens = len(continues)
    best: dict[tuple[int, int], float] = {}
    for i in range(tokens):
        for j in range(i, min(i + answer_tokens, tokens)):
            score = start[context_start + i] + end[context_start + j] - start[0] - end[0]
            first, last = i, j
            while first > 0 and continues[first]:
                first -= 1
            while last + 1 < tokens and continues[last + 1]:
                last += 1
            best[first, last] = max(score, best.get((first, last), score))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [TokenSpan(*key, score) for key, score in ranked[:n_best]]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_n_best_are_those_of_a_triple_loop(data: st.DataObject) -> None:
    tokens, context_start = data.draw(st.integers(0, 14)), data.draw(st.integers(1, 3))
    # Whole numbers make ties common; they are exact in float32.
    logits = st.lists(st.integers(-3, 3), min_size=context_start + tokens + 1, max_size=context_start + tokens + 1)
    start, end = data.draw(logits), data.draw(logits)
    continues = data.draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens))
    n_best, answer_tokens = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 16))
    first, last = word_bounds(np.array(continues, dtype=bool))
    found = best_spans(
        np.array(start, np.float32), np.array(end, np.float32), context_start=context_start,
        word_first=first, word_last=last, n_best=n_best, answer_tokens=answer_tokens,
    )  # fmt: skip
    assert found == triple_loop(start, end, context_start, continues, n_best, answer_tokens)


def test_a_full_window_against_the_triple_loop() -> None:
    rng = np.random.default_rng(5)
    start, end = rng.normal(size=(2, 384)).astype(np.float32)
    continues = rng.random(384 - 21) < 0.3
    first, last = word_bounds(continues)
    found = best_spans(start, end, context_start=20, word_first=first, word_last=last, n_best=50)
    wanted = triple_loop(start.astype(float).tolist(), end.astype(float).tolist(), 20, continues.tolist(), 50, 30)
    assert [(s.first, s.last) for s in found] == [(s.first, s.last) for s in wanted]
    np.testing.assert_allclose([s.score for s in found], [s.score for s in wanted], rtol=1e-12)


def test_scores_are_log_odds_against_no_answer() -> None:
    start = np.array([2.0, 9.0, 9.0, 1.0, 5.0, 9.0], np.float32)
    end = np.array([3.0, 9.0, 9.0, 4.0, 2.0, 9.0], np.float32)
    places = np.arange(2) + 7
    found = best_spans(start, end, context_start=3, word_first=places, word_last=places, n_best=9)
    assert found == [TokenSpan(8, 8, 2.0), TokenSpan(7, 7, 0.0), TokenSpan(7, 8, -2.0)]


def test_wrong_arguments() -> None:
    logits, words = np.zeros(6, np.float32), np.arange(3)
    best_spans(logits, logits, context_start=2, word_first=words, word_last=words, n_best=1)
    for change in ({"context_start": 1}, {"word_last": words[:2]}, {"end": logits[:5]}):
        arguments = {
            "start": logits,
            "end": logits,
            "context_start": 2,
            "word_first": words,
            "word_last": words,
        } | change
        with pytest.raises(ValueError, match="lengths do not agree"):
            best_spans(**arguments, n_best=1)
    for change in ({"n_best": 0}, {"n_best": 1, "answer_tokens": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            best_spans(logits, logits, context_start=2, word_first=words, word_last=words, **change)
