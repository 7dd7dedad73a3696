"""Binary codes: one bit for each value of a vector, set where it lies above the mean of that value.

The Hamming distance of two such codes follows the angle between the vectors about their mean (M. Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002). A sixteenth of the size of half precision, they choose the
candidates of a search, whose vectors are then compared in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odqa.store.codes import Codes

Bits = NDArray[np.uint8]
Centre = NDArray[np.float32]

BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class BinaryCodes:
    """Binary codes, uint8 [n, code_bytes(width)], and the mean that they were made about, float32 [width]."""

    bits: Bits
    centre: Centre


def code_bytes(width: int) -> int:
    """Return the bytes of a code of `width` bits; the last ones are filled up with zeros."""
    return -(-width // 8)


def to_bits(vectors: Codes | NDArray[np.float32], centre: Centre) -> Bits:
    """Make the codes of vectors [n, width], in half precision or float32: uint8 [n, code_bytes(width)]."""
    bits = np.empty((len(vectors), code_bytes(len(centre))), dtype=np.uint8)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS]
        bits[start : start + BLOCK_ROWS] = np.packbits(block.astype(np.float32) > centre, axis=1, bitorder="little")
    return bits


def centre_of(vectors: Codes, *, width: int) -> Centre:
    """Return the mean of vectors [n, width]; zeros where there are none."""
    if not len(vectors):
        return np.zeros(width, dtype=np.float32)
    mean: Centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def agreement(bits: Bits, query: NDArray[np.float32], centre: Centre) -> NDArray[np.float32]:
    """Return how far a query [width] points to where each code [n, code_bytes(width)] does: float32 [n].

    The sum of the query's values, about the centre, whose bits are set. The query keeps its values, of which the
    Hamming distance sees the signs alone, so this orders codes better (asymmetric distance: M. Jain, H. Jegou,
    P. Gros, ACM Multimedia 2011). It costs more, too: it is for a few.
    """
    set_bits = np.unpackbits(bits, axis=1, count=len(centre), bitorder="little")
    return set_bits.astype(np.float32) @ (query - centre)
