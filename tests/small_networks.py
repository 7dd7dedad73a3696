"""Small vocabularies and networks for tests: pure functions of their input, with the names of the real ones.

The encoder's vector is the mean over real tokens of table[id] * (1 + position / 1000) + type / 10; without
position_ids the factor is 1. The reader's logits are those of the token: table[id], plus 1 on tokens of type 1.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as op
from numpy.typing import NDArray

from odqa.models.registry import ModelFile, ModelSpec

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = [*string.ascii_lowercase, *string.ascii_uppercase, *string.digits]
WORDS = ["the", "cat", "sat", "on", "mat", "who", "where", "paris", "tower", "cafe", "2000", "中"]
VOCABULARY = [*SPECIAL, *string.punctuation, *LETTERS, *[f"##{letter}" for letter in LETTERS], *WORDS]
IDS = {piece: i for i, piece in enumerate(VOCABULARY)}
WIDTH = 6
ALL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def table(seed: int, width: int) -> NDArray[np.float32]:
    """Return a fixed table float32 [vocabulary, width]."""
    return np.random.default_rng(seed).normal(size=(len(VOCABULARY), width)).astype(np.float32)


def write_vocabulary(folder: Path) -> Path:
    path = folder / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return path


def _parameters(inputs: Sequence[str], shape: Sequence[int], kind: type, *, named: bool) -> dict[str, Any]:
    found = {}
    for name in inputs:
        found[name] = op.parameter(list(shape), kind, name=name if named else None)
        if named:
            found[name].output(0).get_tensor().set_names({name})
    return found


def _save(path: Path, parameters: dict[str, Any], outputs: dict[str, Any], *, named: bool) -> None:
    results = []
    for name, node in outputs.items():
        if named:
            node.output(0).get_tensor().set_names({name})
        results.append(op.result(node))
    openvino.save_model(openvino.Model(results, list(parameters.values()), "small"), path, compress_to_fp16=False)


def write_encoder(
    path: Path,
    *,
    inputs: Sequence[str] = ALL_INPUTS,
    shape: Sequence[int] = (-1, -1),
    kind: type = np.int32,
    named: bool = True,
    baked: bool = False,
) -> None:
    """Write an encoder; `baked` hides the shape in a constant, so that it cannot be changed."""
    given = _parameters(inputs, shape, kind, named=named)
    values = op.gather(op.constant(table(1, WIDTH)), given["input_ids"], op.constant(np.int32(0)))
    if baked:
        values = op.reshape(values, op.constant(np.array([*shape, WIDTH], np.int64)), False)
    last = op.constant(np.int32(2))
    if "position_ids" in given:
        factor = op.convert(given["position_ids"], np.float32) / op.constant(np.float32(1000)) + op.constant(
            np.float32(1)
        )
        values = values * op.unsqueeze(factor, last)
    if "token_type_ids" in given:
        values = values + op.unsqueeze(
            op.convert(given["token_type_ids"], np.float32) / op.constant(np.float32(10)), last
        )
    mask = op.unsqueeze(op.convert(given["attention_mask"], np.float32), last)
    tokens = op.constant(np.array([1], np.int32))
    mean = op.reduce_sum(values * mask, tokens, False) / op.reduce_sum(mask, tokens, False)
    _save(path, given, {"embedding": mean}, named=named)


def expected_vector(ids: Sequence[int], *, positions: bool = True) -> NDArray[np.float32]:
    """Return what the encoder of `write_encoder` gives for one row with token types 0."""
    factor = 1 + np.arange(len(ids))[:, None] / 1000 if positions else 1
    return np.asarray((table(1, WIDTH)[list(ids)] * factor).mean(0), dtype=np.float32)


def reader_tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return start and end logits by id, float32 [vocabulary] each."""
    both = table(2, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def write_reader(
    path: Path,
    *,
    inputs: Sequence[str] = ALL_INPUTS[:3],
    shape: Sequence[int] = (-1, -1),
    kind: type = np.int32,
    named: bool = True,
    baked: bool = False,
) -> None:
    given = _parameters(inputs, shape, kind, named=named)
    outputs = {}
    for name, values in zip(("output_s", "output_e"), reader_tables(), strict=True):
        logits = op.gather(op.constant(values), given["input_ids"], op.constant(np.int32(0)))
        if baked:
            logits = op.reshape(logits, op.constant(np.array(shape, np.int64)), False)
        outputs[name] = logits + op.convert(given["token_type_ids"], np.float32)
    _save(path, given, outputs, named=named)


def expected_logits(ids: Sequence[int], types: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    start, end = reader_tables()
    return start[list(ids)] + np.float32(types), end[list(ids)] + np.float32(types)


def model_file(path: Path, role: str) -> ModelFile:
    data = path.read_bytes()
    return ModelFile(path.name, role, None, len(data), "sha256:" + hashlib.sha256(data).hexdigest())  # type: ignore[arg-type]


def _spec(root: Path, name: str, **more: object) -> ModelSpec:
    folder = root / name
    files = (
        model_file(folder / "network.xml", "network"),
        model_file(folder / "network.bin", "weights"),
        model_file(folder / "vocab.txt", "vocabulary"),
    )
    return ModelSpec(
        name=name, revision="1", description="a test's", licence="Apache-2.0", source="pull", architecture="table",
        files=files, lower_case=True, **more,
    )  # fmt: skip


def encoder_spec(root: Path, **options: object) -> ModelSpec:
    """Write an encoder into `root`, to be found with ODQA_MODELS_DIR, and return its description."""
    (root / "small-encoder").mkdir(parents=True)
    write_encoder(root / "small-encoder" / "network.xml", **options)
    write_vocabulary(root / "small-encoder")
    return _spec(
        root, "small-encoder", task="encode", question_tokens=8, passage_tokens=48, width=WIDTH,
        inputs=tuple(options.get("inputs", ALL_INPUTS)), outputs=("embedding",),
    )  # fmt: skip


def reader_spec(root: Path, **options: object) -> ModelSpec:
    """Write a reader into `root`, to be found with ODQA_MODELS_DIR, and return its description."""
    (root / "small-reader").mkdir(parents=True)
    write_reader(root / "small-reader" / "network.xml", **options)
    write_vocabulary(root / "small-reader")
    return _spec(
        root, "small-reader", task="read", question_tokens=8, window_tokens=160,
        inputs=tuple(options.get("inputs", ALL_INPUTS[:3])), outputs=("output_s", "output_e"),
    )  # fmt: skip


def with_file(spec: ModelSpec, role: str, **changes: object) -> ModelSpec:
    files = tuple(replace(file, **changes) if file.role == role else file for file in spec.files)
    return replace(spec, files=files)
