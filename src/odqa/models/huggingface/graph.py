"""BERT -> an OpenVINO network, operation by operation.

The patterns are those that OpenVINO's CPU plugin fuses: a dense layer is one product with a constant and an addition,
attention is product, scale, mask, softmax, product (one kernel for all heads), layer norm is MVN with factor and
addition. Batch and length are dynamic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from odqa.models.huggingface.bert import Bert, Floats, Layer, Linear, Norm

if TYPE_CHECKING:
    import openvino

Node: TypeAlias = Any  # openvino.Node; OpenVINO has no types
MASKED = -65504.0  # added to the score of padding: exp of it is 0 in float32, and it is a float16
ENCODER_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
READER_INPUTS = ENCODER_INPUTS[:3]
ENCODER_OUTPUTS = ("embedding",)
READER_OUTPUTS = ("output_s", "output_e")


@dataclass(frozen=True, slots=True)
class Dense:
    """A step behind the pooling of an encoder: a dense layer and an activation of `ACTIVATIONS` or "identity"."""

    linear: Linear
    activation: str


@dataclass(frozen=True, slots=True)
class Normalise:
    """A step behind the pooling of an encoder: vectors are brought to length 1."""


@dataclass(frozen=True, slots=True)
class VectorHead:
    """Hidden states -> one vector: their mean over real tokens or that of [CLS], then some steps."""

    pooling: Literal["mean", "cls"] = "mean"
    steps: tuple[Dense | Normalise, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanHead:
    """Hidden states -> start and end logits: a dense layer with two outputs."""

    linear: Linear


def build(bert: Bert, head: VectorHead | SpanHead) -> openvino.Model:
    """Build the network: inputs int32 [batch, tokens], names as in `ENCODER_INPUTS` or `READER_INPUTS`.

    An encoder's output `embedding` is float32 [batch, width], a reader's `output_s` and `output_e` are float32
    [batch, tokens]. The same weights always give the same names and order of operations, and so the same file.
    """
    return _Builder().network(bert, head)


def save(network: openvino.Model, path: Path, *, halves: bool) -> None:
    """Write a network as .xml and .bin, with its weights as float16 if `halves`."""
    import openvino

    openvino.save_model(network, path, compress_to_fp16=halves)


class _Builder:
    """OpenVINO's operations, imported when the first network is built."""

    def __init__(self) -> None:
        import openvino.opset13

        self._op = openvino.opset13
        self._model = openvino.Model
        self._activations = {
            "identity": lambda x: x,
            "gelu": lambda x: self._op.gelu(x, "erf"),
            "gelu_tanh": lambda x: self._op.gelu(x, "tanh"),
            "relu": self._op.relu,
            "silu": self._op.swish,
            "tanh": self._op.tanh,
        }

    def network(self, bert: Bert, head: VectorHead | SpanHead) -> openvino.Model:
        names = READER_INPUTS if isinstance(head, SpanHead) else ENCODER_INPUTS
        given = {name: self._op.parameter([-1, -1], np.int32, name=name) for name in names}
        for name, parameter in given.items():
            parameter.output(0).get_tensor().set_names({name})
        states = self._embeddings(bert, given)
        real = self._op.convert(given["attention_mask"], np.float32)
        mask = self._op.unsqueeze((self._number(1) - real) * self._number(MASKED), self._places(1, 2))
        for layer in bert.layers:
            states = self._layer(states, mask, layer, bert)
        if isinstance(head, SpanHead):
            outputs = self._spans(states, head)
        else:
            outputs = {ENCODER_OUTPUTS[0]: self._vector(states, real, head)}
        results = []
        for name, value in outputs.items():
            value.output(0).get_tensor().set_names({name})
            results.append(self._op.result(value, name=f"{name}/result"))
        return self._named(self._model(results, list(given.values()), "bert"))

    def _named(self, network: openvino.Model) -> openvino.Model:
        """Number the operations anew: OpenVINO's own numbers go on from one network of a process to the next."""
        for number, node in enumerate(network.get_ordered_ops()):
            if node.get_type_name() not in ("Parameter", "Result"):
                node.set_friendly_name(f"{node.get_type_name()}_{number}")
        return network

    def _number(self, value: float) -> Node:
        return self._op.constant(np.float32(value))

    def _places(self, *values: int) -> Node:
        return self._op.constant(np.array(values, np.int64))

    def _embeddings(self, bert: Bert, given: dict[str, Node]) -> Node:
        first, step = self._op.constant(np.int64(0)), self._op.constant(np.int64(1))
        words = self._op.gather(self._op.constant(bert.words), given["input_ids"], first)
        types = self._op.gather(self._op.constant(bert.types), given["token_type_ids"], first)
        if "position_ids" in given:
            places = given["position_ids"]
        else:
            length = self._op.gather(self._op.shape_of(given["input_ids"]), step, first)
            places = self._op.range(first, length, step, "i64")
        # A gather, not a slice, which reads beyond the table where the input is longer; a gather gives zeros there.
        positions = self._op.gather(self._op.constant(bert.positions), places, first)
        return self._normed((words + types) + positions, bert.norm, bert.epsilon)

    def _normed(self, states: Node, norm: Norm, epsilon: float) -> Node:
        scaled = self._op.mvn(states, self._places(-1), True, epsilon, "INSIDE_SQRT")
        return scaled * self._op.constant(norm.factor) + self._op.constant(norm.added)

    def _linear(self, states: Node, linear: Linear) -> Node:
        product = self._op.matmul(states, self._op.constant(linear.weight), False, True)
        return product + self._op.constant(linear.bias)

    def _layer(self, states: Node, mask: Node, layer: Layer, bert: Bert) -> Node:
        attended = (
            self._linear(self._attention(states, mask, layer, bert.head_size), layer.output)
            if layer.heads
            else self._op.constant(layer.output.bias)
        )
        states = self._normed(attended + states, layer.attention_norm, bert.epsilon)
        if layer.widen.weight.shape[0]:
            wide = self._activations[bert.activation](self._linear(states, layer.widen))
            fed = self._linear(wide, layer.narrow)
        else:
            fed = self._op.constant(layer.narrow.bias)
        return self._normed(fed + states, layer.norm, bert.epsilon)

    def _attention(self, states: Node, mask: Node, layer: Layer, head_size: int) -> Node:
        query, key, value = (
            self._op.transpose(
                self._op.reshape(
                    self._linear(states, part), self._places(0, 0, layer.heads, len(part.bias) // layer.heads), True
                ),
                self._places(0, 2, 1, 3),
            )
            for part in (layer.query, layer.key, layer.value)
        )
        scores = self._op.matmul(query, key, False, True) * self._number(head_size**-0.5) + mask
        context = self._op.matmul(self._op.softmax(scores, -1), value, False, False)
        together = self._op.transpose(context, self._places(0, 2, 1, 3))
        return self._op.reshape(together, self._places(0, 0, len(layer.value.bias)), True)

    def _spans(self, states: Node, head: SpanHead) -> dict[str, Node]:
        """Two products with one output each: cheap, and nothing has to be cut apart."""
        return {
            name: self._op.squeeze(self._linear(states, _row(head.linear, row)), self._places(-1))
            for row, name in enumerate(READER_OUTPUTS)
        }

    def _vector(self, states: Node, real: Node, head: VectorHead) -> Node:
        if head.pooling == "cls":
            vector = self._op.gather(states, self._op.constant(np.int64(0)), self._op.constant(np.int64(1)))
        else:
            weights = self._op.unsqueeze(real, self._places(-1))
            total = self._op.reduce_sum(states * weights, self._places(1), False)
            count = self._op.maximum(self._op.reduce_sum(weights, self._places(1), False), self._number(1))
            vector = total / count
        for step in head.steps:
            if isinstance(step, Dense):
                vector = self._activations[step.activation](self._linear(vector, step.linear))
            else:
                vector = self._op.normalize_l2(vector, self._places(1), 1e-24, "max")
        return vector


def _row(linear: Linear, row: int) -> Linear:
    weight: Floats = np.ascontiguousarray(linear.weight[row : row + 1])
    return Linear(weight, linear.bias[row : row + 1].copy())


def width(bert: Bert, steps: Sequence[Dense | Normalise]) -> int:
    """Return the width of the vectors behind some steps."""
    dense = [step.linear.weight.shape[0] for step in steps if isinstance(step, Dense)]
    return dense[-1] if dense else bert.hidden_size
