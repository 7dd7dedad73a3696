"""BERT networks of the published systems' exact architectures, with weights drawn by chance but always the same.

Names and shapes of the weights are those of Hugging Face: linear layers are [out, in]. Magnitudes are chosen so that
activations keep their size through 24 layers and logits vary by several units, as in a trained network.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = dict[str, Array]

HEAD_WIDTH = 64
BLOCK = 32  # side of the blocks that are zero in the block-sparse network


@dataclass(frozen=True)
class Architecture:
    """A network of the BERT family.

    `embedding_width` is the width of the embeddings where it is not `hidden`: a linear layer stands between them, and
    one back to that width before the span head. `vector_width` is the length of an encoder's vectors, 0 for readers.
    `pruned_heads` are the removed heads of a layer; `density` is the share of the feed-forward weights that is not 0.
    """

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    head_width: int = HEAD_WIDTH
    embedding_width: int = 0
    vector_width: int = 0
    pruned_heads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    density: float = 1.0
    positions: int = 512
    types: int = 2
    seed: int = 0

    @property
    def heads(self) -> int:
        """Heads of a layer from which none was removed."""
        return self.hidden // self.head_width

    def kept_heads(self, layer: int) -> int:
        """Heads that a layer still has."""
        return self.heads - len(self.pruned_heads.get(layer, ()))

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return self.embedding_width or self.hidden


def weights(architecture: Architecture) -> Weights:
    """Draw the weights, float32, by their Hugging Face names; the same architecture gives the same numbers."""
    draw = _Draw(architecture.seed)
    a = architecture
    found: Weights = {}
    for name, rows in (("word", a.vocabulary), ("position", a.positions), ("token_type", a.types)):
        full = f"bert.embeddings.{name}_embeddings.weight"
        found[full] = draw.normal(full, (rows, a.width), 0.05)
    draw.norm(found, "bert.embeddings.LayerNorm", a.width)
    if a.embedding_width:
        draw.linear(found, "bert.encoder.embedding_hidden_mapping_in", a.hidden, a.width)
        draw.linear(found, "bert.encoder.embedding_hidden_mapping_out", a.width, a.hidden)
    for layer in range(a.layers):
        _layer(found, draw, a, layer)
    if a.vector_width:
        draw.linear(found, "embedding", a.vector_width, a.hidden)
    else:
        draw.linear(found, "qa_outputs", 2, a.width, gain=3.0)
    return found


def _layer(found: Weights, draw: _Draw, a: Architecture, layer: int) -> None:
    prefix = f"bert.encoder.layer.{layer}"
    inner = a.kept_heads(layer) * a.head_width
    # The deeper a network, the less a layer may add, or tokens become alike; sharp attention keeps them apart.
    branch = 0.5 * (8 / a.layers) ** 0.5
    for name, gain in (("query", 2.0), ("key", 2.0), ("value", 1.0)):
        draw.linear(found, f"{prefix}.attention.self.{name}", inner, a.hidden, gain=gain)
    draw.linear(found, f"{prefix}.attention.output.dense", a.hidden, inner, gain=branch)
    draw.norm(found, f"{prefix}.attention.output.LayerNorm", a.hidden)
    draw.linear(found, f"{prefix}.intermediate.dense", a.intermediate, a.hidden)
    draw.linear(found, f"{prefix}.output.dense", a.hidden, a.intermediate, gain=branch)
    draw.norm(found, f"{prefix}.output.LayerNorm", a.hidden)
    if a.density < 1.0:
        _clear_blocks(found, draw, a, prefix)


def _clear_blocks(found: Weights, draw: _Draw, a: Architecture, prefix: str) -> None:
    """Set blocks of the feed-forward layers to 0 until `density` is left.

    A quarter of the columns of blocks goes as a whole, as whole neurons do in such networks: the first half of them
    loses what goes in (a neuron that is constant), the other half what comes out (one that nobody hears).
    """
    columns = a.intermediate // BLOCK
    order = draw.generator(f"{prefix}.neurons").permutation(columns)
    dead, deaf = order[: columns // 8], order[columns // 8 : columns // 4]
    for name, silent in (("intermediate", dead), ("output", deaf)):
        full = f"{prefix}.{name}.dense.weight"
        matrix = found[full] if name == "intermediate" else found[full].T
        blocks = matrix.reshape(columns, BLOCK, -1, BLOCK)  # a view: what is set here is set in the weights
        keep = np.ones((columns, blocks.shape[2]), dtype=bool)
        keep[silent] = False
        living = np.flatnonzero(keep)
        wanted = round(a.density * keep.size)
        keep.ravel()[draw.generator(f"{full}.blocks").permutation(living)[wanted:]] = False
        blocks *= keep[:, None, :, None] / np.sqrt(a.density)


def linear_share(found: Weights, architecture: Architecture) -> float:
    """Return the share of a full network's linear weights that is there and not 0."""
    a = architecture
    held = sum(
        int(np.count_nonzero(values))
        for name, values in found.items()
        if name.startswith("bert.encoder.layer.") and values.ndim == 2
    )
    return held / (a.layers * (4 * a.hidden * a.hidden + 2 * a.hidden * a.intermediate))


class _Draw:
    """Draws tensors; what a tensor holds depends on its name and the seed alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])

    def normal(self, name: str, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> Array:
        values = self.generator(name).standard_normal(shape, dtype=np.float32)
        values *= np.float32(deviation)
        values += np.float32(mean)
        return values

    def linear(self, found: Weights, name: str, outputs: int, inputs: int, *, gain: float = 1.0) -> None:
        found[f"{name}.weight"] = self.normal(f"{name}.weight", (outputs, inputs), gain / inputs**0.5)
        found[f"{name}.bias"] = self.normal(f"{name}.bias", (outputs,), 0.05)

    def norm(self, found: Weights, name: str, width: int) -> None:
        found[f"{name}.weight"] = self.normal(f"{name}.weight", (width,), 0.1, 1.0)
        found[f"{name}.bias"] = self.normal(f"{name}.bias", (width,), 0.1)
