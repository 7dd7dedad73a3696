from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import metrics


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat", "cat"),
        ("  an  apple,\ta day. ", "apple day"),
        ("U.S.", "us"),
        ("a.b the-end", "ab theend"),
        ("theatre", "theatre"),
        ("The", ""),
        ("«Ça»", "«ça»"),
    ],
)
def test_normalise_answer(text: str, normal: str) -> None:
    assert metrics.normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel Tower!"], 1.0, 1.0),
        ("Eiffel Tower in Paris", ["Eiffel Tower"], 0.0, 2 * 2 / (4 + 2)),
        ("Tower", ["Eiffel Tower", "Tower of London", "Big Ben"], 0.0, 2 * 1 / (1 + 2)),
        ("a b b", ["b b c"], 0.0, 2 * 2 / (2 + 3)),
        ("London", ["Paris"], 0.0, 0.0),
        (None, ["Paris"], 0.0, 0.0),
        (None, [], 1.0, 1.0),
        ("Paris", [], 0.0, 0.0),
        ("the", ["a"], 1.0, 0.0),  # as the published v1.1 script has it
    ],
)
def test_exact_match_and_f1(prediction: str | None, golds: list[str], exact: float, f1: float) -> None:
    assert metrics.exact_match(prediction, golds) == exact
    assert metrics.f1(prediction, golds) == pytest.approx(f1)


def test_rankings_by_hand() -> None:
    ranked = ["d", "a", "c", "b"]
    assert metrics.recall_at_k(ranked, {"a", "b"}, k=1) == 0.0
    assert metrics.recall_at_k(ranked, {"a", "b"}, k=2) == 0.5
    assert metrics.recall_at_k(ranked, {"a", "b"}, k=9) == 1.0
    assert metrics.recall_at_k([], ["a", "a"], k=1) == 0.0
    assert metrics.mrr_at_k(ranked, {"c", "b"}, k=4) == pytest.approx(1 / 3)
    assert metrics.mrr_at_k(ranked, {"c", "b"}, k=2) == 0.0
    gains = {"a": 3.0, "b": 2.0, "x": 1.0}
    found = 3 / math.log2(3) + 2 / math.log2(5)
    best = 3 / 1 + 2 / math.log2(3) + 1 / math.log2(4)
    assert metrics.ndcg_at_k(ranked, gains, k=4) == pytest.approx(found / best)
    assert metrics.ndcg_at_k(ranked, gains, k=2) == pytest.approx((3 / math.log2(3)) / (3 + 2 / math.log2(3)))
    assert metrics.ndcg_at_k(["a", "b", "x"], gains, k=10) == pytest.approx(1.0)


def test_rankings_refuse_what_means_nothing() -> None:
    with pytest.raises(ValueError, match="at least one relevant"):
        metrics.recall_at_k(["a"], [], k=1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        metrics.mrr_at_k(["a"], ["a"], k=0)
    with pytest.raises(ValueError, match="once"):
        metrics.ndcg_at_k(["a", "a"], {"a": 1.0}, k=2)
    for gains in ({}, {"a": 0.0}, {"a": 1.0, "b": -1.0}):
        with pytest.raises(ValueError, match="gains"):
            metrics.ndcg_at_k(["a"], gains, k=2)


def test_auroc_by_hand() -> None:
    assert metrics.auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert metrics.auroc([1, 1, 1], [True, False, True]) == 0.5
    assert metrics.auroc([3, 2, 1], [True, False, False]) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(items: list[tuple[int, bool]]) -> None:
    good = [score for score, label in items if label]
    bad = [score for score, label in items if not label]
    if not good or not bad:
        with pytest.raises(ValueError, match="both"):
            metrics.auroc([score for score, _ in items], [label for _, label in items])
        return
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    found = metrics.auroc([score for score, _ in items], [label for _, label in items])
    assert found == pytest.approx(wins / (len(good) * len(bad)))


def test_expected_calibration_error_by_hand() -> None:
    # Two bins: (0.2 + 0.4 against one of two right) and (0.9 against wrong): |0.6 - 1| / 3 + |0.9 - 0| / 3.
    assert metrics.expected_calibration_error([0.2, 0.4, 0.9], [True, False, False], bins=2) == pytest.approx(1.3 / 3)
    assert metrics.expected_calibration_error([0.5], [True], bins=2) == pytest.approx(0.5)
    assert metrics.expected_calibration_error([0.0, 1.0], [False, True]) == 0.0
    # 1/15 belongs to the first bin, a little more to the second.
    one = metrics.expected_calibration_error([0.0, 1 / 15], [True, False])
    two = metrics.expected_calibration_error([0.0, 1 / 15 + 1e-9], [True, False])
    assert one == pytest.approx((1 - 1 / 15) / 2)
    assert two == pytest.approx((1 + 1 / 15) / 2)


def test_probabilities_refuse_what_means_nothing() -> None:
    with pytest.raises(ValueError, match="as many"):
        metrics.auroc([1.0], [True, False])
    with pytest.raises(ValueError, match="not a number"):
        metrics.auroc([np.nan, 1.0], [True, False])
    for wrong in ([], [1.5], [-0.1]):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            metrics.expected_calibration_error(wrong, [True] * len(wrong))
    with pytest.raises(ValueError, match="bins"):
        metrics.expected_calibration_error([0.5], [True], bins=0)
