"""Binary codes: one bit for each value of a vector, set where it lies above the mean of that value.

The Hamming distance of two such codes follows the angle between the vectors about their mean (M. Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002). A sixteenth of the size of half precision, they choose the
candidates of a search, whose vectors are then compared in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odqa.store.codes import CODE, Codes

Bits = NDArray[np.uint8]
Centre = NDArray[np.float32]

BLOCK_ROWS = 4096
_ONE = np.ones(1, CODE).view("<u2")[0]


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


def to_values(bits: Bits, *, width: int) -> Codes:
    """Unpack codes [n, code_bytes(width)] to 0.0 or 1.0 for each value, in half precision [n, width]."""
    ones = np.unpackbits(bits, axis=1, count=width, bitorder="little")
    values: Codes = np.multiply(ones, _ONE, dtype="<u2").view(CODE)  # `astype` takes seventy times as long
    return values
