"""Attention in integers: the second product of each attention, probabilities times values, in int8 as well.

NNCF quantises the first product, of queries and keys, and leaves the second in float32. In int8 it saves a fifteenth of
the network's time for paragraphs, and an eighth for full passages. Both factors are rounded to 256 steps, up to limits
that are chosen for each layer by the error of the product: the lower a limit, the finer are the small numbers, and the
more of the large ones are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

from from_ir import SMOOTHING

HIGHEST = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)  # probabilities that are tried as limit
LARGEST = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35)  # values, in parts of the largest of all that were seen
STEPS = 255
ATTENTION = "ScaledDotProductAttention"

Array = NDArray[np.float32]
Rows = Sequence[dict[str, Array]]


def integer_attention(model: ov.Model, rows: Rows, *, round_first: bool) -> None:
    """Let every attention of an int8 network of NNCF compute its context in int8, calibrated on `rows`.

    The smoothing of the context, one factor a channel, moves to the values, which makes their ranges alike and changes
    nothing else: each column of the product is one of the values' columns.

    Args:
        model: changed in place.
        rows: inputs by name, one row each.
        round_first: round the context before its heads are put side by side, not after: a row alone takes a
            thirtieth less time, and several long ones a fiftieth more.

    Raises:
        ValueError: the network has no attention that could be changed.
    """
    layers = [one for one in model.get_ordered_ops() if one.get_type_name() == ATTENTION]
    if not layers:
        raise ValueError(f"the network has no {ATTENTION}: it has integer attention already, or was not made by NNCF")
    parts = [_spread_out(layer) for layer in layers]
    model.validate_nodes_and_infer_types()
    limits = _limits(_Watched(model, parts), rows)
    for (probabilities, values), limit in zip(parts, limits, strict=True):
        context = _reader_of(probabilities)
        rounded = _rounded(probabilities, 0.0, limit.highest, scale=limit.scale)
        context.input(0).replace_source_output(rounded.output(0))
        flat = values.input_value(0).get_node()  # behind it: heads side by side
        rounded = _rounded(flat.input_value(0), *_both_ways(limit.largest))
        flat.input(0).replace_source_output(rounded.output(0))
        if round_first:
            _round_before_transpose(context)
    model.validate_nodes_and_infer_types()


def _spread_out(attention: ov.Node) -> tuple[ov.Node, ov.Node]:
    """Put products and a softmax in an attention's place; return its probabilities and its transposed values."""
    query, key, value, mask, scale = (attention.input_value(at) for at in range(5))
    transposed = key.get_partial_shape()[2].is_static  # [batch, heads, width, tokens]
    scores = opset13.multiply(opset13.matmul(query, key, False, not transposed), scale)
    probabilities = opset13.softmax(opset13.add(scores, mask), -1)
    context = opset13.matmul(probabilities, value, False, False)
    _replace(attention, context)
    _smooth_values(context, value.get_node())
    return probabilities, value.get_node()


def _smooth_values(context: ov.Node, values: ov.Node) -> None:
    """Move the factors of NNCF's smoothing from behind the context, [batch, tokens, width], to the values."""
    flat = _reader_of(_reader_of(context))
    smoothing = _reader_of(flat)
    if not smoothing.get_friendly_name().endswith(SMOOTHING):
        raise ValueError(f"{smoothing.get_friendly_name()} stands behind an attention where NNCF's smoothing should")
    heads = values.input_value(0).get_node()
    factors = next(i for i in (0, 1) if smoothing.input_value(i).get_node() != flat)
    moved = opset13.multiply(heads.input_value(0), smoothing.input_value(factors))
    moved.set_friendly_name(smoothing.get_friendly_name())
    heads.input(0).replace_source_output(moved.output(0))
    _replace(smoothing, flat)


def _round_before_transpose(context: ov.Node) -> None:
    transpose = _reader_of(context)
    flat = _reader_of(transpose)
    after = _reader_of(flat)
    bounds = [opset13.constant(_number(after.input_value(at))) for at in range(1, 5)]
    transpose.input(0).replace_source_output(opset13.fake_quantize(context, *bounds, STEPS + 1).output(0))
    _replace(after, flat)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of one layer: the highest probability, what probabilities are multiplied with for what is lost, and the value."""

    highest: float
    scale: float
    largest: float


class _Watched:
    """A network whose probabilities and values are looked at."""

    def __init__(self, model: ov.Model, parts: Sequence[tuple[ov.Node, ov.Node]]) -> None:
        results = [opset13.result(output) for part in parts for output in part]
        watched = ov.Model(results, model.get_parameters(), "watched")
        self._compiled = ov.Core().compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.layers = len(parts)

    def __call__(self, row: dict[str, Array]) -> list[tuple[Array, Array]]:
        """Return each layer's probabilities [1, heads, tokens, tokens] and values [1, heads, tokens, width]."""
        found = self._compiled(row)
        return [(found[2 * layer], found[2 * layer + 1]) for layer in range(self.layers)]


def _limits(watched: _Watched, rows: Rows) -> list[_Limits]:
    """Choose each layer's limits; errors are counted in parts of what a row has, so short rows count as long ones."""
    most = np.zeros(watched.layers)
    for row in rows:
        most = np.maximum(most, [np.abs(values).max() for _, values in watched(row)])
    of_highest = np.zeros((watched.layers, len(HIGHEST), 2))  # exact times rounded, and rounded times rounded
    of_largest = np.zeros((watched.layers, len(LARGEST)))
    for row in rows:
        for layer, (probabilities, values) in enumerate(watched(row)):
            exact = probabilities @ values
            whole = float((exact**2).sum())
            for at, highest in enumerate(HIGHEST):
                rounded = np.clip(np.round(probabilities * (STEPS / highest)), 0, STEPS) * (highest / STEPS) @ values
                of_highest[layer, at] += [(exact * rounded).sum() / whole, (rounded**2).sum() / whole]
            for at, part in enumerate(LARGEST):
                low, high = _both_ways(part * most[layer])
                step = (high - low) / STEPS
                rounded = probabilities @ (np.round(np.clip(values, low, high) / step) * step)
                of_largest[layer, at] += ((exact - rounded) ** 2).sum() / whole
    found = []
    for layer in range(watched.layers):
        common, own = of_highest[layer].T
        at = int(np.argmax(common**2 / own))  # what the best multiple of it explains of the exact product
        largest = LARGEST[int(np.argmin(of_largest[layer]))] * most[layer]
        found.append(_Limits(HIGHEST[at], float(common[at] / own[at]), float(largest)))
        print(f"layer {layer}: {found[-1]}", flush=True)
    return found


def _both_ways(largest: float) -> tuple[float, float]:
    """Return the range of 256 steps that holds a number of either sign: one more of them lies below 0 than above."""
    return -largest * 128 / 127, largest


def _rounded(values: ov.Node | ov.Output, low: float, high: float, *, scale: float = 1.0) -> ov.Node:
    bounds = [opset13.constant(np.float32(bound)) for bound in (low, high, low * scale, high * scale)]
    return opset13.fake_quantize(values, *bounds, STEPS + 1)


def _number(output: ov.Output) -> Array:
    return output.get_node().get_data().astype(np.float32).reshape(())


def _reader_of(node: ov.Node) -> ov.Node:
    """Return the one operation that reads a node's output."""
    [port] = node.output(0).get_target_inputs()
    return port.get_node()


def _replace(node: ov.Node, by: ov.Node) -> None:
    for port in list(node.output(0).get_target_inputs()):
        port.replace_source_output(by.output(0))
