"""Vectors as they are stored: little-endian IEEE 754 half precision, in SQLite, in snapshots and in FAISS alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from odqa.protocols import Vectors

CODE = np.dtype("<f2")
Codes = NDArray[np.float16]


def to_codes(vectors: Vectors, *, width: int) -> Codes:
    """Round vectors float32 [n, width] to half precision [n, width], the nearest value, ties to even.

    Raises:
        ValueError: the shape is another, or a value is not finite in half precision (its size is above 65,504).
    """
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(f"vectors of shape {vectors.shape} given, [n, {width}] needed")
    with np.errstate(over="ignore"):  # an overflow becomes infinite and is refused below
        codes = np.ascontiguousarray(vectors, dtype=CODE)
    if not np.isfinite(codes).all():
        row = int(np.flatnonzero(~np.isfinite(codes).all(axis=1))[0])
        raise ValueError(f"vector {row} holds a value that is not finite in half precision (at most 65504 in size)")
    return codes


def from_blobs(blobs: list[bytes], *, width: int) -> Codes:
    """Join BLOBs of `width * 2` bytes each to codes [len(blobs), width]; the caller has checked their lengths."""
    return np.frombuffer(b"".join(blobs), dtype=CODE).reshape(len(blobs), width)
