"""The weights of a bundled int8 network, read out of its IR: for the same network in other libraries.

NNCF leaves int8 weights with a scale for each output row, a factor in front of some products that smooths the
activations (its inverse is in the weights), and the range of the 256 levels that activations are rounded to. Where
`training/attention.py` moved that factor to the values of an attention, it is part of their weights here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from odqa.models.registry import BUNDLED

Array = NDArray[np.float32]
SMOOTHING = "nncf_smooth_quant"
LEVELS = 256


@dataclass(frozen=True)
class Levels:
    """Where the 256 levels lie: `scale` apart, with `zero` (0 to 255) standing for 0.0."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Linear:
    """A linear layer: `(x * smooth, rounded to levels) @ (numbers * scale).T + bias`, then rounded to `after`.

    `numbers` int8 [outputs, inputs], `scale` float32 [outputs], `smooth` float32 [inputs], `bias` float32 [outputs].
    """

    numbers: NDArray[np.int8]
    scale: Array
    smooth: Array
    levels: Levels
    bias: Array | None
    after: Levels | None

    @property
    def weight(self) -> Array:
        """The weights in float32 [outputs, inputs], as they were before smoothing."""
        return np.asarray(self.numbers * self.scale[:, None] * self.smooth[None], dtype=np.float32)


@dataclass(frozen=True)
class BertWeights:
    """All weights of a network, by the names of the modules they come from, such as "encoder.layer.0.output.dense".

    `tables` are the embeddings float32 [rows, hidden], `norms` pairs of weight and bias, float32 [hidden]. `shares` are
    the levels that each layer's probabilities are rounded to, and what they are multiplied with then.
    """

    linear: Mapping[str, Linear]
    tables: Mapping[str, Array]
    norms: Mapping[str, tuple[Array, Array]]
    shares: Sequence[tuple[Levels, float]]
    heads: int
    epsilon: float

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(name.endswith("attention.self.query") for name in self.linear)

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        return self.tables["embeddings.word_embeddings"].shape[1]


def bundled_weights(kind: str) -> BertWeights:
    """Read the bundled "encoder" or "reader"."""
    return read_weights(BUNDLED / f"{kind}.xml")


def read_weights(path: Path) -> BertWeights:
    """Read a network as training/export.py writes it.

    Raises:
        ValueError: it holds no BERT of that form.
    """
    core = openvino.Core()
    ops = {op.get_friendly_name(): op for op in core.read_model(path).get_ordered_ops()}
    linear, tables, norms = {}, {}, {}
    for name, op in ops.items():
        module, _, what = name.removeprefix("__module.").removeprefix("bert.").partition("/")
        if what == "aten::linear/MatMul":
            linear[module] = _linear(core, op)
        elif what == "aten::embedding/Gather":
            tables[module] = _constant(core, op.input_value(0))
        elif what == "aten::layer_norm/MVN":
            scaled = _only(op, "Multiply")
            norms[module] = tuple(_constant(core, _other(node, up)).ravel() for node, up in _chain(scaled, op))
    attention = [op for op in ops.values() if op.get_type_name() == "Softmax"]
    centred = [op for op in ops.values() if op.get_type_name() == "MVN"]
    if not (linear and tables and norms and attention):
        raise ValueError(f"{path} is no network as training/export.py writes them: read its form into this file")
    shares = [_shares(core, _only(one, "FakeQuantize")) for one in attention]
    heads = attention[0].get_output_partial_shape(0)[1].get_length()
    return BertWeights(linear, tables, norms, shares, heads, centred[0].get_attributes()["eps"])


def _chain(scaled: Any, centred: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - OpenVINO's operations have no types
    return [(scaled, centred), (_only(scaled, "Add"), scaled)]


def _linear(core: openvino.Core, product: Any) -> Linear:  # noqa: ANN401 - as above
    levels = product.input_value(0).get_node()
    while levels.get_type_name() in ("Reshape", "Transpose"):  # a context is rounded before its heads stand together
        levels = levels.input_value(0).get_node()
    scaled = product.input_value(1).get_node()
    numbers = scaled.input_value(0).get_node().input_value(0).get_node().data
    before = levels.input_value(0).get_node()
    smooth = np.ones(numbers.shape[1], np.float32)
    if before.get_friendly_name().endswith(SMOOTHING):
        smooth = _constant(core, before.input_value(1)).ravel()
    added = _next(product, "Add")
    last = product if added is None else added
    moved = _next(last, "Multiply")
    factor = np.float32(1)
    if moved is not None and moved.get_friendly_name().endswith(SMOOTHING):
        factor, last = _constant(core, _other(moved, last)).ravel(), moved
    after = _next(last, "FakeQuantize")
    return Linear(
        numbers=np.array(numbers, dtype=np.int8),
        scale=_constant(core, scaled.input_value(1)).ravel() * factor,
        smooth=smooth,
        levels=_levels(core, levels),
        bias=None if added is None else _constant(core, _other(added, product)).ravel() * factor,
        after=None if after is None else _levels(core, after),
    )


def _levels(core: openvino.Core, op: Any) -> Levels:  # noqa: ANN401 - as above
    low, high, *out = (float(_constant(core, op.input_value(at)).item()) for at in (1, 2, 3, 4))
    if op.get_type_name() != "FakeQuantize" or op.get_attributes()["levels"] != LEVELS or out != [low, high]:
        raise ValueError(f"{op.get_friendly_name()} does not round to {LEVELS} levels in one range")
    scale = (high - low) / (LEVELS - 1)
    return Levels(scale, round(-low / scale))


def _shares(core: openvino.Core, op: Any) -> tuple[Levels, float]:  # noqa: ANN401 - as above
    low, high, low_after, high_after = (float(_constant(core, op.input_value(at)).item()) for at in (1, 2, 3, 4))
    if low or low_after:
        raise ValueError(f"{op.get_friendly_name()} does not round probabilities from 0 on")
    return Levels(high / (LEVELS - 1), 0), high_after / high


def _constant(core: openvino.Core, output: Any) -> Array:  # noqa: ANN401 - as above
    """Evaluate a part of the graph that depends on constants alone."""
    found = core.compile_model(openvino.Model([output], []), "CPU")([])
    return np.asarray(next(iter(found.values())), dtype=np.float32)


def _next(op: Any, kind: str) -> Any:  # noqa: ANN401 - as above
    """Return the operation of a kind that takes the result of `op`, None if there is none."""
    takers = [taker.get_node() for taker in op.output(0).get_target_inputs()]
    return next((taker for taker in takers if taker.get_type_name() == kind), None)


def _only(op: Any, kind: str) -> Any:  # noqa: ANN401 - as above
    found = _next(op, kind)
    if found is None:
        raise ValueError(f"behind {op.get_friendly_name()} stands no {kind}")
    return found


def _other(op: Any, one: Any) -> Any:  # noqa: ANN401 - as above
    """Return the input of `op` that does not come from `one`."""
    name = one.get_friendly_name()
    return next(v for v in op.input_values() if v.get_node().get_friendly_name() != name)
