"""An index folder: both stores, recovery and the lock behind one door.

SQLite is the truth, FAISS a cache of it. A write is one SQLite transaction; every search first asks SQLite for its
generation and brings the vectors in memory to it. docs/storage.md tells the whole story.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.errors import IndexMismatchError, StoreError
from odqa.protocols import PassageIds, PreparedDocument, Vectors
from odqa.store.compaction import compact_store
from odqa.store.faults import fault_point
from odqa.store.filters import Expression
from odqa.store.folder import IndexIdentity, compare_identities, make_database, open_store, remove_unfinished
from odqa.store.lock import FolderLock
from odqa.store.metadata_store import IndexInfo, Lookup, SqliteMetadataStore
from odqa.store.metadata_writer import (
    check_prepared,
    delete_documents,
    next_generation,
    set_vector_index,
    write_documents,
)
from odqa.store.migrations import migrate
from odqa.store.recovery import VectorFollower
from odqa.store.repair import check_folder
from odqa.store.schema import DATABASE_NAME
from odqa.store.status import status_of
from odqa.types import CheckReport, CompactReport, Document, IndexStatus, Passage

__all__ = ["Index", "IndexIdentity"]


class Index:
    """An open index. Searches may run in many threads at once; writes wait for each other.

    Made by `create` or `open`; a context manager. After `close` every call is a `ValueError`; in a child that was made
    by `os.fork` while the index was open, every call but `close` is a `StoreError`.
    """

    def __init__(self, folder: Path, store: SqliteMetadataStore, info: IndexInfo, lock: FolderLock | None) -> None:
        """Put the parts together; callers use `create` or `open`."""
        self.folder = folder
        self.identity = IndexIdentity(info.encoder, info.passage_tokens, info.title_tokens)
        self._store = store
        self._info = info
        self._lock = lock
        self._follower = VectorFollower(folder, store, info, holds_lock=lock is not None)
        self._writing = threading.RLock()
        self._closed = False
        self._process = os.getpid()

    @classmethod
    def create(cls, folder: Path, identity: IndexIdentity, *, wait_seconds: float = 0) -> Self:
        """Make an empty index and open it for writing; missing folders are made.

        Args:
            folder: where the index goes; it may exist if it holds no index.
            identity: encoder and passage settings, remembered and compared ever after.
            wait_seconds: how long to wait for another process that writes there.

        Raises:
            IndexMismatchError: the folder holds an index already.
            LockedIndexError: another process is writing there.
            StoreError: the folder cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder {folder} cannot be made: {error}") from error
        lock = FolderLock.acquire(folder, wait_seconds=wait_seconds)
        try:
            if (folder / DATABASE_NAME).exists():
                raise IndexMismatchError(f"there is an index in {folder} already: open it, or choose another folder")
            make_database(folder, identity)
            return cls._opened(folder, lock=lock, expected=None)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls, folder: Path, *, writable: bool = False, expected: IndexIdentity | None = None, wait_seconds: float = 0
    ) -> Self:
        """Open an index; nothing is changed if that fails.

        Args:
            folder: the index folder.
            writable: take the lock that writing needs.
            expected: what the caller is about to search or extend the index with; None skips the comparison.
            wait_seconds: how long to wait for another process that writes (only if `writable`).

        Raises:
            NoIndexError: there is no index in the folder.
            IndexMismatchError: it was made by another encoder, with other settings, or by a newer version of odqa.
            LockedIndexError: another process is writing to it.
            DamagedIndexError: its SQLite file cannot be read.
        """
        migrate(folder, wait_seconds=wait_seconds)
        opened = cls._opened(folder, lock=None, expected=expected)
        if not writable:
            return opened
        opened._store.close()  # as it is: it may turn out to be damaged
        lock = FolderLock.acquire(folder, wait_seconds=wait_seconds)
        try:
            return cls._opened(folder, lock=lock, expected=expected)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _opened(cls, folder: Path, *, lock: FolderLock | None, expected: IndexIdentity | None) -> Self:
        store = open_store(folder, writable=lock is not None)
        try:
            if lock is not None:
                remove_unfinished(folder)
            info = store.info()
            index = cls(folder, store, info, lock)
            if lock is not None:
                index._follower.remove_future_snapshots()
            if expected is not None:
                compare_identities(folder, index.identity, expected)
        except BaseException:
            store.close()
            raise
        return index

    def close(self) -> None:
        """Close all files and give the lock back; a second call does nothing.

        In a child made by fork they stay as they are: they belong to the parent.
        """
        if not self._closed:
            self._closed = True
            if os.getpid() != self._process:
                return
            self._follower.forget()
            self._store.close(tidy=True)
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()

    # Reading

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found wrong with the snapshot and mended, known once the vectors were needed (see `prepare`)."""
        return self._follower.notices

    def prepare(self) -> None:
        """Load the vectors now; else the first dense search does. A whole snapshot is read to verify its checksum."""
        self._readable()
        self._follower.current()

    def status(self) -> IndexStatus:
        """Count what the index holds, and measure its files."""
        return status_of(self.identity, self._readable(), self._follower)

    def holds_passages(self) -> bool:
        """Tell whether there is a living passage; unlike their number, that is known at once."""
        return self._readable().last_passage() > 0

    def __len__(self) -> int:
        """Return the number of living passages."""
        return self._readable().counts()[1]

    def search_dense(
        self, vectors: Vectors, *, top_k: int, allowed: PassageIds | None = None
    ) -> tuple[NDArray[np.float32], PassageIds]:
        """Find the passages whose vectors are nearest, among all or among `allowed`; see `vector_index.py`.

        Vectors float32 [n, width] give squared L2 distances and ids [n, top_k]; missing neighbours are inf and -1.
        Whatever was deleted before the call is not among them; of what is deleted meanwhile, `passages` gives nothing.
        """
        self._readable()
        return self._follower.current().search(vectors, top_k=top_k, allowed=allowed)

    def search_text(
        self,
        expression: str,
        *,
        top_k: int,
        allowed: PassageIds | None = None,
        title_weight: float = 1.0,
        text_weight: float = 1.0,
    ) -> list[tuple[int, float]]:
        """Return (passage_id, BM25 score, higher is better) of the best matches of an FTS5 expression, best first.

        Raises:
            ValueError: `expression` is not an FTS5 query, or `top_k` is below 1.
        """
        return self._readable().search_text(
            expression, top_k=top_k, allowed=allowed, title_weight=title_weight, text_weight=text_weight
        )

    def count_matches(self, expressions: Sequence[str], *, most: int) -> list[int] | None:
        """Count the passages that match each FTS5 expression, up to `most`; None if there are no more at all."""
        return self._readable().count_matches(expressions, most=most)

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Read the living passages among `ids`."""
        return self._readable().passages(ids)

    def document(self, doc_id: str) -> Document | None:
        """Read a document with its whole text, or None if there is none of that id."""
        return self._readable().document(doc_id)

    def doc_ids(self) -> list[str]:
        """List the ids of all documents, in their order."""
        return self._readable().doc_ids()

    def lookup(self) -> AbstractContextManager[Lookup]:
        """Give a function (source, record) -> (document_pk, content_hash), or None for an origin without document."""
        return self._readable().lookup()

    def last_document(self) -> int:
        """Return the highest `document_pk`, 0 where there is none; new documents have higher ones."""
        return self._readable().last_document()

    def documents_under(self, location: str) -> Iterator[tuple[int, str, str, str]]:
        """Yield (document_pk, doc_id, source, record) of the documents whose source is `location` or lies below it."""
        return self._readable().documents_under(location)

    def one_state(self) -> AbstractContextManager[None]:
        """Let all that this thread reads until the end of the block be of one state, whatever others write meanwhile.

        It is that of the first read, and later ones are cheaper. Vectors alone may be newer.
        """
        return self._readable().one_state()

    def allowed(self, where: Expression | None) -> PassageIds | None:
        """Return the ids of the passages whose documents meet a filter; None, which means all, without one.

        Raises:
            ValueError: the filter looks at a field that no document has, or has too many conditions.
        """
        return self._readable().allowed(where)

    # Writing

    def write(self, documents: Sequence[PreparedDocument]) -> list[str]:
        """Store documents in one transaction; one with a known source and record replaces what was there.

        Returns:
            The doc_ids in order. A document that replaces another keeps the other's; a new one whose doc_id another
            source has gets "~2", "~3" … behind it.

        Raises:
            ValueError: the documents are not fit to be stored (see `check_prepared`); nothing was written.
            StoreError: the disk is full or fails; nothing was written.
        """
        store = self._writable()
        blobs = check_prepared(documents, width=self.identity.encoder.width)
        if not documents:
            return []
        with self._writing, store.writing() as connection:
            fault_point("write.begin")
            generation = next_generation(connection)
            doc_ids = write_documents(connection, documents, blobs, generation=generation)
            fault_point("write.before-commit")
            connection.commit()
            fault_point("write.after-commit")
        return doc_ids

    def delete(self, doc_ids: Sequence[str]) -> list[str]:
        """Delete documents with all that was made from them in one transaction; return those that existed."""
        store = self._writable()
        with self._writing, store.writing() as connection:
            fault_point("delete.begin")
            generation = next_generation(connection)
            deleted = delete_documents(connection, doc_ids, generation=generation)
            if not deleted:
                return []  # rolled back: nothing changed
            fault_point("delete.before-commit")
            connection.commit()
            fault_point("delete.after-commit")
        return deleted

    def choose_vector_index(self, kind: str) -> None:
        """Let the next snapshot be "flat", "binary", or "auto" (by size); any other word is a ValueError."""
        if kind not in settings.VECTOR_INDEXES:
            raise ValueError(f"unknown vector index {kind!r}: one of {', '.join(settings.VECTOR_INDEXES)}")
        store = self._writable()
        if kind != store.vector_index():
            with self._writing, store.writing() as connection:
                set_vector_index(connection, kind)
                fault_point("choose.before-commit")
                connection.commit()
                fault_point("choose.after-commit")

    def write_snapshot(self) -> None:
        """Write the vectors of this generation to a new snapshot, unless there is a good one.

        Raises:
            StoreError: the disk is full or fails; the index stays as it was.
        """
        self._writable()
        with self._writing:
            snapshot = self._follower.good_snapshot()
            if snapshot is None or not self._follower.is_present(snapshot):
                self._follower.write_snapshot()
                self._follower.forget()
            else:  # a process that died may not have come to it
                self._follower.remove_other_snapshots(snapshot)

    def refresh_snapshot(self) -> None:
        """Write a new snapshot if there is none, or if replaying what it lacks has become long; else do nothing.

        Raises:
            StoreError: the disk is full or fails; the index stays as it was.
        """
        self._writable()
        with self._writing:
            if self._follower.snapshot_is_due():
                self._follower.write_snapshot()
                self._follower.forget()

    def compact(self) -> CompactReport:
        """Give back the space that deleted documents took; see compaction.py."""
        store = self._writable()
        with self._writing:
            return compact_store(store, self._follower)

    @classmethod
    def check(cls, folder: Path, *, repair: bool = False, wait_seconds: float = 0) -> CheckReport:
        """Look through an index, damaged snapshot or not, with the lock held; with `repair` mend what can be mended.

        Raises:
            NoIndexError: there is no index in the folder.
            IndexMismatchError: it was made by a newer version of odqa.
            LockedIndexError: another process is writing to it.
            DamagedIndexError: its SQLite file cannot be opened at all.
        """
        return check_folder(folder, repair=repair, wait_seconds=wait_seconds)

    def usable(self) -> Self:
        """Return the index itself.

        Raises:
            ValueError: it is closed.
            StoreError: it was opened before this process was made by fork.
        """
        if self._closed:
            raise ValueError(f"the index in {self.folder} is closed")
        if os.getpid() != self._process:  # neither SQLite nor OpenVINO survives that
            raise StoreError(
                f"the index in {self.folder} was opened before this process was made by fork: open it after the fork, "
                "or start processes by spawn"
            )
        return self

    def _readable(self) -> SqliteMetadataStore:
        return self.usable()._store

    def _writable(self) -> SqliteMetadataStore:
        if self._lock is None:
            raise ValueError(f"the index in {self.folder} was opened for reading: open it with writable=True")
        return self._readable()
