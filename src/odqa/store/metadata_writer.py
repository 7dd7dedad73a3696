"""Writing `odqa.sqlite`: every function is part of one write transaction of its caller, on its connection."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from odqa.protocols import PreparedDocument
from odqa.store.blocks import BlockError, block_rows, damaged_text, document_text
from odqa.store.codes import to_codes
from odqa.store.schema import (
    DELETE_FTS,
    INSERT_FTS,
    SLICE,
    Transaction,
    document_blocks,
    documents,
    passages,
    sliced,
    sql,
    vectors,
)
from odqa.types import Document

Rows = list[dict[str, Any]]

_SET_VECTOR_INDEX = sql("UPDATE index_info SET vector_index = :kind")


def set_vector_index(connection: Transaction, kind: str) -> None:
    """Remember the type that the vector index is wanted of, one of `settings.VECTOR_INDEXES`."""
    connection.execute(_SET_VECTOR_INDEX, {"kind": kind})


def check_prepared(prepared: Sequence[PreparedDocument], *, width: int) -> list[bytes]:
    """Look at everything that could fail later, and return the vectors' BLOBs, one string of bytes per document.

    Raises:
        ValueError: two documents share source and record; spans and vectors do not fit each other or the document;
            a field is of the wrong kind or cannot be written as UTF-8.
    """
    origins: set[tuple[str, str]] = set()
    blobs = []
    for one in prepared:
        document = one.document
        origin = document.source, document.record
        name = f"document {document.doc_id!r} from {document.source!r}"
        if origin in origins:
            raise ValueError(f"{name}: another document of the batch has the same source and record")
        origins.add(origin)
        if not document.doc_id:
            raise ValueError(f"{name}: doc_id is empty")
        if len(one.spans) != len(one.vectors):
            raise ValueError(f"{name}: {len(one.spans)} spans and {len(one.vectors)} vectors")
        for span in one.spans:
            if not span.start < span.end <= len(document.text):
                raise ValueError(
                    f"{name}: [{span.start}, {span.end}) is no passage of {len(document.text)} code points"
                )
        try:
            "".join((document.doc_id, document.title, *origin, document.suffix, document.content_hash)).encode()
            _document_row(document)
            blobs.append(to_codes(one.vectors, width=width).tobytes())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return blobs


def next_generation(connection: Transaction) -> int:
    """Count the generation up by one and return it; the first thing that a write transaction does."""
    connection.exec_driver_sql("UPDATE index_info SET generation = generation + 1")
    return int(connection.exec_driver_sql("SELECT generation FROM index_info").scalar_one())


def write_documents(
    connection: Transaction, prepared: Sequence[PreparedDocument], blobs: Sequence[bytes], *, generation: int
) -> list[str]:
    """Insert documents with their passages; one with a known source and record replaces what was there.

    Returns:
        The doc_ids in order: that of the document replaced, else its own, else its own with "~2", "~3" … when another
        source has it.
    """
    old = _existing(connection, [(one.document.source, one.document.record) for one in prepared])
    remove_contents(connection, [pk for pk, _ in old.values()], generation=generation)
    free_ids = _FreeIds(connection, [one.document.doc_id for one in prepared])
    document_pk, passage_id = _last_used(connection, "documents"), _last_used(connection, "passages")
    new: dict[str, Rows] = {name: [] for name in ("inserted", "updated", "blocks", "passages", "vectors", "fts")}
    doc_ids = []
    for one, blob in zip(prepared, blobs, strict=True):
        document = one.document
        known = old.get((document.source, document.record))
        if known is None:
            document_pk += 1
            pk, doc_id = document_pk, free_ids.take(document.doc_id)
        else:
            pk, doc_id = known
        doc_ids.append(doc_id)
        row = {**_document_row(document), "doc_id": doc_id, "document_pk": pk, "generation": generation}
        if known is None:
            path = document.doc_id.removesuffix(f"#{document.record}") if document.record else document.doc_id
            new["inserted"].append({**row, "path": path})
        else:
            new["updated"].append(row)
        new["blocks"] += block_rows(document.text, pk)
        size = len(blob) // max(len(one.spans), 1)
        for number, span in enumerate(one.spans):
            passage_id += 1
            key = {"passage_id": passage_id}
            new["passages"].append(
                {**key, "document_pk": pk, "start": span.start, "end": span.end, "generation": generation}
            )
            new["vectors"].append({**key, "vector": blob[number * size : (number + 1) * size]})
            new["fts"].append(fts_row(passage_id, document.title, span.of(document.text)))
    _insert(connection, new)
    return doc_ids


def delete_documents(connection: Transaction, doc_ids: Sequence[str], *, generation: int) -> list[str]:
    """Delete documents with all that was made from them, and return those of `doc_ids` that existed, in their order."""
    found: dict[str, int] = {}
    for part in sliced(list(dict.fromkeys(doc_ids))):
        rows = documents.select().with_only_columns(documents.c.doc_id, documents.c.document_pk)
        found |= {row[0]: row[1] for row in connection.execute(rows.where(documents.c.doc_id.in_(part)))}
    remove_contents(connection, list(found.values()), generation=generation)
    for pks in sliced(list(found.values())):
        connection.execute(documents.delete().where(documents.c.document_pk.in_(pks)))
    return [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id in found]


def remove_contents(connection: Transaction, document_pks: Sequence[int], *, generation: int) -> None:
    """Remove text, passages, vectors and full text of documents, and leave tombstones; the documents' rows stay."""
    for pk in document_pks:
        row = connection.execute(documents.select().where(documents.c.document_pk == pk)).one()
        try:  # FTS5 has to be handed the very text that it was given
            text = document_text(connection, pk, length=row.length)
        except BlockError as error:
            raise damaged_text(row.doc_id, error) from error
        owned = connection.execute(passages.select().where(passages.c.document_pk == pk)).all()
        rows = [fts_row(one.passage_id, row.title, text[one.start : one.end]) for one in owned]
        if rows:
            connection.execute(DELETE_FTS, rows)
    for part in sliced(document_pks):
        pks = {"pks": list(part)}
        ids = "SELECT passage_id FROM passages WHERE document_pk IN :pks"
        bury = f"INSERT INTO tombstones (passage_id, generation) SELECT passage_id, :generation FROM ({ids})"  # noqa: S608
        connection.execute(sql(bury, expanding="pks"), {**pks, "generation": generation})
        for statement in (
            f"DELETE FROM vectors WHERE passage_id IN ({ids})",  # noqa: S608
            "DELETE FROM passages WHERE document_pk IN :pks",
            "DELETE FROM document_blocks WHERE document_pk IN :pks",
        ):
            connection.execute(sql(statement, expanding="pks"), pks)


def fts_row(passage_id: int, title: str, text: str) -> dict[str, Any]:
    """Return the row of the full-text index for a passage: the same for the same text, as deleting it demands."""
    return {"rowid": passage_id, "title": _indexable(title), "text": _indexable(text)}


def _indexable(text: str) -> str:
    """Replace what FTS5 cannot be given (lone surrogates) or would stop at (NUL) by separators."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def _document_row(document: Document) -> dict[str, Any]:
    for key, value in document.metadata.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"metadata field {key!r} is neither text, number, truth value nor null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"metadata field {key!r} is {value}, which JSON cannot hold")
    return {
        "source": document.source,
        "record": document.record,
        "title": document.title,
        "suffix": document.suffix,
        "modified": float(document.modified),
        "content_hash": document.content_hash,
        "length": len(document.text),
        "sections": json.dumps([[s.span.start, s.span.end, s.page, s.heading] for s in document.sections]),
        "metadata": json.dumps(dict(document.metadata)),
    }


def _insert(connection: Transaction, new: dict[str, Rows]) -> None:
    """Run one bulk statement per table; documents come before what refers to them."""
    columns = [column for column in documents.c if column.name not in ("document_pk", "path")]  # the path stays
    assignments = ", ".join(f"{column.name} = :{column.name}" for column in columns)
    update = f"UPDATE documents SET {assignments} WHERE document_pk = :document_pk"  # noqa: S608 - names of columns
    for statement, rows in (
        (documents.insert(), new["inserted"]),
        (sql(update), new["updated"]),
        (document_blocks.insert(), new["blocks"]),
        (passages.insert(), new["passages"]),
        (vectors.insert(), new["vectors"]),
        (INSERT_FTS, new["fts"]),
    ):
        if rows:
            connection.execute(statement, rows)


def _existing(connection: Transaction, origins: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, str]]:
    """Return (source, record) -> (document_pk, doc_id) of the documents that are there already."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for start in range(0, len(origins), SLICE // 2):
        part = origins[start : start + SLICE // 2]
        # CROSS JOIN keeps SQLite from scanning all documents, as it does for "(source, record) IN (...)".
        statement = (
            f"WITH wanted (source, record) AS (VALUES {', '.join(['(?, ?)'] * len(part))})"  # noqa: S608 - marks only
            " SELECT d.source, d.record, d.document_pk, d.doc_id FROM wanted CROSS JOIN documents AS d"
            " ON d.source = wanted.source AND d.record = wanted.record"
        )
        rows = connection.exec_driver_sql(statement, tuple(value for origin in part for value in origin))
        found |= {(row[0], row[1]): (row[2], row[3]) for row in rows}
    return found


def _last_used(connection: Transaction, table: str) -> int:
    """Return the highest id that an AUTOINCREMENT table ever gave out."""
    statement = sql("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(statement, {"name": table}).scalar() or 0)


class _FreeIds:
    """Finds doc_ids that no document has: the wanted one, else with "~2", "~3" … behind it."""

    def __init__(self, connection: Transaction, wanted: Sequence[str]) -> None:
        self._connection = connection
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        for part in sliced(wanted):
            rows = documents.select().with_only_columns(documents.c.doc_id).where(documents.c.doc_id.in_(part))
            self._taken |= set(connection.scalars(rows))

    def take(self, wanted: str) -> str:
        if wanted not in self._taken:
            self._taken.add(wanted)
            return wanted
        if wanted not in self._next:
            # "\x7f" follows "~" in the order of bytes: the range holds exactly what begins with the id and a "~".
            column = documents.c.doc_id
            inside = (column >= wanted + "~") & (column < wanted + "\x7f")
            self._taken |= set(self._connection.scalars(documents.select().with_only_columns(column).where(inside)))
            self._next[wanted] = 2
        while (doc_id := f"{wanted}~{self._next[wanted]}") in self._taken:
            self._next[wanted] += 1
        self._taken.add(doc_id)
        return doc_id
