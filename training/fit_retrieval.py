"""Compare weights of the fusion, and fit those of the second look (`calibrate.py fusion`, `calibrate.py look`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

import data
from held_out import Remembered, held_out_index
from odqa import settings
from odqa.retriever.encoder import load_encoder
from odqa.retriever.hybrid import Fusion, HybridRetriever, SecondLook

RIDGE = 1e-2
LOOKS = ("dense_weight", "text_weight", "coverage_weight", "pairs_weight")


def fit_fusion(squad: Path, *, count: int, seed: int) -> dict[str, float]:
    """Compare weights of the full text by recall@1 and recall@5; return the figures of both lists and of the best."""
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    with held_out_index(squad) as (corpus, index, _, _ids):
        remembered, questions = Remembered(index), data.sampled(corpus, count=count, seed=seed)
        texts = [q.text for q in questions]
        gold = [str(q.paragraph) for q in questions]

        def figures(mode: str, weight: float | None = None) -> dict[str, float]:
            fusion = Fusion() if weight is None else Fusion(1.0, weight)
            look = None if weight is None else SecondLook(passages=0)  # the fusion is fitted by its own order
            asked = HybridRetriever(remembered, encoder, fusion=fusion, second_look=look)
            ranks = [{r.passage.doc_id: r.rank for r in row} for row in asked.retrieve(texts, top_k=20, mode=mode)]
            shares = {
                f"recall@{k}": round(
                    float(np.mean([row.get(wanted, k + 1) <= k for row, wanted in zip(ranks, gold, strict=True)])), 4
                )
                for k in (1, 5, 20)
            }
            print(mode, weight or "", json.dumps(shares), flush=True)
            return shares

        single = {f"{mode} {k}": v for mode in ("dense", "text") for k, v in figures(mode).items()}
        tried = {weight: figures("hybrid", weight) for weight in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)}
        best = max(tried, key=lambda weight: (tried[weight]["recall@5"], tried[weight]["recall@1"]))
        print(f"best weight of the full text {best}, in use {settings.FUSION_TEXT_WEIGHT}")
        used = figures("hybrid")
    return {**single, **{f"hybrid {k}": v for k, v in used.items()}, "best_text_weight": best}


def fit_look(squad: Path, *, count: int, seed: int) -> dict[str, float]:
    """Fit the second look; return the figures with the weights of the other half of the articles."""
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    with held_out_index(squad) as (corpus, index, _, _ids):
        remembered, questions = Remembered(index), data.sampled(corpus, count=count, seed=seed)
        texts = [q.text for q in questions]
        scores = np.zeros((len(texts), settings.SECOND_LOOK, len(LOOKS)))
        gold = np.full(len(texts), -1)
        order: list[dict[str, int]] = []
        for column, name in enumerate(LOOKS):  # a score of one weight alone is that part of the mean
            look = SecondLook(**{**dict.fromkeys(LOOKS, 0.0), name: 1.0})
            rows = HybridRetriever(remembered, encoder, second_look=look).retrieve(texts, top_k=settings.SECOND_LOOK)
            for at, row in enumerate(rows):
                if not column:
                    order.append({found.passage.doc_id: place for place, found in enumerate(row)})
                for found in row:
                    scores[at, order[at][found.passage.doc_id], column] = found.score
        for at, question in enumerate(questions):
            gold[at] = order[at].get(str(question.paragraph), -1)
        half = np.array([corpus.article_of[q.paragraph] % 2 for q in questions])
    right = np.zeros((len(texts), 2))
    for part in (0, 1):
        weights = listwise(scores[(half != part) & (gold >= 0)], gold[(half != part) & (gold >= 0)])
        for at in np.flatnonzero((half == part) & (gold >= 0)):
            totals = scores[at] @ weights
            right[at] = [int((totals > totals[gold[at]]).sum()) < k for k in (1, 5)]
    weights = listwise(scores[gold >= 0], gold[gold >= 0])
    fitted = {name: round(float(weight / weights[0]), 3) for name, weight in zip(LOOKS, weights, strict=True)}
    print(json.dumps({"weights of all": fitted, "in use": asdict(SecondLook())}, indent=2))
    return {"recall@1": round(float(right[:, 0].mean()), 4), "recall@5": round(float(right[:, 1].mean()), 4)}


def listwise(scores: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Fit weights [f] of scores [n, k, f] so that softmax over k favours the gold ones, by Newton's method."""
    wanted = scores[np.arange(len(gold)), gold]

    def loss(weights: np.ndarray) -> float:
        totals = scores @ weights
        best = totals.max(1)
        likelihood = wanted @ weights - best - np.log(np.exp(totals - best[:, None]).sum(1))
        return float(RIDGE / 2 * weights @ weights - likelihood.sum())

    weights = np.zeros(scores.shape[2])
    for _ in range(30):
        totals = scores @ weights
        p = np.exp(totals - totals.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = np.einsum("nk,nkf->nf", p, scores)
        slope = (wanted - mean).sum(0) - RIDGE * weights
        spread = np.einsum("nk,nkf,nkg->fg", p, scores, scores) - mean.T @ mean + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(spread, slope)
        while loss(weights + step) > loss(weights) and np.abs(step).max() > 1e-9:
            step = step / 2  # where right and wrong are easily told apart, a whole step goes too far
        weights += step
    return weights
