"""Bytes as a snapshot of vectors."""

from __future__ import annotations

import hashlib
import struct
import tempfile
from pathlib import Path
from uuid import UUID

import numpy as np
from fuzz_frame import Target

from odqa.store.snapshot import HEADER_BYTES, SnapshotError, open_snapshot
from odqa.store.vector_index import SegmentedVectorIndex

WIDTH = 2
OWN = UUID(int=7)
_FOLDER = tempfile.TemporaryDirectory()
_PATH = Path(_FOLDER.name) / "vectors-1.faiss"


def snapshot(
    ids: list[int], *, width: int = WIDTH, count: int | None = None, generation: int = 1, centre: float | None = None
) -> bytes:
    """A snapshot with a right checksum, whatever it holds; a binary one if it has a centre."""
    codes = np.arange(len(ids) * width, dtype="<f2").tobytes() if centre is None else bytes(range(len(ids)))
    payload = codes + struct.pack(f"<{len(ids)}q", *ids)
    payload += b"" if centre is None else struct.pack(f"<{width}f", *[centre] * width)
    version = 1 if centre is None else 2
    fields = struct.pack(
        "<8sIIQQ16s", b"ODQAVEC\0", version, width, generation, len(ids) if count is None else count, OWN.bytes
    )
    return fields + hashlib.sha256(payload + fields).digest() + bytes(HEADER_BYTES - 80) + payload


def check(data: bytes) -> None:
    """A SnapshotError, or vectors that can be searched: as they are, and with the checksum of these bytes."""
    _try(data)
    if len(data) >= HEADER_BYTES:
        digest = hashlib.sha256(data[HEADER_BYTES:] + data[:48]).digest()
        _try(data[:48] + digest + data[80:])


def _try(data: bytes) -> None:
    _PATH.write_bytes(data)
    for verify in (False, True):
        try:
            found = open_snapshot(_PATH, uuid=OWN, width=WIDTH, verify=verify)
        except SnapshotError as error:
            assert error.kind.startswith("snapshot-") and str(error)
            continue
        size = HEADER_BYTES + found.ids.nbytes
        if found.codes is not None:
            assert found.codes.shape == (len(found.ids), WIDTH) and found.binary is None
            assert len(data) == size + found.codes.nbytes
        else:
            assert found.binary is not None and found.binary.bits.shape == (len(found.ids), 1)
            assert len(data) == size + found.binary.bits.nbytes + found.binary.centre.nbytes
        if verify:
            index = SegmentedVectorIndex(WIDTH)
            if found.codes is not None:
                index.add_codes(found.ids, found.codes, mapped=True)
            elif found.binary is not None:
                index.add_binary(found.ids, found.binary, fetch=_fetch)
            distances, ids = index.search(np.zeros((1, WIDTH), dtype=np.float32), top_k=3)
            assert set(ids[0].tolist()) <= {-1, *found.ids.tolist()}
            assert distances.shape == (1, 3)


def _fetch(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ids, np.ones((len(ids), WIDTH), dtype=np.float16)


TARGET = Target(
    "snapshot",
    check,
    lambda: [
        snapshot([1, 2, 5]),
        snapshot([]),
        snapshot([3, 2]),
        snapshot([-1, 0, 2]),
        snapshot([1], count=2**60),
        snapshot([1, 2], count=2**64 - 1),
        snapshot([1, 2], width=4),
        snapshot([2**63 - 1], generation=2**64 - 1),
        snapshot([1, 2, 5], centre=0.5),
        snapshot([], centre=0.0),
        snapshot([2, 1], centre=0.0),
        snapshot([1], centre=float("nan")),
        snapshot([1], centre=0.0, count=2**63),
    ],
    tokens=(
        b"ODQAVEC\0",
        OWN.bytes,
        *(struct.pack("<I", n) for n in (0, 1, 2, 3, 2**31)),
        b"\xff" * 8,
        b"\0\x7c",
        b"\0\x7e",
    ),
    max_bytes=600,
)
