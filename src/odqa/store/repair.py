"""Checking an index, and mending it as far as that can be done without the documents.

A vector that is damaged or missing is taken from a flat snapshot. What cannot be mended (the text of a document, its
spans, a vector that no snapshot holds) is removed with all of its document, whose content hash is emptied, so that the
next indexing run reads its file again. Everything is one transaction; the snapshot follows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from odqa.errors import DamagedIndexError
from odqa.store.check import Findings, doc_ids, examine, sqlite_problems
from odqa.store.faults import fault_point
from odqa.store.folder import open_store
from odqa.store.lock import FolderLock
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.metadata_writer import next_generation
from odqa.store.migrations import migrate
from odqa.store.recovery import VectorFollower
from odqa.store.schema import CREATE_FTS, INSERT_FTS, Transaction, sql
from odqa.store.walk import walk_documents
from odqa.types import CheckReport

_BATCH_ROWS = 500
_IN_SNAPSHOT = "snapshot-"
_SET_GENERATION = sql(
    "UPDATE index_info SET generation = max(generation, compacted_generation,"
    " ifnull((SELECT max(generation) FROM documents), 0), ifnull((SELECT max(generation) FROM passages), 0),"
    " ifnull((SELECT max(generation) FROM tombstones), 0))"
)
# Readers who hold older vectors begin anew with the snapshot.
_SET_COMPACTED = sql("UPDATE index_info SET compacted_generation = generation")
_LAST_IDS = {
    "passages": sql(
        "SELECT max(id) FROM (SELECT max(seq) AS id FROM sqlite_sequence WHERE name = 'passages'"
        " UNION ALL SELECT max(passage_id) FROM passages UNION ALL SELECT max(passage_id) FROM tombstones)"
    ),
    "documents": sql(
        "SELECT max(id) FROM (SELECT max(seq) AS id FROM sqlite_sequence WHERE name = 'documents'"
        " UNION ALL SELECT max(document_pk) FROM documents)"
    ),
}
_CLEAR_COUNTER = sql("DELETE FROM sqlite_sequence WHERE name = :name")
_SET_COUNTER = sql("INSERT INTO sqlite_sequence (name, seq) SELECT :name, :last WHERE :last IS NOT NULL")
_REMOVE_ORPHANS = (
    sql(
        "INSERT OR REPLACE INTO tombstones (passage_id, generation) SELECT passage_id, :generation FROM passages"
        " WHERE document_pk NOT IN (SELECT document_pk FROM documents)"
    ),
    sql("DELETE FROM passages WHERE document_pk NOT IN (SELECT document_pk FROM documents)"),
    sql("DELETE FROM document_blocks WHERE document_pk NOT IN (SELECT document_pk FROM documents)"),
    sql("DELETE FROM vectors WHERE passage_id NOT IN (SELECT passage_id FROM passages)"),
    sql("DELETE FROM tombstones WHERE passage_id IN (SELECT passage_id FROM passages)"),
)
_RESTORE = sql("INSERT OR REPLACE INTO vectors (passage_id, vector) VALUES (:passage_id, :vector)")
_EMPTY = (
    sql(
        "INSERT OR REPLACE INTO tombstones (passage_id, generation)"
        " SELECT passage_id, :generation FROM passages WHERE document_pk = :pk"
    ),
    sql("DELETE FROM vectors WHERE passage_id IN (SELECT passage_id FROM passages WHERE document_pk = :pk)"),
    sql("DELETE FROM passages WHERE document_pk = :pk"),
    sql("DELETE FROM document_blocks WHERE document_pk = :pk"),
    sql(
        "UPDATE documents SET length = 0, content_hash = '', sections = '[]', metadata = '{}', generation = :generation"
        " WHERE document_pk = :pk"
    ),
)


def check_folder(folder: Path, *, repair: bool, wait_seconds: float) -> CheckReport:
    """Look through the index in a folder; see `Index.check`."""
    migrate(folder, wait_seconds=wait_seconds)
    open_store(folder, writable=False).close()
    with FolderLock.acquire(folder, wait_seconds=wait_seconds):
        store = open_store(folder, writable=True)
        try:
            follower = VectorFollower(folder, store, store.info(), holds_lock=True)
            return check_store(store, follower, repair=repair)
        finally:
            store.close()


def check_store(store: SqliteMetadataStore, follower: VectorFollower, *, repair: bool) -> CheckReport:
    """Look through an index, and mend it if asked. The caller holds the lock of the folder.

    After a repair the index is looked through once more: what is mended is what is not found again.

    Args:
        store: the metadata store, writable.
        follower: the vectors of the same index.
        repair: mend what can be mended.
    """
    findings = examine(store, follower)
    problems, lost = list(findings.problems), []
    if repair and problems and problems[0].kind == "sqlite-pages" and _reindexed(store):
        findings = examine(store, follower)
        problems += findings.problems
    if not findings.readable:
        return CheckReport(tuple(problems), 0, 0)
    notices = findings.notices
    if repair and (problems or findings.snapshot is None):
        lost = _mend(store, findings)
        follower.write_snapshot()
        left = examine(store, follower)
        kinds, notices = {problem.kind for problem in left.problems}, left.notices
        problems = [replace(problem, mended=problem.kind not in kinds) for problem in problems]
        problems += [problem for problem in left.problems if problem not in problems]
    count_documents, count_passages, _ = store.counts()
    return CheckReport(tuple(problems), count_documents, count_passages, lost=tuple(lost), notices=tuple(notices))


def _reindexed(store: SqliteMetadataStore) -> bool:
    """Build SQLite's own indexes anew; tell whether the file is sound after that."""
    try:
        fault_point("check.before-reindex")
        store.run("REINDEX")
    except DamagedIndexError:
        return False
    return not sqlite_problems(store)


def _mend(store: SqliteMetadataStore, findings: Findings) -> list[str]:
    """Mend all but the snapshot in one transaction, and return the ids of the documents that were emptied."""
    if all(problem.kind.startswith(_IN_SNAPSHOT) for problem in findings.problems):
        return []
    restored = _restorable(findings)
    empty = findings.contents | {pk for passage_id, pk in findings.vectors.items() if passage_id not in restored}
    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(_SET_GENERATION)
        generation = next_generation(connection)
        connection.execute(_SET_COMPACTED)
        _set_counters(connection)
        for statement in _REMOVE_ORPHANS:
            connection.execute(statement, {"generation": generation})
        if restored:
            rows = [{"passage_id": passage_id, "vector": vector} for passage_id, vector in restored.items()]
            connection.execute(_RESTORE, rows)
        lost = doc_ids(connection, sorted(empty))
        for pk in lost:
            for statement in _EMPTY:
                connection.execute(statement, {"pk": pk, "generation": generation})
        if findings.full_text or lost:
            _rebuild_full_text(connection)
        fault_point("check.before-commit")
        connection.commit()
        fault_point("check.after-commit")
    return sorted(lost.values())


def _restorable(findings: Findings) -> dict[int, bytes]:
    """Return passage_id -> BLOB of the lost vectors that a snapshot holds which agrees with all the others."""
    snapshot = findings.snapshot
    if snapshot is None or snapshot.codes is None or not findings.trusted or not len(snapshot.ids):
        return {}  # a binary snapshot holds no vectors
    wanted = np.array(sorted(findings.vectors), dtype=np.int64)
    places = np.minimum(np.searchsorted(snapshot.ids, wanted), len(snapshot.ids) - 1)
    found: dict[int, bytes] = {}
    for passage_id, place in zip(wanted.tolist(), places.tolist(), strict=True):
        if snapshot.ids[place] == passage_id and np.isfinite(snapshot.codes[place]).all():
            found[passage_id] = snapshot.codes[place].tobytes()
    return found


def _set_counters(connection: Transaction) -> None:
    """Let ids go on behind the highest that was ever given out, as far as the tables know."""
    for name, statement in _LAST_IDS.items():
        last = connection.execute(statement).scalar()
        connection.execute(_CLEAR_COUNTER, {"name": name})
        connection.execute(_SET_COUNTER, {"name": name, "last": last})


def _rebuild_full_text(connection: Transaction) -> None:
    connection.exec_driver_sql("DROP TABLE IF EXISTS passages_fts")
    connection.exec_driver_sql(CREATE_FTS)
    rows: list[dict[str, object]] = []
    for document in walk_documents(connection):
        rows += document.fts_rows(document.text())
        if len(rows) >= _BATCH_ROWS:
            connection.execute(INSERT_FTS, rows)
            rows = []
    if rows:
        connection.execute(INSERT_FTS, rows)
