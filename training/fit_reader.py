"""Fit the final order, what is left unread, and the probability of answers (`calibrate.py reader`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import product
from operator import itemgetter
from pathlib import Path

import numpy as np

import data
from held_out import held_out_index
from odqa import metrics, settings
from odqa.evaluation import GoldQuestion
from odqa.models.registry import REGISTRY, Calibration, find
from odqa.protocols import SpanCandidate
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.reader.merge import answers, lead
from odqa.reader.stages import read_in_stages
from odqa.types import RetrievedPassage

# The training file has one gold answer a question, which is often but a word longer or shorter than another right one.
NEARLY_EXACT_F1 = 2 / 3
RIDGE = 1e-2
CAP = 8.0  # of score and margin: one straight line does not fit all scores (docs/decisions.md)
ANSWERABLE_IN_TEN = 7  # of the questions; the others are asked without their article
# Scores from which on passages of the second stage of reading, of the third, and of the later ones may be left unread;
# what reading less may cost in F1, which says more of a few questions than exact matches do (in exact matches for the
# order).
UNREAD_ABOVE = tuple(product((18.0, 16.0, 14.0), (14.0, 12.0, 10.0, 8.0), (2.0, 0.0)))
LOST = 0.003
MOST_ORDERS = 3  # weights of the retrieval, the largest of those that are as good, that are tried with each limit

Score = Callable[[str | None, Sequence[str]], float]
Read = tuple[GoldQuestion, tuple[RetrievedPassage, ...], list[SpanCandidate]]


class CachedReader:
    """Reads no text twice for one question: the fits read the same passages in many ways. Keeps what stages need."""

    name = "cached"

    def __init__(self, reader: ExtractiveReader) -> None:
        """Stand before `reader`."""
        self._reader, self._found = reader, {}

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        """Return the candidates of one question's passages."""
        return self.read_many([question], [passages], n_best=n_best)[0]

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        """Return the candidates of each question's passages, passage by passage."""
        pairs = list(zip(questions, passages, strict=True))
        new = [
            [text for text in dict.fromkeys(texts) if (asked, text, n_best) not in self._found]
            for asked, texts in pairs
        ]
        wanted = [(asked, texts) for (asked, _), texts in zip(pairs, new, strict=True) if texts]
        read = self._reader.read_many([a for a, _ in wanted], [t for _, t in wanted], n_best=n_best) if wanted else []
        for (asked, texts), spans in zip(wanted, read, strict=True):
            for place, text in enumerate(texts):
                self._found[asked, text, n_best] = [span for span in spans if span.passage == place]
        return [
            [replace(span, passage=at) for at, text in enumerate(texts) for span in self._found[asked, text, n_best]]
            for asked, texts in pairs
        ]


def read_rows(
    reader: CachedReader, rows: Sequence[Read], calibration: Calibration, *, read_all: bool = False
) -> list[Read]:
    """Return the rows with what reading in stages finds in their passages."""
    found = read_in_stages(
        reader,
        [gold.question for gold, _, _ in rows],
        [row for _, row, _ in rows],
        calibration=calibration,
        n_best=settings.SPAN_CANDIDATES,
        read_all=read_all,
    )
    return [(gold, row, spans) for (gold, row, _), spans in zip(rows, found, strict=True)]


def exact(read: Sequence[Read], calibration: Calibration, *, score: Score = metrics.exact_match) -> float:
    """Return the mean score of the best answers of answerable questions: the share of right ones."""
    rows = []
    for gold, row, spans in read:
        if gold.answers:
            best = answers(spans, row, calibration=calibration, n_best=1)
            rows.append(score(best[0].text if best else None, gold.answers))
    return float(np.mean(rows))


def passages_read(read: Sequence[Read]) -> np.ndarray:
    """Return how many passages of each answerable question were read."""
    return np.array([len({span.passage for span in spans}) for gold, _, spans in read if gold.answers])


def fit_stages(reader: CachedReader, rows: Sequence[Read], orders: Sequence[Calibration]) -> Calibration:
    """Choose the order, and the scores, with which least is read, on average and in the slowest twentieth.

    A larger weight of the retrieval leaves more unread. `orders` are those that are as good in exact matches where all
    is read; F1 may be `LOST` below that of the best of them. Where it always is further below, the best F1 counts.
    """
    whole = max(exact(read_rows(reader, rows, one), one, score=metrics.f1) for one in orders)
    tried = []
    for order, limits in product(orders, UNREAD_ABOVE):
        one = replace(order, unread_above=limits)
        part = read_rows(reader, rows, one)
        count, lost = passages_read(part), whole - exact(part, one, score=metrics.f1)
        mean, slow = float(count.mean()), float(np.sort(count)[-len(count) // 20 :].mean())
        tried.append((mean + slow, lost, one))
        print(
            f"retrieval_weight {one.retrieval_weight} unread_above {limits} passages read {mean:.2f}, "
            f"slowest {slow:.2f}, F1 lost {lost:.4f}",
            flush=True,
        )
    within = [row for row in tried if row[1] <= LOST] or [min(tried, key=itemgetter(1))]
    return min(within, key=itemgetter(0))[2]


def fit_probability(read: Sequence[Read], calibration: Calibration) -> Calibration:
    """Fit the logistic model of "the best answer is right" on score, margin and lead, by Newton's method."""
    features, right = [], []
    for gold, row, spans in read:
        found = answers(spans, row, calibration=calibration, n_best=2)
        if not found:
            continue
        margin = found[0].score - found[1].score if len(found) > 1 else calibration.margin_cap
        cap = calibration.margin_cap
        score = max(-cap, min(cap, found[0].score))
        features.append([score, min(margin, cap), lead(row), 1.0])
        right.append(bool(gold.answers) and metrics.f1(found[0].text, gold.answers) >= NEARLY_EXACT_F1)
    x, y = np.array(features), np.array(right, dtype=float)
    weights = np.zeros(4)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        # A little ridge keeps the weights finite where right and wrong can be told apart without error.
        hessian = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(4)
        weights += np.linalg.solve(hessian, x.T @ (y - p) - RIDGE * weights)
    return replace(
        calibration,
        score_coefficient=round(float(weights[0]), 4),
        margin_coefficient=round(float(weights[1]), 4),
        lead_coefficient=round(float(weights[2]), 4),
        intercept=round(float(weights[3]), 4),
    )


def best_threshold(read: Sequence[Read], calibration: Calibration) -> float:
    """Return the threshold under which most questions are treated rightly: answered when right, else not."""
    rows = []
    for gold, row, spans in read:
        found = answers(spans, row, calibration=calibration, n_best=1)
        f1 = metrics.f1(found[0].text, gold.answers) if found and gold.answers else 0.0
        rows.append((found[0].probability if found else 0.0, f1, not gold.answers))

    def value(threshold: float) -> float:
        return sum(f1 if p >= threshold else float(none) for p, f1, none in rows)

    return max((round(t, 2) for t in np.arange(0.05, 0.8, 0.01)), key=value)


def write_calibration(name: str, calibration: Calibration) -> None:
    """Put the calibration of a reader into the registry; what is left unread of long passages is not fitted here."""
    assert math.isfinite(calibration.intercept)
    calibration = replace(calibration, unread_above_long=find(name).calibration.unread_above_long)
    entries = json.loads(REGISTRY.read_text(encoding="utf-8"))
    next(e for e in entries if e["name"] == find(name).name)["calibration"] = asdict(calibration)
    REGISTRY.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fit_order(reader: CachedReader, rows: Sequence[Read], support_weight: float) -> Calibration:
    """Choose the weight of the retrieval and what is left unread; the probability is not fitted yet.

    Where one paragraph of the corpus holds the answer, as here, support says nothing: its weight is given.
    """
    start = Calibration(margin_cap=CAP, unread_above=(math.inf,), support_weight=support_weight)
    everything = read_rows(reader, rows, start)  # every passage, later ones in part
    grid = [replace(start, retrieval_weight=weight) for weight in (0.0, 8.0, 16.0, 24.0, 32.0, 40.0, 50.0, 60.0, 80.0)]
    scored = [(exact(everything, c), c) for c in grid]
    for value, c in scored:
        print(f"retrieval_weight {c.retrieval_weight} EM {value:.4f}")
    most = max(value for value, _ in scored)
    good = [c for value, c in scored if value >= most - LOST]
    return fit_stages(reader, rows, good[-MOST_ORDERS:])


def fit_reader(squad: Path, *, name: str, count: int, seed: int, keep_order: bool = False) -> dict[str, float]:
    """Fit, return the figures of questions that the probability was not fitted on, and write it into the registry.

    The order of answers and what is left unread are chosen on all questions: half of them tell differences of a quarter
    of a point from nothing. With `keep_order` they stay as the registry has them. The probability is fitted on one
    half, measured on the other, and shipped fitted on both.
    """
    before = find(name).calibration
    reader = CachedReader(load_reader(name))
    with held_out_index(squad) as (corpus, _, retriever, others):
        chosen = data.sampled(corpus, count=count, seed=seed)
        asked: list[tuple[GoldQuestion, np.ndarray | None]] = []
        for number, question in enumerate(chosen):
            if number % 10 < ANSWERABLE_IN_TEN:
                asked.append((GoldQuestion(question.text, (question.answer,), question.paragraph), None))
            else:
                asked.append((GoldQuestion(question.text, ()), others[corpus.article_of[question.paragraph]]))
        rows: list[Read] = [(gold, retriever.retrieve([gold.question], allowed=few)[0], []) for gold, few in asked]
    fit, test = rows[::2], rows[1::2]
    best = before if keep_order else fit_order(reader, rows, before.support_weight)
    whole = {"em, every passage read whole": exact(read_rows(reader, test, best, read_all=True), best)}
    fit, test = read_rows(reader, fit, best), read_rows(reader, test, best)
    best = fit_probability(fit, best)
    best = replace(best, threshold=best_threshold(fit, best))
    probabilities, right = [], []
    for gold, row, spans in test:
        found = answers(spans, row, calibration=best, n_best=1)
        probabilities.append(found[0].probability if found else 0.0)
        right.append(bool(gold.answers) and metrics.exact_match(found[0].text, gold.answers) == 1.0)
    answerable = np.array([bool(gold.answers) for gold, _, _ in test])
    kept = np.array(probabilities) >= best.threshold
    figures = {
        "em": exact(test, best),
        **whole,
        "passages read": float(passages_read(test).mean()),
        "auroc_right": metrics.auroc(probabilities, right) if any(right) and not all(right) else math.nan,
        "auroc_answerable": metrics.auroc(probabilities, answerable),
        "ece": metrics.expected_calibration_error(probabilities, right),
        "answered": float(np.mean(kept[answerable])),
        "refused": float(np.mean(~kept[~answerable])),
    }
    print(json.dumps({"calibration": asdict(best), **{k: round(v, 4) for k, v in figures.items()}}, indent=2))
    best = fit_probability(fit + test, best)
    best = replace(best, threshold=best_threshold(fit + test, best))
    print(json.dumps({"shipped": asdict(best)}))
    write_calibration(name, best)
    return {name: round(value, 4) for name, value in figures.items() if not math.isnan(value)}
