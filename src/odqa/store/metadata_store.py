"""Reading `odqa.sqlite`: documents, passages, vectors, full text. The truth; writing is in metadata_writer.py."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from odqa import settings
from odqa.errors import DamagedIndexError, StoreError
from odqa.protocols import EncoderIdentity, PassageIds
from odqa.store.allowed import allowed_passages
from odqa.store.blocks import BlockError, damaged_text, document_text
from odqa.store.filters import Expression
from odqa.store.forks import own_file
from odqa.store.one_state import Reads
from odqa.store.passage_rows import document_fields, read_passages
from odqa.store.read_only import ReadOnlyAccess
from odqa.store.schema import (
    APPLICATION_ID,
    COUNT_FTS,
    FIND_DOCUMENT,
    ORIGIN,
    SCHEMA_VERSION,
    SLICE,
    check_columns,
    damaged,
    documents,
    empty_wal,
    index_row,
    is_of_expression,
    leave_open,
    make_engine,
    outside_transaction,
    passages,
    search_fts,
    tombstones,
    translated_errors,
)
from odqa.types import Document, Passage

Lookup = Callable[[str, str], tuple[int, str] | None]


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

    Attributes:
        reads: which connection a thread reads with.
        damaged: whether damage was seen; closing then leaves `-wal` as it is.

    Raises:
        DamagedIndexError: the file is no database, or not one of odqa's.
        StoreError: the file was open in the parent when this process was forked.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open the file and look at its header."""
        own_file(path)  # at once: below, an error may be taken for a folder that cannot be written to
        self.path = path
        self._wal = path.with_name(path.name + "-wal")
        # A reader that closes last would play what lies in -wal into a file that may turn out to be damaged.
        self._leaves_wal = not writable and self._pending()
        self._engine = make_engine(path, writable=writable, parameters="mode=ro" if self._leaves_wal else "mode=rw")
        self._write_engine = self._engine.execution_options(writing=True)
        self._read_only: ReadOnlyAccess[Connection] | None = None
        self.reads = Reads(lambda: (self._read_only.connection if self._read_only else self._engine.connect)())
        self.damaged = False
        try:
            if not writable and not os.access(path, os.W_OK):
                self._read_only = self._without_side_files()
            try:
                self.schema_version = self._header()
            except DamagedIndexError:
                raise
            except StoreError:  # the folder cannot be written to, or the disk is full
                if writable or self._read_only is not None:
                    raise
                self._read_only = self._without_side_files()
                self.schema_version = self._header()
        except BaseException:
            self.close()
            raise

    def _pending(self) -> bool:
        """Tell whether transactions lie in `-wal`."""
        return self._wal.exists() and self._wal.stat().st_size > 0

    def _header(self) -> int:
        """Return the schema number of the file, after a look at whose it is."""
        with self.reading() as connection:
            application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            if version == SCHEMA_VERSION and application == APPLICATION_ID:
                check_columns(connection, self.path)
        if application != APPLICATION_ID:
            raise damaged(self.path, "it is empty or was not made by odqa")
        return version

    def _without_side_files(self) -> ReadOnlyAccess[Connection]:
        def connect(parameters: str) -> Connection:
            with translated_errors(self.path):
                connection = make_engine(self.path, writable=False, parameters=parameters, pooled=False).connect()
                try:
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema")
                except BaseException:
                    connection.close()
                    raise
                return connection

        return ReadOnlyAccess(self.path, connect=connect, close=Connection.close)

    def close(self, *, tidy: bool = False) -> None:
        """Close all connections; those to a damaged file stay open where closing would write to it.

        `tidy` lets a reader who saw no damage move what lies in `-wal` into the file, if it is the last one.
        """
        if self.damaged and self._pending():
            leave_open(self._engine, self.path)
            return
        self._engine.dispose()
        if tidy and self._leaves_wal and self._read_only is None:
            with contextlib.suppress(StoreError), translated_errors(self.path):  # whoever is next can do it as well
                engine = make_engine(self.path, writable=False, pooled=False)
                with engine.connect() as connection:
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction: one state of the index, whatever others write meanwhile."""
        with self._guarded(), self.reads.connection() as connection:
            yield connection

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Let this thread read in one transaction until the end of the block."""
        with self._guarded(), self.reads.one_state():
            yield

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a write transaction, rolled back by an exception and committed otherwise by the caller's `commit`."""
        with self._guarded(), self._write_engine.connect() as connection:
            yield connection

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run VACUUM, a checkpoint or a PRAGMA outside of transactions."""
        with self._guarded():
            return outside_transaction(self._engine, statement)

    def empty_wal(self) -> bool:
        """Move everything into the file and empty the WAL; False where a reader is in the way."""
        with self._guarded():
            return empty_wal(self._engine)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Translate errors, and remember that there was damage."""
        try:
            with translated_errors(self.path):
                yield
        except DamagedIndexError as error:
            self.damaged = self.damaged or not isinstance(error.__cause__, BlockError)
            raise

    def info(self) -> IndexInfo:
        """Read the row of `index_info`."""
        with self.reading() as connection:
            row = index_row(connection, self.path)
        try:
            uuid = UUID(row.uuid)
        except ValueError as error:
            raise damaged(self.path, f"its uuid is {row.uuid!r}") from error
        encoder = EncoderIdentity(row.encoder, row.encoder_revision, row.encoder_checksum, row.width)
        lengths = row.passage_tokens, row.title_tokens
        return IndexInfo(uuid, row.schema_version, row.generation, encoder, *lengths, row.created_by)

    def generation(self) -> int:
        """Return the number of the last write transaction; the cheap question whether anything changed."""
        with self.reading() as connection:
            found = connection.exec_driver_sql("SELECT generation FROM index_info").scalar()
        if not isinstance(found, int):
            raise damaged(self.path, f"its generation is {found!r}")
        return found

    def vector_index(self) -> str:
        """Return the type that the vector index is wanted of, one of `settings.VECTOR_INDEXES`."""
        with self.reading() as connection:
            found = connection.exec_driver_sql("SELECT vector_index FROM index_info").scalar()
        if found not in settings.VECTOR_INDEXES:
            raise damaged(self.path, f"its vector_index is {found!r}")
        return str(found)

    def counts(self) -> tuple[int, int, int]:
        """Count documents, living passages and tombstones."""
        with self.reading() as connection:
            tables = (documents, passages, tombstones)
            numbers = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
        return numbers[0], numbers[1], numbers[2]

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Read the living passages among `ids`, each with its text cut from one or two blocks of its document."""
        with self.reading() as connection:
            return read_passages(connection, ids)

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
                rows = connection.exec_driver_sql(search_fts(filtered=bool(filtered)), {**values, **filtered}).all()
            except OperationalError as error:
                if is_of_expression(error):
                    raise ValueError(f"not an FTS5 query: {expression!r} ({error.orig})") from error
                raise
        return [(passage_id, score) for passage_id, score in rows]

    def count_matches(self, expressions: Sequence[str], *, most: int) -> list[int] | None:
        """Count the passages that match each FTS5 expression, up to `most`; None if there are no more than that at all.

        Raises:
            ValueError: an expression is not an FTS5 query.
        """
        if self.last_passage() <= most:  # no number of passages is above their highest id
            return None
        with self.reading() as connection:
            try:
                return [
                    int(connection.execute(COUNT_FTS, {"expression": one, "most": most}).scalar_one())
                    for one in expressions
                ]
            except OperationalError as error:
                if is_of_expression(error):
                    raise ValueError(f"not an FTS5 query: {list(expressions)!r} ({error.orig})") from error
                raise

    def allowed(self, where: Expression | None) -> PassageIds | None:
        """Return the ids, ascending, of passages whose documents meet a filter; None, which means all, without one.

        Raises:
            ValueError: the filter looks at a field that no document has, or has too many conditions.
        """
        if where is None:
            return None
        with self.reading() as connection:
            return allowed_passages(connection, where)

    def document(self, doc_id: str) -> Document | None:
        """Read a document with its whole text, or None if the index has none of that id."""
        with self.reading() as connection:
            row = connection.execute(select(documents).where(documents.c.doc_id == doc_id)).one_or_none()
            if row is None:
                return None
            if row.doc_id != doc_id:  # SQLite trusts the order of an index, which a flipped bit may break
                raise damaged_text(doc_id, f"it is found as {row.doc_id!r}")
            try:
                text = document_text(connection, row.document_pk, length=row.length)
                sections, fields = document_fields(row.sections, row.metadata)
            except BlockError as error:
                raise damaged_text(doc_id, error) from error
            return Document(
                doc_id=row.doc_id,
                title=row.title,
                text=text,
                source=row.source,
                record=row.record,
                suffix=row.suffix,
                modified=row.modified,
                content_hash=row.content_hash,
                sections=sections,
                metadata=fields,
            )

    def doc_ids(self) -> list[str]:
        """List the ids of all documents, in their order."""
        with self.reading() as connection:
            return list(connection.scalars(select(documents.c.doc_id).order_by(documents.c.doc_id)))

    @contextmanager
    def lookup(self) -> Iterator[Lookup]:
        """Give a function (source, record) -> (document_pk, content_hash), or None where no document has that origin.

        It sees what was committed last, and keeps no transaction open between its calls.
        """
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()

            def find(source: str, record: str) -> tuple[int, str] | None:
                with self._guarded():
                    cursor.execute(FIND_DOCUMENT, (source, record))
                    found = cursor.fetchall()
                return (found[0][0], found[0][1]) if found else None

            yield find
        finally:
            connection.close()

    def last_passage(self) -> int:
        """Return the highest `passage_id` of a living passage, 0 where there is none."""
        with self.reading() as connection:
            return int(connection.exec_driver_sql("SELECT max(passage_id) FROM passages").scalar() or 0)

    def last_document(self) -> int:
        """Return the highest `document_pk`, 0 where there is none; new documents have higher ones."""
        with self.reading() as connection:
            return int(connection.execute(select(func.max(documents.c.document_pk))).scalar() or 0)

    def documents_under(self, location: str) -> Iterator[tuple[int, str, str, str]]:
        """Yield (document_pk, doc_id, source, record) of the documents at or below `location`, in the order of sources.

        They are read in slices, with no transaction open between them: the caller may write meanwhile.
        """
        folder = location.rstrip("/")
        # "0" follows "/" in the order of bytes: the range holds exactly what begins with the folder and a "/".
        below = (documents.c.source >= folder + "/") & (documents.c.source < folder + "0")
        columns = select(documents.c.document_pk, documents.c.doc_id, documents.c.source, documents.c.record)
        statement = (
            columns.where(below | (documents.c.source == location))
            .order_by(documents.c.source, documents.c.record)
            .limit(SLICE)
        )
        last: tuple[str, str] | None = None
        while True:
            with self.reading() as connection:
                page = connection.execute(statement if last is None else statement.where(ORIGIN > last)).all()  # noqa: SIM300
            yield from ((row[0], row[1], row[2], row[3]) for row in page)
            if len(page) < SLICE:
                return
            last = page[-1][2], page[-1][3]
