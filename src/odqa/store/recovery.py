"""Keeping FAISS in step with SQLite: opening snapshots, replaying what is newer, rebuilding what is not good."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.errors import LockedIndexError, StoreError
from odqa.protocols import PassageIds
from odqa.store.binary import BinaryCodes, code_bytes, to_bits
from odqa.store.codes import CODE, Codes
from odqa.store.faults import fault_point
from odqa.store.lock import FolderLock
from odqa.store.metadata_store import IndexInfo, SqliteMetadataStore
from odqa.store.snapshot import (
    Snapshot,
    SnapshotError,
    open_snapshot,
    remove_other_snapshots,
    snapshot_paths,
    write_snapshot_file,
)
from odqa.store.vector_index import SegmentedVectorIndex
from odqa.store.vector_rows import Changes, VectorStream, count_changes, read_changes, read_vectors, vector_stream

# A snapshot that lacks more vectors than this is replaced, not completed; a replay holds them in memory.
REPLAY_ROWS = 20_000
REPLAY_SHARE = 10  # at the end of a run a snapshot is replaced that lacks more than one in so many
_ATTEMPTS = 4  # a writer may remove a snapshot, or compact, between two steps of a reader


class VectorFollower:
    """The vectors of an index in memory, brought to the generation of SQLite at each `current()`.

    Nothing is loaded before the first `current()`.

    Args:
        folder: the index folder.
        store: its open metadata store.
        info: its row of `index_info`.
        holds_lock: whether the caller holds the lock of the folder.
    """

    def __init__(self, folder: Path, store: SqliteMetadataStore, info: IndexInfo, *, holds_lock: bool) -> None:
        """Remember where the vectors are."""
        self._folder = folder
        self._store = store
        self._info = info
        self._holds_lock = holds_lock
        self._loading = threading.Lock()
        self._state: tuple[int, SegmentedVectorIndex] | None = None
        self._notices: dict[str, None] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found wrong and mended so far, in plain sentences, without repetition."""
        return tuple(self._notices)

    def current(self) -> SegmentedVectorIndex:
        """Return vectors that are not older than the call.

        They may be newer than a state that the thread holds (`odqa.store.one_state`), never older: following
        reads the newest one.
        """
        state = self._state
        generation = self._store.generation()
        if state is not None and state[0] >= generation:
            return state[1]
        with self._loading, self._store.reads.newest_state():
            self._state = state = self._followed(self._state)
            return state[1]

    def forget(self) -> None:
        """Drop what is in memory; the next `current()` begins with the newest snapshot."""
        with self._loading:
            self._state = None

    def write_snapshot(self) -> None:
        """Write the vectors of the current generation, streamed from the BLOBs. The caller holds the lock.

        Raises:
            StoreError: the disk is full or fails; what was there before stands.
        """
        try:
            self._write()
        except OSError as error:
            raise StoreError(f"no snapshot could be written to {self._folder}: {error}; SQLite holds all") from error

    def remove_other_snapshots(self, snapshot: Snapshot) -> None:
        """Remove all snapshots but a good one of the present generation. The caller holds the lock.

        Raises:
            StoreError: the folder cannot be written to.
        """
        try:
            remove_other_snapshots(self._folder, keep=snapshot.path)
        except OSError as error:
            raise StoreError(f"older snapshots in {self._folder} cannot be removed: {error}") from error

    def good_snapshot(self, *, verify: bool = True) -> Snapshot | None:
        """Open the newest good snapshot of this index, and note what is wrong with those passed over."""
        for _ in range(_ATTEMPTS):
            paths = snapshot_paths(self._folder)
            generation = self._store.generation()  # after listing: a snapshot follows its commit
            try:
                for named, path in paths:
                    snapshot = self._opened(path, named=named, generation=generation, verify=verify)
                    if snapshot is not None:
                        return snapshot
            except FileNotFoundError:
                continue
            return None
        return None

    def remove_future_snapshots(self) -> None:
        """Remove snapshots that are newer than SQLite. The caller holds the lock, and has written nothing yet.

        Such ones are left when an older `odqa.sqlite` was put back. Its ids and generations are then given out a second
        time, so the snapshot would later pass for one of this index while it holds other vectors.

        Raises:
            StoreError: the folder cannot be written to.
        """
        generation = self._store.generation()
        for named, path in snapshot_paths(self._folder):
            if named > generation:
                reason = f"it is newer than odqa.sqlite, which is at generation {generation}"
                self._note(f"the snapshot {path.name} was removed: {reason}")
                try:
                    fault_point("open.before-remove")
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StoreError(f"the index in {self._folder} cannot be written to: {error}") from error

    def is_present(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot is of the present generation and of the wanted type."""
        return snapshot.generation == self._store.generation() and self._is_wanted(snapshot)

    def _is_wanted(self, snapshot: Snapshot) -> bool:
        return (snapshot.binary is not None) == self._wants_binary(self._store.counts()[1])

    def snapshot_is_due(self) -> bool:
        """Tell whether a new snapshot pays: there is none, or what it lacks is a tenth of it or long to replay."""
        snapshot = self.good_snapshot(verify=False)
        if snapshot is None or not self._is_wanted(snapshot):
            return True
        last_id = int(snapshot.ids[-1]) if len(snapshot.ids) else 0
        lag = count_changes(self._store, after_generation=snapshot.generation, after_id=last_id)
        return lag is None or lag > REPLAY_ROWS or lag * REPLAY_SHARE > len(snapshot.ids)

    def inspect_snapshots(self) -> tuple[Snapshot | None, list[SnapshotError]]:
        """Open the newest good snapshot, and tell what is wrong with each of the others. The caller holds the lock."""
        generation, good, errors = self._store.generation(), None, []
        for named, path in snapshot_paths(self._folder):
            try:
                snapshot = self._verified(path, named=named, generation=generation, verify=True)
                good = snapshot if good is None else good
            except SnapshotError as error:
                errors.append(SnapshotError(f"{path.name}: {error}", kind=error.kind))
        return good, errors

    def _opened(self, path: Path, *, named: int, generation: int, verify: bool) -> Snapshot | None:
        try:
            return self._verified(path, named=named, generation=generation, verify=verify)
        except SnapshotError as error:
            self._note(f"the snapshot {path.name} is not used: {error}")
            return None

    def _verified(self, path: Path, *, named: int, generation: int, verify: bool) -> Snapshot:
        snapshot = open_snapshot(path, uuid=self._info.uuid, width=self._info.encoder.width, verify=verify)
        if snapshot.generation != named:
            raise SnapshotError(f"it holds generation {snapshot.generation}", kind="snapshot-generation")
        if snapshot.generation > generation:
            reason = f"it is newer than odqa.sqlite, which is at generation {generation}"
            raise SnapshotError(reason, kind="snapshot-ahead")
        return snapshot

    def _followed(self, state: tuple[int, SegmentedVectorIndex] | None) -> tuple[int, SegmentedVectorIndex]:
        """Complete what is in memory, or a snapshot when that cannot be done; else rebuild."""
        if state is not None:
            changes = self._changes(state[0], state[1].last_id)
            if changes is not None:
                return _applied(state[1], changes)
        for _ in range(_ATTEMPTS):
            snapshot = self.good_snapshot()
            if snapshot is None:
                if not self._store.counts()[1]:
                    return self._in_memory()
                self._note("there was no good snapshot of the vectors: they were rebuilt from odqa.sqlite")
                if not self._written_if_free():
                    return self._in_memory()
                continue
            last_id = int(snapshot.ids[-1]) if len(snapshot.ids) else 0
            changes = self._changes(snapshot.generation, last_id)
            if changes is None and not self._written_if_free():
                changes = self._changes(snapshot.generation, last_id, most=None)
            if changes is not None:
                return _applied(self._of_snapshot(snapshot), changes)
        return self._in_memory()

    def _changes(self, generation: int, last_id: int, *, most: int | None = REPLAY_ROWS) -> Changes | None:
        return read_changes(self._store, after_generation=generation, after_id=last_id, most=most)

    def _written_if_free(self) -> bool:
        """Write a snapshot if this process may write now; a reader does not wait for that, and can do without."""
        try:
            if self._holds_lock:
                self._write()
            else:
                with FolderLock.acquire(self._folder):
                    self._write()
        except LockedIndexError:
            return False
        except (StoreError, OSError) as error:
            self._note(f"no new snapshot of the vectors could be written: {error}")
            return False
        return True

    def _write(self) -> None:
        info = self._info
        with vector_stream(self._store) as stream:
            write_snapshot_file(
                self._folder,
                uuid=info.uuid,
                generation=stream.generation,
                width=info.encoder.width,
                batches=stream.batches,
                centre=stream.centre() if self._wants_binary(stream.count) else None,
            )

    def _wants_binary(self, count: int) -> bool:
        """Tell whether so many vectors are to be searched by binary codes."""
        wish = self._store.vector_index()
        return wish == "binary" or (wish == "auto" and count >= settings.BINARY_FROM_PASSAGES)

    def _fetch(self, ids: PassageIds) -> tuple[PassageIds, Codes]:
        return read_vectors(self._store, ids, width=self._info.encoder.width)

    def _of_snapshot(self, snapshot: Snapshot) -> SegmentedVectorIndex:
        index = SegmentedVectorIndex(self._info.encoder.width)
        if snapshot.binary is not None:
            index.add_binary(snapshot.ids, snapshot.binary, fetch=self._fetch)
        elif snapshot.codes is not None:
            index.add_codes(snapshot.ids, snapshot.codes, mapped=True)
        return index

    def _in_memory(self) -> tuple[int, SegmentedVectorIndex]:
        """Read all vectors, or make their binary codes, where there is no snapshot and none can be written."""
        width = self._info.encoder.width
        with vector_stream(self._store) as stream:
            index = SegmentedVectorIndex(width)
            if self._wants_binary(stream.count):
                centre = stream.centre()
                bits = np.empty((stream.count, code_bytes(width)), dtype=np.uint8)
                ids = _filled(bits, stream, lambda codes: to_bits(codes, centre))
                index.add_binary(ids, BinaryCodes(bits, centre), fetch=self._fetch)
            else:
                codes = np.empty((stream.count, width), dtype=CODE)
                index.add_codes(_filled(codes, stream, lambda codes: codes), codes, mapped=True)
            return stream.generation, index

    def _note(self, notice: str) -> None:
        self._notices[notice] = None


def _filled(table: NDArray[Any], stream: VectorStream, made: Callable[[Codes], NDArray[Any]]) -> PassageIds:
    """Fill the rows of `table` with what is made of the vectors of a stream; return their ids."""
    ids = np.empty(stream.count, dtype=np.int64)
    row = 0
    for batch_ids, codes in stream.batches:
        ids[row : row + len(batch_ids)] = batch_ids
        table[row : row + len(batch_ids)] = made(codes)
        row += len(batch_ids)
    return ids


def _applied(index: SegmentedVectorIndex, changes: Changes) -> tuple[int, SegmentedVectorIndex]:
    index.add_codes(changes.ids, changes.codes)
    dead: PassageIds = changes.dead
    if len(dead):
        index.remove(dead)
    return changes.generation, index
