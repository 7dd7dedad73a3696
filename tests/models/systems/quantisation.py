"""Weights as int8 with a scale for each row, and the ranges of what goes into matrix products, as NNCF sets them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from architectures import Architecture, Array, Weights
from numpy.typing import NDArray
from numpy_bert import NumpyBert, Watch

LEVELS = 256
Ranges = dict[str, tuple[float, float]]  # lower and upper bound of the levels, by the name of the product's input
Int8 = tuple[NDArray[np.int8], Array]  # numbers [rows, columns], and the scale of each row [rows, 1]


def compress(weights: Weights) -> tuple[dict[str, Int8], Weights]:
    """Round every matrix to int8, symmetric, one scale a row; scales and the other tensors to float16.

    Returns:
        The int8 matrices by name, and all weights as what they now stand for, in float32.
    """
    numbers: dict[str, Int8] = {}
    meant: Weights = {}
    for name, values in weights.items():
        if values.ndim < 2:
            meant[name] = values.astype(np.float16).astype(np.float32)
            continue
        scale = (np.abs(values).max(axis=1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
        rounded = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
        numbers[name] = rounded, scale
        meant[name] = rounded * scale
    return numbers, meant


def ranges(architecture: Architecture, weights: Weights, rows: Sequence[Sequence[int]]) -> Ranges:
    """Take the ranges from what goes into the products when some rows of ids are run.

    What is never negative gets [0, most], the rest [-most * 128 / 127, most]: the levels of int8.
    """
    most: dict[str, float] = {}
    least: dict[str, float] = {}

    def look(name: str, x: Array) -> Array:
        most[name] = max(most.get(name, 0.0), float(np.abs(x).max()))
        least[name] = min(least.get(name, 0.0), float(x.min()))
        return x

    bert = NumpyBert(architecture, weights, watch=look)
    for ids in rows:
        if architecture.vector_width:
            bert.vector(ids)
        else:
            bert.logits(ids, [0] * len(ids))
    found = {}
    for name, value in most.items():
        bound = float(np.float16(value))
        found[name] = (0.0 if least[name] >= 0 else -bound * 128 / 127, bound)
    return found


def fake_quantisation(found: Ranges) -> Watch:
    """Make a `watch` that rounds to 256 levels between the bounds, halves to even levels."""

    def rounded(name: str, x: Array) -> Array:
        low, high = found[name]
        step = np.float32((high - low) / (LEVELS - 1))
        held = np.clip(x, np.float32(low), np.float32(high)) - np.float32(low)
        return np.asarray(np.round(held / step) * step + np.float32(low), dtype=np.float32)

    return rounded
