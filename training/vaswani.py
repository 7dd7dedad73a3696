"""Another domain: nDCG@10 of the bundled encoder and of the untuned base model on a test collection in BEIR form.

Dense only, exact search. The base model is run as its makers do: float32, mean over tokens, cosine.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import loop
from network import base_bert
from odqa import metrics, settings
from odqa.retriever.encoder import load_encoder

Embed = Callable[[Sequence[str]], np.ndarray]


def base_vectors(texts: Sequence[str], *, tokens: int = 256, batch: int = 32) -> np.ndarray:
    """Mean over real tokens of the base model, length 1: float32 [len(texts), 384]."""
    bert, tokenizer = base_bert(0.0).eval(), loop.plain_tokenizer()
    rows = [[loop.CLS, *e.ids[: tokens - 2], loop.SEP] for e in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = np.zeros((len(rows), bert.config.hidden_size), np.float32)
    with torch.no_grad():
        for at in range(0, len(order), batch):
            ids = loop.pad([rows[i] for i in order[at : at + batch]])
            mask = (ids != 0).long()
            hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out[order[at : at + batch]] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return out


def ndcg(passages: np.ndarray, questions: np.ndarray, ids: list[str], gains: list[dict[str, float]]) -> float:
    """Mean nDCG@10 of the exact ranking by inner product."""
    ranked = np.argsort(-(questions @ passages.T), axis=1, kind="stable")[:, :10]
    return float(
        np.mean([metrics.ndcg_at_k([ids[i] for i in row], gain, k=10) for row, gain in zip(ranked, gains, strict=True)])
    )


def main() -> None:
    """Measure both encoders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="corpus.jsonl.gz, queries.jsonl, qrels.tsv")
    options = parser.parse_args()
    with gzip.open(options.folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        corpus = [json.loads(line) for line in file]
    judged: dict[str, dict[str, float]] = defaultdict(dict)
    with (options.folder / "qrels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if float(row["score"]) > 0:
                judged[row["query-id"]][row["corpus-id"]] = float(row["score"])
    lines = (options.folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [q for q in map(json.loads, lines) if q["_id"] in judged]
    texts = [" ".join(filter(None, (d.get("title", ""), d["text"]))) for d in corpus]
    ids, gains, questions = [d["_id"] for d in corpus], [judged[q["_id"]] for q in asked], [q["text"] for q in asked]
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    figures = {
        "bundled": ndcg(
            encoder.encode_passages(texts, titles=[""] * len(texts)), encoder.encode_questions(questions), ids, gains
        ),
        "base": ndcg(base_vectors(texts), base_vectors(questions), ids, gains),
    }
    print(json.dumps({"questions": len(asked), "passages": len(ids), **{k: round(v, 4) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
