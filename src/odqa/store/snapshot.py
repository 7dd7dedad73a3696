r"""Snapshots: the living vectors of one generation, or binary codes of them, in one file that is mapped, not copied.

A snapshot is a cache of the table `vectors`. Its bytes are trusted only after the SHA-256 in its header was compared.

    offset  bytes  content (integers and floats little-endian)
         0      8  magic "ODQAVEC\0"
         8      4  format version: 1 flat, 2 binary
        12      4  width: values per vector
        16      8  generation of the index that the vectors belong to
        24      8  n: number of vectors
        32     16  uuid of the index
        48     32  SHA-256 of bytes 128 to the end followed by bytes 0-47
        80     48  zero
       128  n*w*2  flat: float16 [n, width], in order of their ids
            n*w/8  binary: bits [n, width], the first value in the lowest bit, each row filled up to whole bytes
         …    n*8  ids: int64 [n], ascending
         …    w*4  binary only: centre, float32 [width]; a bit is set where a value lies above it
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import numpy as np

from odqa.protocols import PassageIds
from odqa.store.binary import BinaryCodes, Bits, Centre, code_bytes, to_bits
from odqa.store.codes import CODE, Codes
from odqa.store.faults import fault_point

MAGIC = b"ODQAVEC\0"
FLAT_FORMAT, BINARY_FORMAT = 1, 2
HEADER_BYTES = 128
_FIELDS = struct.Struct("<8sIIQQ16s")
_DIGEST = slice(_FIELDS.size, _FIELDS.size + 32)
_NAME = re.compile(r"vectors-(\d+)\.faiss")
_HASH_BYTES = 1 << 24


class SnapshotError(Exception):
    """A snapshot cannot be used; the message is the reason. Never leaves the store: vectors are rebuilt instead.

    `kind` is the kind of problem that `check` calls it.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        """Keep the kind beside the message."""
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified snapshot: `ids` int64 [n] are a copy, the rest is mapped from the file.

    It holds `codes` float16 [n, width] if it is flat, and `binary` codes else; the other of the two is None.
    """

    path: Path
    generation: int
    ids: PassageIds
    codes: Codes | None
    binary: BinaryCodes | None = None


def snapshot_path(folder: Path, generation: int) -> Path:
    """Return the name of the snapshot of a generation."""
    return folder / f"vectors-{generation}.faiss"


def snapshot_paths(folder: Path) -> list[tuple[int, Path]]:
    """List (generation by name, path) of the snapshots in a folder, the newest first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def write_snapshot_file(
    folder: Path,
    *,
    uuid: UUID,
    generation: int,
    width: int,
    batches: Iterable[tuple[PassageIds, Codes]],
    centre: Centre | None = None,
) -> Path:
    """Write a snapshot under a temporary name, fsync, rename, fsync the folder; then remove all the others.

    Memory is bounded by one batch and eight bytes per vector. The caller holds the lock of the folder.

    Args:
        folder: the index folder.
        uuid: uuid of the index.
        generation: generation that the vectors belong to.
        width: values per vector.
        batches: (ids int64 [m], codes float16 [m, width]) with ids ascending over all batches.
        centre: float32 [width] for a binary snapshot; None makes a flat one.

    Returns:
        The path of the snapshot.
    """
    path = snapshot_path(folder, generation)
    temporary = path.with_name(path.name + ".tmp")
    try:
        fault_point("snapshot.before-write")
        with temporary.open("wb") as file:
            contents = _Contents(FLAT_FORMAT if centre is None else BINARY_FORMAT, width, generation, uuid)
            _write_contents(file, contents, _rows(batches, centre), centre)
            file.flush()
            fault_point("snapshot.before-fsync")
            os.fsync(file.fileno())
        fault_point("snapshot.before-rename")
        temporary.replace(path)
    except BaseException:  # half a snapshot would only take room, on a disk that may be full
        temporary.unlink(missing_ok=True)
        raise
    fault_point("snapshot.after-rename")
    sync_folder(folder)
    fault_point("snapshot.after-fsync")
    remove_other_snapshots(folder, keep=path)
    fault_point("snapshot.after-cleanup")
    return path


@dataclass(frozen=True, slots=True)
class _Contents:
    """What the header says besides the number of vectors."""

    version: int
    width: int
    generation: int
    uuid: UUID

    def packed(self, count: int) -> bytes:
        return _FIELDS.pack(MAGIC, self.version, self.width, self.generation, count, self.uuid.bytes)


def _rows(
    batches: Iterable[tuple[PassageIds, Codes]], centre: Centre | None
) -> Iterator[tuple[PassageIds, Codes | Bits]]:
    """Turn vectors into what a snapshot holds of them."""
    for ids, codes in batches:
        yield ids, codes.astype(CODE, copy=False) if centre is None else to_bits(codes, centre)


def _write_contents(
    file: BinaryIO,
    contents: _Contents,
    batches: Iterable[tuple[PassageIds, Codes | Bits]],
    centre: Centre | None,
) -> None:
    """Write room for the header, then codes and ids as they come, and the header last: it holds count and checksum."""
    fault_point("snapshot.before-header-write")
    file.write(bytes(HEADER_BYTES))
    digest, all_ids = hashlib.sha256(), [np.empty(0, dtype=np.int64)]
    for ids, codes in batches:
        digest.update(payload := codes.tobytes())
        all_ids.append(ids)
        file.write(payload)
        fault_point("snapshot.mid-write")
    payload = (joined := np.concatenate(all_ids)).astype("<i8").tobytes()
    payload += b"" if centre is None else centre.astype("<f4").tobytes()
    digest.update(payload)
    digest.update(fields := contents.packed(len(joined)))
    fault_point("snapshot.before-ids-write")
    file.write(payload)
    file.seek(0)
    fault_point("snapshot.before-last-write")
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
        raise SnapshotError(f"it is {size} bytes long, shorter than its header", kind="snapshot-truncated")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    magic, version, its_width, generation, count, its_uuid = _FIELDS.unpack(data[: _FIELDS.size].tobytes())
    if magic != MAGIC or version not in (FLAT_FORMAT, BINARY_FORMAT):
        raise SnapshotError(f"it is not a snapshot of format {FLAT_FORMAT} or {BINARY_FORMAT}", kind="snapshot-format")
    row_bytes = width * CODE.itemsize if version == FLAT_FORMAT else code_bytes(width)
    codes_end = HEADER_BYTES + count * row_bytes
    ids_end = codes_end + count * 8
    whole = ids_end + (0 if version == FLAT_FORMAT else width * 4)
    if its_uuid != uuid.bytes or its_width != width:
        raise SnapshotError("it belongs to another index", kind="snapshot-foreign")
    if len(data) != whole:
        reason = f"it is {len(data)} bytes long, its header says {whole}"
        raise SnapshotError(reason, kind="snapshot-truncated" if len(data) < whole else "snapshot-size")
    if data[_DIGEST.stop : HEADER_BYTES].any():
        raise SnapshotError(f"its header holds what format {version} does not know", kind="snapshot-format")
    if verify and _digest(data) != data[_DIGEST].tobytes():
        raise SnapshotError("its checksum differs", kind="snapshot-checksum")
    rows = np.asarray(data[HEADER_BYTES:codes_end])
    ids = np.frombuffer(data[codes_end:ids_end].tobytes(), dtype="<i8").astype(np.int64)
    if verify and count and (ids[0] < 1 or (np.diff(ids) <= 0).any()):
        raise SnapshotError("its ids do not ascend", kind="snapshot-format")
    if version == FLAT_FORMAT:
        return Snapshot(path, generation, ids, rows.view(CODE).reshape(count, width))
    centre = np.frombuffer(data[ids_end:].tobytes(), dtype="<f4").astype(np.float32)
    if verify and not np.isfinite(centre).all():
        raise SnapshotError("its centre is not finite", kind="snapshot-format")
    return Snapshot(path, generation, ids, None, BinaryCodes(rows.reshape(count, row_bytes), centre))


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
                fault_point("snapshot.before-remove")
                path.unlink(missing_ok=True)
            except PermissionError:
                if os.name != "nt":
                    raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows has no such call and needs none."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fault_point("folder.before-fsync")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
