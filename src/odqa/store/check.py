"""Looking through an index for contradictions, and mending those that can be mended without the documents.

What is damaged inside a document (its text, a span, a vector) cannot be mended from the index: its contents are removed
and its content hash is emptied, so that the next indexing run reads its file again.
"""

from __future__ import annotations

import numpy as np

from odqa.errors import DamagedIndexError
from odqa.protocols import PassageIds
from odqa.store.codes import CODE
from odqa.store.faults import fault_point
from odqa.store.metadata_store import SqliteMetadataStore, document_text, sliced
from odqa.store.metadata_writer import fts_row, next_generation
from odqa.store.recovery import VectorFollower
from odqa.store.schema import CREATE_FTS, INSERT_FTS, Transaction, documents, passages, sql, vectors
from odqa.store.snapshot import Snapshot
from odqa.store.vector_rows import BATCH_ROWS, vector_stream
from odqa.types import CheckReport, Problem

# Rows that refer to nothing: what they are, where they stand, and which of them.
_ORPHANS = (
    ("vector without passage", "vectors", "passage_id NOT IN (SELECT passage_id FROM passages)"),
    ("block without document", "document_blocks", "document_pk NOT IN (SELECT document_pk FROM documents)"),
    ("passage without document", "passages", "document_pk NOT IN (SELECT document_pk FROM documents)"),
    ("tombstone of a living passage", "tombstones", "passage_id IN (SELECT passage_id FROM passages)"),
)
# Passages that cannot be served as they are.
_BAD_PASSAGES = (
    ("passage without vector", "passage_id NOT IN (SELECT passage_id FROM vectors)"),
    (
        "vector of wrong length",
        "passage_id IN (SELECT passage_id FROM vectors WHERE typeof(vector) != 'blob'"
        " OR length(vector) != 2 * (SELECT width FROM index_info))",
    ),
    (
        "span outside its document",
        '"start" < 0 OR "end" <= "start" OR "end" > (SELECT length FROM documents'
        " WHERE documents.document_pk = passages.document_pk)",
    ),
)
_FTS_DIFFERENCE = (
    "SELECT (SELECT count(*) FROM passages WHERE passage_id NOT IN (SELECT id FROM passages_fts_docsize))"
    " + (SELECT count(*) FROM passages_fts_docsize WHERE id NOT IN (SELECT passage_id FROM passages))"
)


def check_store(store: SqliteMetadataStore, follower: VectorFollower, *, repair: bool) -> CheckReport:
    """Look through all tables and the snapshot. The caller holds the lock of the folder.

    Args:
        store: the metadata store, writable (the check of the full-text index is a statement that writes).
        follower: the vectors of the same index.
        repair: mend what can be mended.

    Returns:
        The problems, each with whether it was mended, and the numbers of documents and passages afterwards.
    """
    problems = [Problem("sqlite", detail) for detail in _sqlite_problems(store)]
    if problems:
        return CheckReport(tuple(problems), 0, 0)
    found = _row_problems(store)
    bad_documents = _document_problems(store)
    details = [*found, *((kind, detail) for kind, detail, _ in bad_documents)]
    fts = _fts_problem(store)
    problems = [Problem(kind, detail, mended=repair) for kind, detail in details]
    problems += [Problem("full text", fts, mended=repair)] if fts else []
    if problems and repair:
        _mend(store, {pk for _, _, pk in bad_documents})
    if repair or not problems:
        problems += [Problem("snapshot", detail, mended=repair) for detail in _snapshot_problems(store, follower)]
    if problems and repair:
        follower.write_snapshot()
    count_documents, count_passages, _ = store.counts()
    return CheckReport(tuple(problems), count_documents, count_passages)


def _sqlite_problems(store: SqliteMetadataStore) -> list[str]:
    try:
        return [str(row[0]) for row in store.run("PRAGMA integrity_check") if row[0] != "ok"]
    except DamagedIndexError as error:
        return [str(error)]


def _row_problems(store: SqliteMetadataStore) -> list[tuple[str, str]]:
    found = []
    with store.reading() as connection:
        for kind, table, condition in _ORPHANS:
            count = connection.execute(sql(f"SELECT count(*) FROM {table} WHERE {condition}")).scalar_one()  # noqa: S608
            if count:
                found.append((kind, f"{count} rows of {table}"))
    return found


def _document_problems(store: SqliteMetadataStore) -> list[tuple[str, str, int]]:
    """Return (kind, detail, document_pk) of what is wrong inside documents."""
    found: list[tuple[str, str, int]] = []
    with store.reading() as connection:
        for kind, condition in _BAD_PASSAGES:
            bad = connection.execute(sql(f"SELECT passage_id, document_pk FROM passages WHERE {condition}")).all()  # noqa: S608
            found += [(kind, f"passage {row[0]}", row[1]) for row in bad]
        for passage_id, document_pk in _not_finite(connection):
            found.append(("vector not finite", f"passage {passage_id}", document_pk))
        columns = (documents.c.document_pk, documents.c.doc_id, documents.c.length)
        for pk, doc_id, length in connection.execute(documents.select().with_only_columns(*columns)).all():
            try:
                stored = len(document_text(connection, pk))
            except UnicodeDecodeError as error:
                found.append(("text of a document", f"{doc_id}: {error}", pk))
                continue
            if stored != length:
                found.append(("text of a document", f"{doc_id}: {stored} code points, not {length}", pk))
    return found


def _not_finite(connection: Transaction) -> list[tuple[int, int]]:
    """Return (passage_id, document_pk) of vectors of the right length that hold infinities or no numbers."""
    found: list[int] = []
    statement = sql("SELECT passage_id, vector FROM vectors WHERE length(vector) = 2 * (SELECT width FROM index_info)")
    for rows in connection.execute(statement.execution_options(yield_per=BATCH_ROWS)).partitions():
        codes = np.frombuffer(b"".join(row[1] for row in rows), dtype=CODE).reshape(len(rows), -1)
        found += [rows[int(row)][0] for row in np.flatnonzero(~np.isfinite(codes).all(axis=1))]
    columns = (passages.c.passage_id, passages.c.document_pk)
    owners = passages.select().with_only_columns(*columns)
    return [
        (row[0], row[1])
        for part in sliced(found)
        for row in connection.execute(owners.where(passages.c.passage_id.in_(part)))
    ]


def _fts_problem(store: SqliteMetadataStore) -> str | None:
    try:
        with store.writing() as connection:  # never committed
            difference = connection.execute(sql(_FTS_DIFFERENCE)).scalar_one()
            if difference:
                return f"{difference} passages stand in one of passages and passages_fts only"
            connection.execute(sql("INSERT INTO passages_fts (passages_fts) VALUES ('integrity-check')"))
    except DamagedIndexError:
        return "its pages contradict each other"
    return None


def _snapshot_problems(store: SqliteMetadataStore, follower: VectorFollower) -> list[str]:
    """Tell what is wrong with the snapshots; that there is none, or an old one, is no problem."""
    before = follower.notices
    snapshot = follower.good_snapshot()
    problems = [notice for notice in follower.notices if notice not in before]
    if snapshot is not None:
        problems += _snapshot_differences(store, snapshot)
    return problems


def _snapshot_differences(store: SqliteMetadataStore, snapshot: Snapshot) -> list[str]:
    with store.reading() as connection:
        since = {"generation": snapshot.generation}
        old = sql("SELECT passage_id FROM passages WHERE generation <= :generation ORDER BY passage_id")
        expected: PassageIds = np.fromiter(connection.scalars(old, since), dtype=np.int64)
        died = sql("SELECT passage_id FROM tombstones WHERE generation > :generation")
        dead: PassageIds = np.fromiter(connection.scalars(died, since), dtype=np.int64)
    problems = []
    missing = np.setdiff1d(expected, snapshot.ids)
    if len(missing):
        problems.append(f"{snapshot.path.name} lacks {len(missing)} passages")
    foreign = np.setdiff1d(np.setdiff1d(snapshot.ids, expected), dead)
    if len(foreign):
        problems.append(f"{snapshot.path.name} holds {len(foreign)} passages that are not in odqa.sqlite")
    different = 0
    with vector_stream(store) as stream:
        for ids, codes in stream.batches:
            shared, rows, its_rows = np.intersect1d(ids, snapshot.ids, assume_unique=True, return_indices=True)
            equal = codes[rows].view(np.uint16) == snapshot.codes[its_rows].view(np.uint16)
            different += len(shared) - int(equal.all(axis=1).sum())
    if different:
        problems.append(f"{snapshot.path.name} differs from odqa.sqlite in {different} vectors")
    return problems


def _mend(store: SqliteMetadataStore, bad_documents: set[int]) -> None:
    """Remove orphans, empty damaged documents, and write the full-text index anew: one transaction."""
    with store.writing() as connection:
        generation = next_generation(connection)
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for _, table, condition in _ORPHANS:
            connection.execute(sql(f"DELETE FROM {table} WHERE {condition}"))  # noqa: S608
        for pk in sorted(bad_documents):
            _empty(connection, pk, generation=generation)
        # Passages without document may have had vectors.
        connection.execute(vectors.delete().where(sql("passage_id NOT IN (SELECT passage_id FROM passages)")))
        _rebuild_fts(connection)
        fault_point("check.before-commit")
        connection.commit()
        fault_point("check.after-commit")


def _empty(connection: Transaction, document_pk: int, *, generation: int) -> None:
    values = {"pk": document_pk}
    ids = "SELECT passage_id FROM passages WHERE document_pk = :pk"
    bury = f"INSERT OR REPLACE INTO tombstones SELECT passage_id, {generation:d} FROM ({ids})"  # noqa: S608
    connection.execute(sql(bury), values)
    connection.execute(sql(f"DELETE FROM vectors WHERE passage_id IN ({ids})"), values)  # noqa: S608
    connection.execute(sql("DELETE FROM passages WHERE document_pk = :pk"), values)
    connection.execute(sql("DELETE FROM document_blocks WHERE document_pk = :pk"), values)
    connection.execute(sql("UPDATE documents SET length = 0, content_hash = '' WHERE document_pk = :pk"), values)


def _rebuild_fts(connection: Transaction) -> None:
    connection.exec_driver_sql("DROP TABLE passages_fts")
    connection.exec_driver_sql(CREATE_FTS)
    columns = (documents.c.document_pk, documents.c.title)
    for pk, title in connection.execute(documents.select().with_only_columns(*columns)).all():
        text = document_text(connection, pk)
        owned = connection.execute(passages.select().where(passages.c.document_pk == pk)).all()
        rows = [fts_row(row.passage_id, title, text[row.start : row.end]) for row in owned]
        if rows:
            connection.execute(INSERT_FTS, rows)
