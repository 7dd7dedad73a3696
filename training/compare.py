"""What int8 costs: the bundled network against the float32 network that it was made from, on the held-out articles."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import data
from export import INPUTS, MODELS, NAMES
from odqa import metrics
from odqa.models.registry import ModelFile, ModelSpec, find
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder


def float_spec(kind: str, run: Path, place: Path) -> ModelSpec:
    """Put the float32 IR of a run where `odqa` looks for models that are not bundled, and describe it."""
    spec = find(NAMES[kind])
    folder = place / spec.name
    folder.mkdir()
    sources = {"network": run / f"{kind}-fp32.xml", "weights": run / f"{kind}-fp32.bin"}
    sources["vocabulary"] = MODELS / "bundled" / "vocab.txt"
    files = []
    for role, source in sources.items():
        shutil.copyfile(source, folder / source.name)
        checksum = "sha256:" + hashlib.sha256(source.read_bytes()).hexdigest()
        files.append(ModelFile(source.name, role, None, source.stat().st_size, checksum))
    return replace(spec, source="pull", files=tuple(files))


def recall(encoder: DenseEncoder, corpus: data.Corpus, questions: list[data.Question]) -> dict[str, float]:
    """Dense recall over the paragraphs of the held-out articles."""
    passages = encoder.encode_passages(corpus.paragraphs, titles=[""] * len(corpus.paragraphs))
    scores = encoder.encode_questions([q.text for q in questions]) @ passages.T
    own = scores[np.arange(len(questions)), [q.paragraph for q in questions]]
    ranks = (scores > own[:, None]).sum(axis=1) + 1
    return {f"recall@{k}": round(float((ranks <= k).mean()), 4) for k in (1, 5, 20)}


def reading(reader: ExtractiveReader, corpus: data.Corpus, questions: list[data.Question]) -> dict[str, float]:
    """EM and F1 with the gold paragraph given."""
    texts = [corpus.paragraphs[q.paragraph] for q in questions]
    found = reader.read_many([q.text for q in questions], [[text] for text in texts], n_best=1)
    spans = [one[0].span.of(text) if one else None for one, text in zip(found, texts, strict=True)]
    golds = [[q.answer] for q in questions]
    return {
        "em": round(float(np.mean([metrics.exact_match(s, g) for s, g in zip(spans, golds, strict=True)])), 4),
        "f1": round(float(np.mean([metrics.f1(s, g) for s, g in zip(spans, golds, strict=True)])), 4),
    }


def main() -> None:
    """Compare one network from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(INPUTS))
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run, with the float32 IR")
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    corpus = data.load_squad(options.squad, held_out=True)
    questions = data.sampled(corpus, count=options.count, seed=options.seed)
    with tempfile.TemporaryDirectory() as place:
        specs = {"int8": find(NAMES[options.kind]), "float32": float_spec(options.kind, options.run, Path(place))}
        environment = {**os.environ, "ODQA_MODELS_DIR": place}
        figures = {}
        for name, spec in specs.items():
            if options.kind == "encoder":
                figures[name] = recall(DenseEncoder(spec, environment=environment), corpus, questions)
            else:
                figures[name] = reading(ExtractiveReader(spec, environment=environment), corpus, questions)
            print(f"{name:<8}", json.dumps(figures[name]), flush=True)
    (options.run / "comparison.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
