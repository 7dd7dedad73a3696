"""Writes networks in the form of the Open Model Zoo's files: OpenVINO IR with its names, types and static shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import openvino.opset13 as op
from architectures import Architecture, Weights
from quantisation import LEVELS, Int8, Ranges

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
Node = Any  # OpenVINO's operations have no types


@dataclass(frozen=True)
class ZooForm:
    """How a file is written.

    Attributes:
        shape: the static shape of every input.
        inputs: names in order; without position_ids the positions count from 0.
        outputs: names in order.
        names: "tensors" as files have them today; "layers": only the layers are named, as in old files; "numbers": the
            layers are called 0, 1, 2; "none": whatever OpenVINO makes up.
        holds: what constants in the file hold, so that it cannot be changed: nothing, the batch of 1, the whole shape.
        half: whether weights are stored as float16.
    """

    shape: tuple[int, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    names: Literal["tensors", "layers", "numbers", "none"] = "tensors"
    holds: Literal["nothing", "batch", "shape"] = "nothing"
    half: bool = False
    numbers: Mapping[str, Int8] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)


def write_zoo_file(path: Path, architecture: Architecture, weights: Weights, form: ZooForm) -> None:
    """Write `path` (.xml) and its .bin; `form.numbers` and `form.ranges` make it an int8 network."""
    graph = _Graph(architecture, weights, form)
    given = {name: op.parameter(list(form.shape), np.int32) for name in form.inputs}
    outputs = graph.vector(given) if architecture.vector_width else graph.logits(given)
    results = [op.result(node) for node in outputs]
    for at, (name, node) in enumerate([*given.items(), *zip(form.outputs, outputs, strict=True)]):
        if form.names == "tensors":
            node.output(0).get_tensor().set_names({name})
        if form.names != "none":
            node.set_friendly_name(str(at) if form.names == "numbers" else name)
    openvino.save_model(openvino.Model(results, list(given.values()), "bert"), path, compress_to_fp16=form.half)
    if form.names in ("layers", "numbers"):  # files of before 2022 name layers, not tensors
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r' names="[^"]*"', "", text), encoding="utf-8")


class _Graph:
    """Builds the operations of one network."""

    def __init__(self, architecture: Architecture, weights: Weights, form: ZooForm) -> None:
        self.architecture, self.weights, self.form = architecture, weights, form

    def logits(self, given: dict[str, Node]) -> list[Node]:
        x = self.hidden(given)
        if self.architecture.embedding_width:
            x = self.linear(self.levels("out", x), "bert.encoder.embedding_hidden_mapping_out")
        both = op.split(self.linear(self.levels("head", x), "qa_outputs"), op.constant(np.int64(2)), 2)
        # A node of its own for each output: a name belongs to a node, and Split is one with two outputs.
        return [op.squeeze(both.output(at), op.constant(np.array([2], np.int64))) for at in (0, 1)]

    def vector(self, given: dict[str, Node]) -> list[Node]:
        x = self.hidden(given)
        tokens = op.constant(np.array([1], np.int64))
        real = op.unsqueeze(op.convert(given["attention_mask"], np.float32), op.constant(np.int64(2)))
        mean = op.reduce_sum(x * real, tokens, False) / op.reduce_sum(real, tokens, False)
        return [self.linear(self.levels("head", mean), "embedding")]

    def hidden(self, given: dict[str, Node]) -> Node:
        ids, rows = given["input_ids"], op.constant(np.int64(0))
        x = op.gather(self.matrix("bert.embeddings.word_embeddings.weight"), ids, rows)
        x = x + op.gather(self.matrix("bert.embeddings.token_type_embeddings.weight"), given["token_type_ids"], rows)
        x = self.norm(x + self.positions(given), "bert.embeddings.LayerNorm")
        if self.architecture.embedding_width:
            x = self.linear(self.levels("in", x), "bert.encoder.embedding_hidden_mapping_in")
        # 0 on real tokens and -10,000 on padding, [batch, 1, 1, tokens], as these networks were exported.
        mask = op.convert(op.unsqueeze(given["attention_mask"], op.constant(np.array([1, 2], np.int64))), np.float32)
        mask = (op.constant(np.float32(1)) - mask) * op.constant(np.float32(-10000))
        for layer in range(self.architecture.layers):
            x = self._layer(x, mask, layer)
        return x

    def positions(self, given: dict[str, Node]) -> Node:
        table, rows = self.matrix("bert.embeddings.position_embeddings.weight"), op.constant(np.int64(0))
        if "position_ids" in given:
            return op.gather(table, given["position_ids"], rows)
        if self.form.holds == "shape":  # folded into one constant, as an export at a fixed length leaves them
            return op.gather(table, op.constant(np.arange(self.form.shape[1])[None, :]), rows)
        tokens = op.gather(op.shape_of(given["input_ids"]), op.constant(np.int64(1)), rows)
        return op.gather(table, op.range(op.constant(np.int64(0)), tokens, op.constant(np.int64(1)), "i64"), rows)

    def _layer(self, x: Node, mask: Node, layer: int) -> Node:
        prefix, a = f"bert.encoder.layer.{layer}", self.architecture
        seen = self.levels(f"{layer}.x", x)
        query, key, value = (
            self.by_heads(
                self.levels(f"{layer}.{name}", self.linear(seen, f"{prefix}.attention.self.{name}")),
                a.kept_heads(layer),
            )
            for name in ("query", "key", "value")
        )
        scores = op.matmul(query, key, False, True) / op.constant(np.float32(a.head_width**0.5)) + mask
        shares = self.levels(f"{layer}.shares", op.softmax(scores, 3))
        mixed = op.transpose(op.matmul(shares, value, False, False), op.constant(np.array([0, 2, 1, 3], np.int64)))
        context = self.levels(f"{layer}.context", self.reshaped(mixed, [a.kept_heads(layer) * a.head_width]))
        x = self.norm(
            x + self.linear(context, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm"
        )
        inner = op.gelu(self.linear(self.levels(f"{layer}.middle", x), f"{prefix}.intermediate.dense"), "erf")
        outer = self.linear(self.levels(f"{layer}.inner", inner), f"{prefix}.output.dense")
        return self.norm(x + outer, f"{prefix}.output.LayerNorm")

    def by_heads(self, x: Node, heads: int) -> Node:
        """Turn [batch, tokens, width] into [batch, heads, tokens, head width]."""
        parted = self.reshaped(x, [heads, self.architecture.head_width])
        return op.transpose(parted, op.constant(np.array([0, 2, 1, 3], np.int64)))

    def reshaped(self, x: Node, rest: list[int]) -> Node:
        """Give the dimensions behind batch and tokens; 0 takes a dimension over, so that it stays free."""
        first = {"nothing": [0, 0], "batch": [1, -1], "shape": list(self.form.shape)}[self.form.holds]
        return op.reshape(x, op.constant(np.array([*first, *rest], np.int64)), True)

    def matrix(self, name: str) -> Node:
        """A matrix as a constant; in an int8 network as int8 numbers times the scale of each row."""
        if name not in self.form.numbers:
            return op.constant(self.weights[name])
        numbers, scale = self.form.numbers[name]
        return op.convert(op.constant(numbers), np.float32) * op.constant(scale)

    def linear(self, x: Node, name: str) -> Node:
        product = op.matmul(x, self.matrix(f"{name}.weight"), False, True)
        return product + op.constant(self.weights[f"{name}.bias"])

    def norm(self, x: Node, name: str) -> Node:
        centred = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-12, "inside_sqrt")
        return centred * op.constant(self.weights[f"{name}.weight"]) + op.constant(self.weights[f"{name}.bias"])

    def levels(self, name: str, x: Node) -> Node:
        """Round to 256 levels in an int8 network; leave alone in another."""
        if name not in self.form.ranges:
            return x
        low, high = (op.constant(np.float32(bound)) for bound in self.form.ranges[name])
        return op.fake_quantize(x, low, high, low, high, LEVELS)
