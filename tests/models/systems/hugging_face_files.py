"""Writes networks in the form of a Hugging Face folder: config.json, vocab.txt and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from architectures import Architecture, Weights
from numpy.typing import NDArray


def write_hugging_face_folder(
    folder: Path, architecture: Architecture, weights: Weights, *, vocabulary: Sequence[str], lower_case: bool
) -> None:
    """Write a question-answering model as such folders are published, with a pooler and a buffer that nothing uses."""
    a = architecture
    folder.mkdir(parents=True)
    config = {
        "architectures": ["BertForQuestionAnswering"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": a.hidden,
        "initializer_range": 0.02,
        "intermediate_size": a.intermediate,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": a.positions,
        "model_type": "bert",
        "num_attention_heads": a.heads,
        "num_hidden_layers": a.layers,
        "pad_token_id": 0,
        "type_vocab_size": a.types,
        "vocab_size": a.vocabulary,
    }
    if a.pruned_heads:
        config["pruned_heads"] = {str(layer): list(heads) for layer, heads in a.pruned_heads.items()}
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer_config.json", {"do_lower_case": lower_case, "model_max_length": a.positions})
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    unused = {
        "bert.embeddings.position_ids": np.arange(a.positions)[None, :],
        "bert.pooler.dense.weight": np.eye(a.hidden, dtype=np.float32),
        "bert.pooler.dense.bias": np.zeros(a.hidden, np.float32),
    }
    write_safetensors(folder / "model.safetensors", {**weights, **unused})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, NDArray[np.generic]]) -> None:
    """Write a safetensors file: length of the header (8 bytes, little-endian), header (JSON), bytes of the tensors."""
    kinds = {"float32": "F32", "int64": "I64"}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": kinds[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [at, at + values.nbytes],
        }
        at += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            np.ascontiguousarray(values).tofile(file)
