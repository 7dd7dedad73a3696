"""Hard negatives from odqa's own retriever: for each training question, high-ranked paragraphs without its answer.

Dense search with the bundled encoder and BM25, taken in turn. The file serves both training runs (`--negatives`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import data
from odqa import settings
from odqa.retriever.encoder import load_encoder

BLOCK = 2048  # questions scored at once


def dense_negatives(corpus: data.Corpus, *, per_question: int, depth: int = 24) -> list[list[int]]:
    """Return, for each question, the nearest paragraphs that are not its own and do not hold its answer."""
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    passages = encoder.encode_passages(corpus.paragraphs, titles=[""] * len(corpus.paragraphs))
    lowered = [p.lower() for p in corpus.paragraphs]
    depth = min(depth, len(corpus.paragraphs) - 1)
    negatives = []
    for at in range(0, len(corpus.questions), BLOCK):
        block = corpus.questions[at : at + BLOCK]
        scores = encoder.encode_questions([q.text for q in block]) @ passages.T
        nearest = np.argpartition(-scores, depth, axis=1)[:, :depth]
        for question, row, score in zip(block, nearest, scores, strict=True):
            ranked = row[np.argsort(-score[row])]
            answer = question.answer.lower()
            good = [int(p) for p in ranked if p != question.paragraph and answer not in lowered[p]]
            negatives.append(good[:per_question])
    return negatives


def main() -> None:
    """Write the negatives of all training questions, in their order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--limit-articles", type=int, help="use only the first articles, to try the recipe")
    parser.add_argument("--per-question", type=int, default=4, help="from each of the two searches")
    options = parser.parse_args()

    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    dense = dense_negatives(corpus, per_question=options.per_question)
    words = data.bm25_negatives(corpus, per_question=options.per_question)
    both = [list(dict.fromkeys([*a, *b])) for a, b in zip(dense, words, strict=True)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(both), encoding="utf-8")
    print(f"{len(both)} questions, {sum(map(len, both)) / max(1, len(both)):.1f} negatives each")


if __name__ == "__main__":
    main()
