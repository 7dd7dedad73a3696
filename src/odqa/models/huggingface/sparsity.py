"""Zeros that were left where weights were removed are dropped, so that a smaller network gives the same outputs.

Block-sparse models are stored dense. What follows is exact, not an approximation:
- A neuron without outgoing weights does nothing. One without incoming weights is a constant, which joins the bias.
- The same holds for each column of a head's values; softmax weights add up to 1, so a constant stays one.
- A column of a head's queries and keys counts for nothing if the query is zero, or if the key is constant over all
  tokens: that adds the same to every score of a row, and softmax does not see it.
Blocks of zeros inside a row or column that is needed elsewhere stay: a dense product is the fastest there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from odqa.models.huggingface.bert import Bert, Layer, Linear, activate

STEP = 16  # widths are kept multiples of this: a vector of float32 in AVX-512, so that no kernel gets slower

_Flags = NDArray[np.bool_]
_Places = NDArray[np.intp]


def without_zeros(bert: Bert) -> Bert:
    """Return the same network without the rows and columns that cannot change its outputs (but for rounding)."""
    return replace(
        bert, layers=tuple(_without_neurons(_without_heads(layer), bert.activation) for layer in bert.layers)
    )


def _kept(needed: _Flags) -> _Places:
    """Choose as many columns in each row: those needed, filled up to a common multiple of `STEP`; [rows, kept]."""
    most = int(needed.sum(axis=1).max(initial=0))
    count = min(needed.shape[1], max(1, -(-most // STEP)) * STEP)
    return np.sort(np.argsort(~needed, axis=1, kind="stable")[:, :count], axis=1)


def _any(weight: NDArray[np.float32], axis: int) -> _Flags:
    return np.asarray((weight != 0).any(axis=axis), dtype=np.bool_)


def _without_neurons(layer: Layer, activation: str) -> Layer:
    fed, used = _any(layer.widen.weight, 1), _any(layer.narrow.weight, 0)
    needed = fed & used
    kept = _kept(needed[None])[0] if needed.any() else np.zeros(0, np.intp)
    constant = np.setdiff1d(np.flatnonzero(used & ~fed), kept)
    added = layer.narrow.weight[:, constant] @ activate(activation, layer.widen.bias[constant])
    return replace(
        layer,
        widen=_rows(layer.widen, kept),
        narrow=_columns(layer.narrow, kept, added),
    )


def _without_heads(layer: Layer) -> Layer:
    if not layer.heads:
        return layer
    used = _any(layer.output.weight, 0).reshape(layer.heads, -1)
    fed = _any(layer.value.weight, 1).reshape(layer.heads, -1)
    size = used.shape[1]
    live = np.flatnonzero((used & fed).any(axis=1))  # heads; the others are constants
    asked = (_any(layer.query.weight, 1) | (layer.query.bias != 0)) & _any(layer.key.weight, 1)
    values = _flat(live, _kept((used & fed)[live]), size)
    scores = _flat(live, _kept(asked.reshape(layer.heads, -1)[live]), size)
    constant = np.setdiff1d(np.flatnonzero(used & ~fed), values)
    added = layer.output.weight[:, constant].astype(np.float64) @ layer.value.bias[constant]
    return replace(
        layer,
        heads=len(live),
        query=_rows(layer.query, scores),
        key=_rows(layer.key, scores),
        value=_rows(layer.value, values),
        output=_columns(layer.output, values, added),
    )


def _flat(heads: _Places, kept: _Places, size: int) -> _Places:
    """Turn columns within heads into rows of the whole matrix."""
    return np.asarray((heads[:, None] * size + kept).reshape(-1), dtype=np.intp)


def _rows(linear: Linear, kept: _Places) -> Linear:
    if len(kept) == len(linear.bias):
        return linear
    return Linear(np.ascontiguousarray(linear.weight[kept]), linear.bias[kept])


def _columns(linear: Linear, kept: _Places, added: NDArray[np.float64]) -> Linear:
    """Keep some columns; `added` is what the others amount to."""
    if len(kept) == linear.weight.shape[1]:
        return linear
    return Linear(np.ascontiguousarray(linear.weight[:, kept]), (linear.bias + added).astype(np.float32))
