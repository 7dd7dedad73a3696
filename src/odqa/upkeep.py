"""Looking after an index as a whole: checking, mending, compacting."""

from __future__ import annotations

from pathlib import Path

from odqa import settings
from odqa.store.index import Index
from odqa.types import CheckReport, CompactReport


def check(index_dir: Path | str | None = None, *, repair: bool = False, wait_seconds: float = 0.0) -> CheckReport:
    """Look an index through for damage, and mend what can be mended if asked.

    Raises:
        NoIndexError: the folder holds no index.
        DamagedIndexError: SQLite itself cannot be read.
        LockedIndexError: another process is writing, and did not end within `wait_seconds`.
    """
    return Index.check(settings.index_dir(index_dir), repair=repair, wait_seconds=wait_seconds)


def compact(
    index_dir: Path | str | None = None, *, vector_index: str | None = None, wait_seconds: float = 0.0
) -> CompactReport:
    """Give back the disk space of deleted and replaced documents; needs room for a second copy of the SQLite file.

    Args:
        index_dir: Folder of the index; None takes `ODQA_INDEX_DIR`, else `indexes/default`.
        vector_index: Type of vector index from now on: "auto" (by size), "flat" or "binary"; None leaves it.
        wait_seconds: How long to wait for another writer; 0 raises at once.

    Raises:
        NoIndexError: the folder holds no index.
        LockedIndexError: another process is writing, and did not end within `wait_seconds`.
        ValueError: there is no such type of vector index.
    """
    with Index.open(settings.index_dir(index_dir), writable=True, wait_seconds=wait_seconds) as index:
        if vector_index is not None:
            index.choose_vector_index(vector_index)
        return index.compact()
