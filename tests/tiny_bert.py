"""A Hugging Face folder of a BERT with two layers: config.json, vocab.txt, model.safetensors, written by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from small_networks import VOCABULARY, write_vocabulary

HIDDEN, INNER, LAYERS, POSITIONS = 32, 64, 2, 512
CONFIG = {
    "architectures": ["BertForQuestionAnswering"],
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights by their names."""
    found: dict[str, tuple[int, ...]] = {}
    for name, rows in (("word", len(VOCABULARY)), ("position", POSITIONS), ("token_type", 2)):
        found[f"bert.embeddings.{name}_embeddings.weight"] = (rows, HIDDEN)
    linear = {"qa_outputs": (2, HIDDEN)}
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(LAYERS):
        prefix = f"bert.encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear[f"{prefix}.attention.{name}"] = (HIDDEN, HIDDEN)
        linear[f"{prefix}.intermediate.dense"] = (INNER, HIDDEN)
        linear[f"{prefix}.output.dense"] = (HIDDEN, INNER)
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
    for name, shape in linear.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        found |= {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}
    return found


def write_folder(folder: Path, *, seed: int = 0) -> Path:
    """Write the folder; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    header, pieces, at = {}, [], 0
    for name, shape in shapes().items():
        data = random.normal(scale=0.3, size=shape).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        pieces.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    write_vocabulary(folder)
    return folder
