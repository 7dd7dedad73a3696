"""Fit what stands between the models and the answer, on the held-out articles of the training file.

`fusion` compares weights of reciprocal rank fusion by recall@5. `reader` fits the weights of the final order and the
logistic model of the probability, and writes them into the registry. Unanswerable questions are made by asking over
the same index with the passages of the question's own article excluded.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np

import data
from odqa import metrics, settings
from odqa.evaluation import Dataset, GoldQuestion, paragraph_index
from odqa.models.registry import REGISTRY, Calibration, find
from odqa.protocols import SpanCandidate
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.reader.merge import answers
from odqa.retriever.encoder import load_encoder
from odqa.retriever.hybrid import HybridRetriever
from odqa.store.index import Index
from odqa.types import RetrievedPassage

DISTRACTORS = 1200  # paragraphs of training articles beside the held-out ones, so that there is something to mistake


@contextmanager
def held_out_index(squad: Path) -> Iterator[tuple[data.Corpus, Index, HybridRetriever, dict[int, np.ndarray]]]:
    """Index the held-out paragraphs and some others; yield corpus, index, retriever, passage ids of each article."""
    corpus = data.load_squad(squad, held_out=True)
    others = data.load_squad(squad, held_out=False)
    paragraphs = tuple(corpus.paragraphs) + tuple(others.paragraphs[:DISTRACTORS])
    dataset = Dataset((), paragraphs, ("",) * len(paragraphs))
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    with (
        paragraph_index(dataset, encoder=encoder, with_titles=False) as folder,
        Index.open(folder) as index,
    ):
        ids = {}
        article_of = np.array(corpus.article_of + [-1] * (len(paragraphs) - len(corpus.paragraphs)))
        for article in range(len(corpus.titles)):
            # One passage per paragraph, in order: passage ids count from 1.
            ids[article] = np.flatnonzero(article_of != article).astype(np.int64) + 1
        yield corpus, index, HybridRetriever(index, encoder), ids


def fit_fusion(squad: Path, *, count: int, seed: int) -> None:
    """Print recall@1 and recall@5 for each setting of the fusion."""
    with held_out_index(squad) as (corpus, _, retriever, _ids):
        questions = random.Random(seed).sample(corpus.questions, min(count, len(corpus.questions)))
        texts = [q.text for q in questions]
        gold = [str(q.paragraph) for q in questions]
        ranks: dict[str, list[dict[str, int]]] = {}
        for mode in ("dense", "text"):
            found = retriever.retrieve(texts, top_k=100, mode=mode)
            ranks[mode] = [{r.passage.doc_id: r.rank for r in row} for row in found]
            for k in (1, 5, 20):
                share = np.mean([row.get(wanted, k + 1) <= k for row, wanted in zip(ranks[mode], gold, strict=True)])
                print(f"{mode} recall@{k} {share:.4f}")
        for constant, weight in product((2, 5, 10, 20, 60), (0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6)):
            hits = {1: 0, 5: 0}
            for dense, text, wanted in zip(ranks["dense"], ranks["text"], gold, strict=True):
                if wanted not in dense and wanted not in text:
                    continue
                scores = {
                    d: (1 / (constant + dense[d]) if d in dense else 0.0)
                    + (weight / (constant + text[d]) if d in text else 0.0)
                    for d in {**dense, **text}
                }
                # Equal scores, common when the weights are equal, count as ranked above.
                above = sum(score >= scores[wanted] for score in scores.values()) - 1
                for k in hits:
                    hits[k] += above < k
            shares = " ".join(f"recall@{k} {n / len(gold):.4f}" for k, n in hits.items())
            print(f"constant {constant} text weight {weight} {shares}")


Read = tuple[GoldQuestion, tuple[RetrievedPassage, ...], list[SpanCandidate]]


def read_all(
    retriever: HybridRetriever, reader: ExtractiveReader, asked: Sequence[tuple[GoldQuestion, np.ndarray | None]]
) -> list[Read]:
    """Retrieve and read once; the fits only reorder what was read."""
    retrieved = [retriever.retrieve([gold.question], allowed=allowed)[0] for gold, allowed in asked]
    texts = [[r.passage.text for r in row] for row in retrieved]
    spans = reader.read_many([gold.question for gold, _ in asked], texts, n_best=settings.SPAN_CANDIDATES)
    return [(gold, row, found) for (gold, _), row, found in zip(asked, retrieved, spans, strict=True)]


def exact(read: Sequence[Read], calibration: Calibration) -> float:
    """Return the share of answerable questions whose best answer is right."""
    rows = []
    for gold, row, spans in read:
        best = answers(spans, row, calibration=calibration, n_best=1)
        if gold.answers:
            rows.append(metrics.exact_match(best[0].text if best else None, gold.answers))
    return float(np.mean(rows))


def fit_probability(read: Sequence[Read], calibration: Calibration) -> Calibration:
    """Fit the logistic model of "the best answer is right" on score and margin, by Newton's method."""
    features, right = [], []
    for gold, row, spans in read:
        found = answers(spans, row, calibration=calibration, n_best=2)
        if not found:
            continue
        margin = found[0].score - found[1].score if len(found) > 1 else calibration.margin_cap
        features.append([found[0].score, min(margin, calibration.margin_cap), 1.0])
        right.append(bool(gold.answers) and metrics.exact_match(found[0].text, gold.answers) == 1.0)
    x, y = np.array(features), np.array(right, dtype=float)
    weights = np.zeros(3)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(3)
        weights += np.linalg.solve(hessian, x.T @ (y - p))
    return replace(
        calibration,
        score_coefficient=round(float(weights[0]), 4),
        margin_coefficient=round(float(weights[1]), 4),
        intercept=round(float(weights[2]), 4),
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


def fit_reader(squad: Path, *, name: str, count: int, seed: int) -> None:
    """Fit on one half of the questions, report on the other, write the registry."""
    reader = load_reader(name)
    with held_out_index(squad) as (corpus, _, retriever, others):
        chosen = random.Random(seed).sample(corpus.questions, min(count, len(corpus.questions)))
        asked: list[tuple[GoldQuestion, np.ndarray | None]] = []
        for number, question in enumerate(chosen):
            if number % 5 < 3:
                asked.append((GoldQuestion(question.text, (question.answer,), question.paragraph), None))
            else:
                asked.append((GoldQuestion(question.text, ()), others[corpus.article_of[question.paragraph]]))
        read = read_all(retriever, reader, asked)
    fit, test = read[::2], read[1::2]
    start = Calibration()
    grid = [
        replace(start, retrieval_weight=r, support_weight=s)
        for r, s in product((0.0, 0.5, 1.0, 1.5, 2.0, 3.0), (0.0, 0.5, 1.0))
    ]
    scored = [(exact(fit, c), c) for c in grid]
    for value, c in scored:
        print(f"retrieval_weight {c.retrieval_weight} support_weight {c.support_weight} EM {value:.4f}")
    best = fit_probability(fit, max(scored, key=lambda item: item[0])[1])
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
        "auroc_right": metrics.auroc(probabilities, right),
        "auroc_answerable": metrics.auroc(probabilities, answerable),
        "ece": metrics.expected_calibration_error(probabilities, right),
        "answered": float(np.mean(kept[answerable])),
        "refused": float(np.mean(~kept[~answerable])),
    }
    print(json.dumps({"calibration": asdict(best), **{k: round(v, 4) for k, v in figures.items()}}, indent=2))
    assert math.isfinite(best.intercept)
    entries = json.loads(REGISTRY.read_text(encoding="utf-8"))
    next(e for e in entries if e["name"] == find(name).name)["calibration"] = asdict(best)
    REGISTRY.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Run a fit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fusion", "reader"])
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file")
    parser.add_argument("--reader", default=settings.DEFAULT_READER)
    parser.add_argument("--count", type=int, default=2500, help="questions of the held-out articles")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    if options.what == "fusion":
        fit_fusion(options.squad, count=options.count, seed=options.seed)
    else:
        fit_reader(options.squad, name=options.reader, count=options.count, seed=options.seed)


if __name__ == "__main__":
    main()
