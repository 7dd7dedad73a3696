"""BERT in NumPy, for networks of a few layers: slow, plain, and nothing of odqa or OpenVINO in it.

One row at a time and without padding, so there is no mask. `torch_bert` is the same in PyTorch for the large networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from architectures import Architecture, Array, Weights

Watch = Callable[[str, Array], Array]  # sees what goes into a matrix product, by its name, and gives it back

_erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x: Array) -> Array:
    return np.asarray(x * (0.5 + 0.5 * _erf(x / math.sqrt(2.0)).astype(np.float32)), dtype=np.float32)


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


class NumpyBert:
    """The forward pass; `watch` may change what goes into matrix products, as fake quantisation does."""

    def __init__(self, architecture: Architecture, weights: Weights, *, watch: Watch | None = None) -> None:
        self.architecture, self.weights = architecture, weights
        self.watch: Watch = watch or (lambda _, x: x)

    def linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return np.asarray(centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])

    def hidden(self, ids: Sequence[int], types: Sequence[int]) -> Array:
        """Return float32 [tokens, hidden], the last layer's output."""
        table = {name: self.weights[f"bert.embeddings.{name}_embeddings.weight"] for name in ("word", "token_type")}
        places = self.weights["bert.embeddings.position_embeddings.weight"][: len(ids)]
        x = table["word"][list(ids)] + places + table["token_type"][list(types)]
        x = self.norm(x, "bert.embeddings.LayerNorm")
        if self.architecture.embedding_width:
            x = self.linear(self.watch("in", x), "bert.encoder.embedding_hidden_mapping_in")
        for layer in range(self.architecture.layers):
            x = self._layer(x, layer)
        return x

    def _layer(self, x: Array, layer: int) -> Array:
        prefix, width = f"bert.encoder.layer.{layer}", self.architecture.head_width
        seen = self.watch(f"{layer}.x", x)
        query, key, value = (
            self.watch(f"{layer}.{name}", self.linear(seen, f"{prefix}.attention.self.{name}"))
            for name in ("query", "key", "value")
        )
        heads = []
        for at in range(0, query.shape[1], width):
            part = slice(at, at + width)
            shares = softmax(query[:, part] @ key[:, part].T / np.float32(math.sqrt(width)))
            heads.append(self.watch(f"{layer}.shares", shares) @ value[:, part])
        context = self.watch(f"{layer}.context", np.concatenate(heads, axis=1))
        x = self.norm(
            x + self.linear(context, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm"
        )
        inner = gelu(self.linear(self.watch(f"{layer}.middle", x), f"{prefix}.intermediate.dense"))
        outer = self.linear(self.watch(f"{layer}.inner", inner), f"{prefix}.output.dense")
        return self.norm(x + outer, f"{prefix}.output.LayerNorm")

    def vector(self, ids: Sequence[int]) -> Array:
        """Return an encoder's vector, float32 [vector_width]: a linear layer over the mean of the tokens."""
        mean = self.hidden(ids, [0] * len(ids)).mean(axis=0)
        return self.linear(self.watch("head", mean), "embedding")

    def logits(self, ids: Sequence[int], types: Sequence[int]) -> tuple[Array, Array]:
        """Return a reader's start and end logits, float32 [tokens] each."""
        x = self.hidden(ids, types)
        if self.architecture.embedding_width:
            x = self.linear(self.watch("out", x), "bert.encoder.embedding_hidden_mapping_out")
        both = self.linear(self.watch("head", x), "qa_outputs")
        return both[:, 0], both[:, 1]
