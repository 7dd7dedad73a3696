"""Reading `odqa.sqlite`: documents, passages, vectors, full text. The truth; writing is in metadata_writer.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from sqlalchemy import Connection, Row, Select, func, select
from sqlalchemy.exc import OperationalError

from odqa.protocols import EncoderIdentity, PassageIds
from odqa.store.filters import Condition, conditions_sql
from odqa.store.schema import (
    APPLICATION_ID,
    BLOCK_CODE_POINTS,
    ORIGIN,
    SLICE,
    damaged,
    document_blocks,
    documents,
    index_info,
    make_engine,
    outside_transaction,
    passages,
    search_fts,
    sql,
    tombstones,
    translated_errors,
)
from odqa.types import Document, Passage, Section, Span

SQLITE_ERROR = 1  # "SQL error or missing database": here, what FTS5 says of an expression
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The row of `index_info`."""

    uuid: UUID
    schema_version: int
    generation: int
    encoder: EncoderIdentity
    passage_tokens: int
    title_tokens: int
    created_by: str


class SqliteMetadataStore:
    """The tables of one index. Safe to use from many threads: every call takes a connection of its own.

    Args:
        path: an existing `odqa.sqlite`.
        writable: whether transactions may be opened with `writing`.

    Raises:
        DamagedIndexError: the file is no database, or not one of odqa's.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open the file and look at its header."""
        self.path = path
        self._engine = make_engine(path, writable=writable)
        self._write_engine = self._engine.execution_options(writing=True)
        try:
            with self.reading() as connection:
                application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
                self.schema_version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            if application != APPLICATION_ID:
                raise damaged(path, "it is empty or was not made by odqa")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction: one state of the index, whatever others write meanwhile."""
        with translated_errors(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a write transaction, rolled back by an exception and committed otherwise by the caller's `commit`."""
        with translated_errors(self.path), self._write_engine.connect() as connection:
            yield connection

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run VACUUM, a checkpoint or a PRAGMA outside of transactions."""
        with translated_errors(self.path):
            return outside_transaction(self._engine, statement)

    def info(self) -> IndexInfo:
        """Read the row of `index_info`."""
        with self.reading() as connection:
            row = connection.execute(select(index_info)).one_or_none()
        if row is None:
            raise damaged(self.path, "it does not say which encoder made it")
        encoder = EncoderIdentity(row.encoder, row.encoder_revision, row.encoder_checksum, row.width)
        return IndexInfo(
            UUID(row.uuid),
            row.schema_version,
            row.generation,
            encoder,
            row.passage_tokens,
            row.title_tokens,
            row.created_by,
        )

    def generation(self) -> int:
        """Return the number of the last write transaction; the cheap question whether anything changed."""
        with self.reading() as connection:
            return int(connection.exec_driver_sql("SELECT generation FROM index_info").scalar_one())

    def counts(self) -> tuple[int, int, int]:
        """Count documents, living passages and tombstones."""
        with self.reading() as connection:
            tables = (documents, passages, tombstones)
            numbers = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
        return numbers[0], numbers[1], numbers[2]

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Read the living passages among `ids`, each with its text cut from one or two blocks of its document."""
        found: dict[int, Passage] = {}
        with self.reading() as connection:
            parsed: dict[int, tuple[list[Section], dict[str, Any]]] = {}
            for part in sliced([int(passage_id) for passage_id in ids]):
                rows: dict[int, list[Row[Any]]] = {}
                for row in connection.execute(_passage_select().where(passages.c.passage_id.in_(part))):
                    rows.setdefault(row.passage_id, []).append(row)
                for passage_id, blocks in rows.items():
                    found[passage_id] = _passage(blocks, parsed)
        return found

    def living(self, ids: Sequence[int]) -> set[int]:
        """Return those of `ids` that are ids of living passages."""
        with self.reading() as connection:
            return {
                passage_id
                for part in sliced(ids)
                for passage_id in connection.scalars(
                    select(passages.c.passage_id).where(passages.c.passage_id.in_(part))
                )
            }

    def search_text(
        self,
        expression: str,
        *,
        top_k: int,
        allowed: PassageIds | None = None,
        title_weight: float = 1.0,
        text_weight: float = 1.0,
    ) -> list[tuple[int, float]]:
        """Return (passage_id, BM25 score, higher is better) of the best matches, equal scores in the order of ids.

        Args:
            expression: an FTS5 query over the columns `title` and `text`; "" matches nothing.
            top_k: most matches to return, at least 1.
            allowed: ids to search among; None means all, an empty array none.
            title_weight: weight of matches in the title.
            text_weight: weight of matches in the text.

        Raises:
            ValueError: `expression` is not an FTS5 query, or `top_k` is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, must be at least 1")
        if not expression.strip() or (allowed is not None and not len(allowed)):
            return []
        values = {"expression": expression, "top_k": top_k, "title_weight": title_weight, "text_weight": text_weight}
        filtered = {} if allowed is None else {"allowed": json.dumps(allowed.tolist())}
        with self.reading() as connection:
            try:
                rows = connection.execute(search_fts(filtered=bool(filtered)), {**values, **filtered}).all()
            except OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", None) == SQLITE_ERROR:  # not the file, not the disk
                    raise ValueError(f"not an FTS5 query: {expression!r} ({error.orig})") from error
                raise
        return [(row.rowid, row.score) for row in rows]

    def allowed(self, where: Sequence[Condition]) -> PassageIds | None:
        """Return the ids, ascending, of passages whose documents satisfy all conditions; None without conditions."""
        if not where:
            return None
        expression, parameters = conditions_sql(where)
        owners = select(passages.c.passage_id).join(documents, documents.c.document_pk == passages.c.document_pk)
        statement = owners.where(sql(expression)).order_by(passages.c.passage_id)
        with self.reading() as connection:
            return np.fromiter(connection.scalars(statement, parameters), dtype=np.int64)

    def document(self, doc_id: str) -> Document | None:
        """Read a document with its whole text, or None if the index has none of that id."""
        with self.reading() as connection:
            row = connection.execute(select(documents).where(documents.c.doc_id == doc_id)).one_or_none()
            if row is None:
                return None
            return Document(
                doc_id=row.doc_id,
                title=row.title,
                text=document_text(connection, row.document_pk),
                source=row.source,
                record=row.record,
                suffix=row.suffix,
                modified=row.modified,
                content_hash=row.content_hash,
                sections=tuple(_sections(row.sections)),
                metadata=json.loads(row.metadata),
            )

    def doc_ids(self) -> list[str]:
        """List the ids of all documents, in their order."""
        with self.reading() as connection:
            return list(connection.scalars(select(documents.c.doc_id).order_by(documents.c.doc_id)))

    def known(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return (source, record) -> (doc_id, content_hash) of all documents."""
        columns = (documents.c.source, documents.c.record, documents.c.doc_id, documents.c.content_hash)
        with self.reading() as connection:
            return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(select(*columns))}

    def documents_under(self, location: str) -> Iterator[tuple[str, str, str]]:
        """Yield (doc_id, source, record) of the documents whose source is `location` or lies below it, in that order.

        They are read in slices, with no transaction open between them: the caller may write meanwhile.
        """
        folder = location.rstrip("/")
        # "0" follows "/" in the order of bytes: the range holds exactly what begins with the folder and a "/".
        below = (documents.c.source >= folder + "/") & (documents.c.source < folder + "0")
        columns = select(documents.c.doc_id, documents.c.source, documents.c.record)
        statement = (
            columns.where(below | (documents.c.source == location))
            .order_by(documents.c.source, documents.c.record)
            .limit(SLICE)
        )
        last: tuple[str, str] | None = None
        while True:
            with self.reading() as connection:
                page = connection.execute(statement if last is None else statement.where(ORIGIN > last)).all()  # noqa: SIM300
            yield from ((row[0], row[1], row[2]) for row in page)
            if len(page) < SLICE:
                return
            last = page[-1][1], page[-1][2]


def sliced(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut values into slices that fit into an IN list."""
    for start in range(0, len(values), SLICE):
        yield values[start : start + SLICE]


def document_text(connection: Connection, document_pk: int) -> str:
    """Join the blocks of a document."""
    statement = (
        select(document_blocks.c.text)
        .where(document_blocks.c.document_pk == document_pk)
        .order_by(document_blocks.c.start)
    )
    return "".join(decode_text(block) for block in connection.scalars(statement))


def encode_text(text: str) -> bytes:
    """Encode a block of text; lone surrogates survive, and as a BLOB so do NUL characters in every SQL function."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(block: bytes) -> str:
    """Undo `encode_text`."""
    return block.decode("utf-8", "surrogatepass")


def _passage_select() -> Select[Any]:
    blocks = document_blocks.c
    touching = (blocks.document_pk == passages.c.document_pk) & (blocks.start < passages.c.end)
    return (
        select(
            passages,
            documents.c.doc_id,
            documents.c.title,
            documents.c.source,
            documents.c.sections,
            documents.c.metadata,
            blocks.start.label("block_start"),
            blocks.text.label("block"),
        )
        .join(documents, documents.c.document_pk == passages.c.document_pk)
        .join(document_blocks, touching & (blocks.start > passages.c.start - BLOCK_CODE_POINTS))
        .order_by(passages.c.passage_id, blocks.start)
    )


def _passage(blocks: list[Row[Any]], parsed: dict[int, tuple[list[Section], dict[str, Any]]]) -> Passage:
    row = blocks[0]
    if row.document_pk not in parsed:
        parsed[row.document_pk] = _sections(row.sections), json.loads(row.metadata)
    sections, fields = parsed[row.document_pk]
    span = Span(row.start, row.end)
    text = "".join(decode_text(block.block) for block in blocks)
    return Passage(
        passage_id=row.passage_id,
        doc_id=row.doc_id,
        title=row.title,
        text=text[span.start - row.block_start : span.end - row.block_start],
        span=span,
        source=row.source,
        sections=tuple(section for section in sections if section.span.overlaps(span)),
        metadata=fields,
    )


def _sections(stored: str) -> list[Section]:
    return [Section(Span(start, end), page, heading) for start, end, page, heading in json.loads(stored)]
