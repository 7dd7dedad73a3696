"""Giving space back: a snapshot of the living, no tombstones, a merged full-text index, no free pages, an empty WAL.

Safe at every moment, and beside any number of readers: each step is a transaction or a rename, and readers who are
behind begin anew with the snapshot.
"""

from __future__ import annotations

from pathlib import Path

from odqa.store.faults import fault_point
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.recovery import VectorFollower
from odqa.store.schema import sql
from odqa.types import CompactReport

_COMPACT = (
    sql("DELETE FROM tombstones"),
    sql("UPDATE index_info SET compacted_generation = generation"),
    sql("INSERT INTO passages_fts (passages_fts) VALUES ('optimize')"),
)


def compact_store(store: SqliteMetadataStore, follower: VectorFollower) -> CompactReport:
    """Give space back. The caller holds the lock of the folder. VACUUM needs room for a second copy of `odqa.sqlite`.

    Raises:
        StoreError: the disk is full or fails; the index holds what it held.
    """
    folder = store.path.parent
    before, (_, _, tombstones) = _bytes(folder), store.counts()
    snapshot = follower.good_snapshot()
    if snapshot is None or not follower.is_present(snapshot):
        follower.write_snapshot()
        follower.forget()
    with store.writing() as connection:
        for statement in _COMPACT:
            connection.execute(statement)
        fault_point("compact.before-commit")
        connection.commit()
        fault_point("compact.after-commit")
    store.run("VACUUM")
    fault_point("compact.after-vacuum")
    emptied = store.empty_wal()
    fault_point("compact.after-checkpoint")
    notices = () if emptied else ("a reader is busy: odqa.sqlite-wal goes when the last process closes the index",)
    return CompactReport(str(folder), before, _bytes(folder), tombstones, notices)


def _bytes(folder: Path) -> int:
    """Measure the files of an index; SQLite's `-shm` is no storage."""
    names = [*folder.glob("odqa.sqlite"), *folder.glob("odqa.sqlite-wal"), *folder.glob("vectors-*.faiss*")]
    return sum(path.stat().st_size for path in names)
