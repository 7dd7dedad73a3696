"""Measures of answers, rankings and probabilities. Pure functions: no files, no state.

Exact match and F1 are those of the published SQuAD v1.1 evaluation script (Rajpurkar et al., 2016); "no answer" is
handled as in SQuAD v2.0 (Rajpurkar et al., 2018). Measures of rankings are for one question: their mean over the
questions is the figure that is usually reported.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower-case a text, drop ASCII punctuation and the words a, an, the, and make every gap one space.

    The order is that of the published script. The result is empty for a text of nothing but articles and punctuation.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _best(prediction: str | None, golds: Sequence[str], measure: Callable[[str, str], float]) -> float:
    if prediction is None or not golds:
        return float(prediction is None and not golds)
    return max(measure(prediction, gold) for gold in golds)


def _pair_f1(prediction: str, gold: str) -> float:
    predicted, wanted = normalise_answer(prediction).split(), normalise_answer(gold).split()
    shared = (Counter(predicted) & Counter(wanted)).total()
    return 2.0 * shared / (len(predicted) + len(wanted)) if shared else 0.0


def exact_match(prediction: str | None, golds: Sequence[str]) -> float:
    """Return 1.0 if the normalised prediction equals any normalised gold answer, else 0.0.

    `prediction` is None for "no answer", and `golds` is empty for a question that has none: the two match each other
    and nothing else.
    """
    return _best(prediction, golds, lambda a, b: float(normalise_answer(a) == normalise_answer(b)))


def f1(prediction: str | None, golds: Sequence[str]) -> float:
    """Return the best F1 in [0, 1], over the gold answers, of the bags of normalised words.

    `prediction` is None for "no answer", and `golds` is empty for a question that has none: the two give 1.0 together,
    and 0.0 with anything else.
    """
    return _best(prediction, golds, _pair_f1)


def _top(ranked: Sequence[Hashable], k: int) -> Sequence[Hashable]:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    top = ranked[:k]
    if len(set(top)) != len(top):
        raise ValueError("a ranking must name each item once; remove the repeated items, keeping the first of each")
    return top


def recall_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], *, k: int) -> float:
    """Return the share of the relevant items that stand among the first `k` ranked ones.

    With one relevant item this is "top-k accuracy".

    Raises:
        ValueError: `k` is below 1, nothing is relevant, or an item is ranked twice.
    """
    if not relevant:
        raise ValueError("recall needs at least one relevant item; leave out questions without any")
    wanted = set(relevant)
    return sum(item in wanted for item in _top(ranked, k)) / len(wanted)


def mrr_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], *, k: int) -> float:
    """Return 1 / rank of the first relevant item, counted from 1, or 0.0 if none is among the first `k`.

    Raises:
        ValueError: `k` is below 1, or an item is ranked twice.
    """
    wanted = set(relevant)
    return next((1.0 / rank for rank, item in enumerate(_top(ranked, k), 1) if item in wanted), 0.0)


def ndcg_at_k(ranked: Sequence[Hashable], gains: Mapping[Hashable, float], *, k: int) -> float:
    """Return the discounted cumulative gain of the first `k` items over that of the best possible ranking, in [0, 1].

    `gains` maps relevant items to their gain (judgments as they are, as in trec_eval and BEIR); an item that it does
    not hold has gain 0. The item at rank r, counted from 1, is discounted by log2(r + 1). Jaervelin and Kekaelaeinen,
    "Cumulated gain-based evaluation of IR techniques", 2002.

    Raises:
        ValueError: `k` is below 1, a gain is negative, no gain is positive, or an item is ranked twice.
    """
    if min(gains.values(), default=0.0) < 0 or max(gains.values(), default=0.0) <= 0:
        raise ValueError("gains must not be negative, and one at least must be positive; leave out other questions")

    def discounted(values: Sequence[float]) -> float:
        return sum(value / math.log2(rank + 1) for rank, value in enumerate(values, 1))

    found = discounted([gains.get(item, 0.0) for item in _top(ranked, k)])
    return found / discounted(sorted(gains.values(), reverse=True)[:k])


def _scores_and_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truths = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if values.ndim != 1 or values.shape != truths.shape:
        raise ValueError(f"need as many scores as labels, in one dimension each; got {values.shape} and {truths.shape}")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    return values, truths


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the chance that a true item scores above a false one; equal scores count half. 0.5 is no better than luck.

    Args:
        scores: floats [n].
        labels: booleans [n], True for the items that should score high.

    Raises:
        ValueError: the shapes differ, a score is NaN, or the labels are all the same.
    """
    values, truths = _scores_and_labels(scores, labels)
    positives = int(truths.sum())
    negatives = len(truths) - positives
    if not positives or not negatives:
        raise ValueError("the area under the ROC curve needs both true and false labels")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2.0  # the mean rank, from 1, of each group of equal scores
    rank_sum = float(middle_ranks[group][truths].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def expected_calibration_error(probabilities: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> float:
    """Return the mean distance between probability and accuracy over equal-width bins, weighted by their counts.

    Bins are (0, 1/bins], (1/bins, 2/bins], ...; 0 belongs to the first. Guo et al., "On Calibration of Modern Neural
    Networks", 2017.

    Args:
        probabilities: floats [n] in [0, 1].
        correct: booleans [n].
        bins: number of bins, at least 1.

    Raises:
        ValueError: the shapes differ, they are empty, a probability lies outside [0, 1], or `bins` is below 1.
    """
    values, truths = _scores_and_labels(probabilities, correct)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    if not len(values) or values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("need at least one probability, and all of them in [0, 1]")
    place = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    surplus = np.bincount(place, weights=values - truths, minlength=bins)
    return float(np.abs(surplus).sum() / len(values))
