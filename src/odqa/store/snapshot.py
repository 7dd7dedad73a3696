r"""Snapshots: the living vectors of one generation in one file that is mapped into memory, not copied.

A snapshot is a cache of the table `vectors`. Its bytes are trusted only after the SHA-256 in its header was compared.

    offset  bytes  content (integers and floats little-endian)
         0      8  magic "ODQAVEC\0"
         8      4  format version, 1
        12      4  width: values per vector
        16      8  generation of the index that the vectors belong to
        24      8  n: number of vectors
        32     16  uuid of the index
        48     32  SHA-256 of bytes 128 to the end followed by bytes 0-47
        80     48  zero
       128  n*w*2  codes: float16 [n, width], in order of their ids
         …    n*8  ids: int64 [n], ascending
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import numpy as np

from odqa.protocols import PassageIds
from odqa.store.codes import CODE, Codes
from odqa.store.faults import fault_point

MAGIC = b"ODQAVEC\0"
FORMAT_VERSION = 1
HEADER_BYTES = 128
_FIELDS = struct.Struct("<8sIIQQ16s")
_DIGEST = slice(_FIELDS.size, _FIELDS.size + 32)
_NAME = re.compile(r"vectors-(\d+)\.faiss")
_HASH_BYTES = 1 << 24


class SnapshotError(Exception):
    """A snapshot cannot be used; the message is the reason. Never leaves the store: vectors are rebuilt instead."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified snapshot; `codes` float16 [n, width] are mapped from the file, `ids` int64 [n] are a copy."""

    path: Path
    generation: int
    ids: PassageIds
    codes: Codes


def snapshot_path(folder: Path, generation: int) -> Path:
    """Return the name of the snapshot of a generation."""
    return folder / f"vectors-{generation}.faiss"


def snapshot_paths(folder: Path) -> list[tuple[int, Path]]:
    """List (generation by name, path) of the snapshots in a folder, the newest first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def write_snapshot_file(
    folder: Path, *, uuid: UUID, generation: int, width: int, batches: Iterable[tuple[PassageIds, Codes]]
) -> Path:
    """Write a snapshot under a temporary name, fsync, rename, fsync the folder; then remove all the others.

    Memory is bounded by one batch and eight bytes per vector. The caller holds the lock of the folder.

    Args:
        folder: the index folder.
        uuid: uuid of the index.
        generation: generation that the vectors belong to.
        width: values per vector.
        batches: (ids int64 [m], codes float16 [m, width]) with ids ascending over all batches.

    Returns:
        The path of the snapshot.
    """
    path = snapshot_path(folder, generation)
    temporary = path.with_name(path.name + ".tmp")
    fault_point("snapshot.before-write")
    with temporary.open("wb") as file:
        _write_contents(file, uuid=uuid, generation=generation, width=width, batches=batches)
        file.flush()
        fault_point("snapshot.before-fsync")
        os.fsync(file.fileno())
    fault_point("snapshot.before-rename")
    temporary.replace(path)
    fault_point("snapshot.after-rename")
    sync_folder(folder)
    remove_other_snapshots(folder, keep=path)
    fault_point("snapshot.after-cleanup")
    return path


def _write_contents(
    file: BinaryIO, *, uuid: UUID, generation: int, width: int, batches: Iterable[tuple[PassageIds, Codes]]
) -> None:
    """Write room for the header, then codes and ids as they come, and the header last: it holds count and checksum."""
    file.write(bytes(HEADER_BYTES))
    digest, all_ids = hashlib.sha256(), [np.empty(0, dtype=np.int64)]
    for ids, codes in batches:
        file.write(payload := codes.astype(CODE, copy=False).tobytes())
        digest.update(payload)
        all_ids.append(ids)
        fault_point("snapshot.mid-write")
    file.write(payload := (joined := np.concatenate(all_ids)).astype("<i8").tobytes())
    digest.update(payload)
    fields = _FIELDS.pack(MAGIC, FORMAT_VERSION, width, generation, len(joined), uuid.bytes)
    digest.update(fields)
    file.seek(0)
    file.write(fields + digest.digest())


def open_snapshot(path: Path, *, uuid: UUID, width: int, verify: bool = True) -> Snapshot:
    """Map a snapshot into memory after all its bytes were checked.

    Args:
        path: the snapshot.
        uuid: uuid of the index that it has to belong to.
        width: values per vector.
        verify: compare the SHA-256, which reads the whole file; without, only the header and the size are looked at.

    Raises:
        SnapshotError: the file is not a good snapshot of this index; says why.
        FileNotFoundError: it is gone (a writer removed it in favour of a newer one).
    """
    size = path.stat().st_size
    if size < HEADER_BYTES:
        raise SnapshotError(f"it is {size} bytes long, shorter than its header")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    magic, version, its_width, generation, count, its_uuid = _FIELDS.unpack(data[: _FIELDS.size].tobytes())
    codes_end = HEADER_BYTES + count * its_width * CODE.itemsize
    if magic != MAGIC or version != FORMAT_VERSION:
        raise SnapshotError(f"it is not a snapshot of format {FORMAT_VERSION}")
    if its_uuid != uuid.bytes or its_width != width:
        raise SnapshotError("it belongs to another index")
    if len(data) != codes_end + count * 8:
        raise SnapshotError(f"it is {len(data)} bytes long, its header says {codes_end + count * 8}")
    if verify and _digest(data) != data[_DIGEST].tobytes():
        raise SnapshotError("its checksum differs")
    codes = np.asarray(data[HEADER_BYTES:codes_end]).view(CODE).reshape(count, width)
    return Snapshot(path, generation, np.frombuffer(data[codes_end:].tobytes(), dtype="<i8").astype(np.int64), codes)


def _digest(data: np.memmap[tuple[int], np.dtype[np.uint8]]) -> bytes:
    digest = hashlib.sha256()
    for start in range(HEADER_BYTES, len(data), _HASH_BYTES):
        digest.update(data[start : start + _HASH_BYTES].data)
    digest.update(data[: _FIELDS.size].data)
    return digest.digest()


def remove_other_snapshots(folder: Path, *, keep: Path | None) -> None:
    """Remove every snapshot and half-written file but `keep`. The caller holds the lock of the folder.

    A process that has an old snapshot mapped goes on reading it: POSIX keeps the bytes until it is done, Windows
    refuses the removal, and the file goes with the next snapshot instead.
    """
    for path in [*(path for _, path in snapshot_paths(folder)), *folder.glob("vectors-*.faiss.tmp")]:
        if path != keep:
            try:
                path.unlink(missing_ok=True)
            except PermissionError:
                if os.name != "nt":
                    raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows has no such call and needs none."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
