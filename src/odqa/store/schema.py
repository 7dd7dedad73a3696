"""The tables of `odqa.sqlite`, the full-text index, the pragmas, and how connections and transactions are opened."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    QueuePool,
    Row,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    bindparam,
    create_engine,
    event,
    text,
    tuple_,
)
from sqlalchemy.exc import DatabaseError

from odqa.errors import DamagedIndexError, StoreError
from odqa.store.forks import abandon_in_children, never_close, own_file, refuse_in_this_process

DATABASE_NAME = "odqa.sqlite"
SCHEMA_VERSION = 3
SET_SCHEMA_VERSION = f"PRAGMA user_version={SCHEMA_VERSION}"
APPLICATION_ID = 0x6F647161  # "odqa", in the header of the SQLite file
PAGE_BYTES = 32768  # holds 15 vectors of 1024 values; 16384 bytes, as in older files, hold 7 and waste an eighth
BLOCK_CODE_POINTS = 32768
BUSY_SECONDS = 60.0
WAL_SECONDS = 5.0  # how long a compaction waits for readers to let go of the WAL
_WAIT_FOR_READERS = f"PRAGMA busy_timeout={WAL_SECONDS * 1000:.0f}"
_WAIT_AS_EVER = f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}"
SLICE = 500  # most values of an IN list

# What SQLite says of a statement that it does not understand, or may not run now; whatever the file holds.
_OF_STATEMENTS = ("near ", "unrecognized", "no such function", "no such module", "too many", "wrong number", "cannot ")
# What FTS5 says of an expression; anything else that goes wrong in a search comes of the file or the disk.
_OF_EXPRESSIONS = ("fts5", "no such column", "unterminated string", "unknown special query", "expected integer")

# A connection inside a transaction, for those who only pass it on.
Transaction: TypeAlias = Connection

T = TypeVar("T")

metadata = MetaData()

index_info = Table(
    "index_info",
    metadata,
    Column("one", Integer, primary_key=True),
    Column("uuid", Text, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("compacted_generation", Integer, nullable=False),
    Column("encoder", Text, nullable=False),
    Column("encoder_revision", Text, nullable=False),
    Column("encoder_checksum", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("passage_tokens", Integer, nullable=False),
    Column("title_tokens", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("vector_index", Text, nullable=False, server_default="auto"),  # last: added by schema 3
)
documents = Table(
    "documents",
    metadata,
    Column("document_pk", Integer, primary_key=True),
    Column("doc_id", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("record", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("modified", Float, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("length", Integer, nullable=False),
    Column("sections", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("path", Text, nullable=False, server_default=""),  # last: added by schema 2
    UniqueConstraint("source", "record"),
    sqlite_autoincrement=True,
)
document_blocks = Table(
    "document_blocks",
    metadata,
    Column("document_pk", ForeignKey("documents.document_pk"), primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("text", LargeBinary, nullable=False),
    Column("checksum", Integer, nullable=False, server_default="0"),  # added by schema 2
)
passages = Table(
    "passages",
    metadata,
    Column("passage_id", Integer, primary_key=True),
    Column("document_pk", ForeignKey("documents.document_pk"), nullable=False, index=True),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    sqlite_autoincrement=True,
)
vectors = Table(
    "vectors",
    metadata,
    Column("passage_id", ForeignKey("passages.passage_id"), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
)
tombstones = Table(
    "tombstones",
    metadata,
    Column("passage_id", Integer, primary_key=True),
    Column("generation", Integer, nullable=False, index=True),
)

TABLES = (*metadata.tables, "passages_fts")
ORIGIN = tuple_(documents.c.source, documents.c.record)  # names a document's origin; unique

FTS_ARGUMENTS = "title, text, content='', tokenize='porter unicode61'"
CREATE_FTS = f"CREATE VIRTUAL TABLE passages_fts USING fts5({FTS_ARGUMENTS})"
INSERT_FTS = text("INSERT INTO passages_fts (rowid, title, text) VALUES (:rowid, :title, :text)")
DELETE_FTS = text(
    "INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', :rowid, :title, :text)"
)
FIND_DOCUMENT = "SELECT document_pk, content_hash FROM documents WHERE source = ? AND record = ?"
_ALLOWED = " AND +rowid IN (SELECT value FROM json_each(:allowed))"
_FTS_AS_MADE = "SELECT sql FROM sqlite_schema WHERE name = 'passages_fts'"
_COLUMNS = (
    'SELECT made.value, own.cid, own.name, own.type, own."notnull", own.pk'
    " FROM json_each(?) AS made, pragma_table_info(made.value) AS own"
)
_SEARCH_FTS = (
    "SELECT rowid, -bm25(passages_fts, :title_weight, :text_weight) AS score FROM passages_fts"
    " WHERE passages_fts MATCH :expression{allowed} ORDER BY score DESC, rowid LIMIT :top_k"
)


COUNT_FTS = text("SELECT count(*) FROM (SELECT 1 FROM passages_fts WHERE passages_fts MATCH :expression LIMIT :most)")


def search_fts(*, filtered: bool) -> str:
    """Return the full-text search; `filtered` by a JSON array `allowed`, tested row by row after the match."""
    return _SEARCH_FTS.format(allowed=_ALLOWED if filtered else "")


def sql(statement: str, *, expanding: str | None = None) -> TextClause:
    """Return a textual statement; the list bound to `expanding` is spread over an IN list."""
    clause = text(statement)
    return clause.bindparams(bindparam(expanding, expanding=True)) if expanding else clause


class _Connection(sqlite3.Connection):
    """A connection that is never used, nor closed, by a child made by fork."""

    path: Path
    file: tuple[int, int]

    def abandon(self) -> None:
        """Leave everything to the parent."""
        never_close(self)
        refuse_in_this_process(self.file)


_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()


def index_row(connection: Connection, path: Path) -> Row[Any]:
    """Read the row of `index_info`.

    Raises:
        DamagedIndexError: it is not there, or holds values of another kind than it was given.
    """
    row = connection.execute(index_info.select()).one_or_none()
    if row is None:
        raise damaged(path, "it does not say which encoder made it")
    for column, value in zip(index_info.c, row, strict=True):
        if not isinstance(value, column.type.python_type):
            raise damaged(path, f"its {column.name} is {value!r}")
    return row


def check_columns(connection: Connection, path: Path) -> None:
    """Compare the tables of a file of the present schema with those that it was made with.

    SQLite reads their definitions from the file: with a flipped bit in one, a column may hold other values than were
    written, and no page contradicts another. A table that is missing is told by whatever needs it, and by the check.

    Raises:
        DamagedIndexError: a column is missing, or is another than it was.
    """
    found = {tuple(row) for row in connection.exec_driver_sql(_COLUMNS, (json.dumps(list(metadata.tables)),))}
    if connection.exec_driver_sql(_FTS_AS_MADE).scalar() not in (None, CREATE_FTS):
        raise damaged(path, "its table passages_fts is not as it was made")
    there = {column[0] for column in found}
    for other in {column for column in _columns() if column[0] in there} ^ found:
        raise damaged(path, f"its table {other[0]} is not as it was made")


@cache
def _columns() -> frozenset[tuple[str, int, str, str, int, int]]:
    """Return table, place, name, type, "not null" and place in the primary key (0: none) of each column."""
    return frozenset(
        (table.name, at, column.name, str(column.type), int(not column.nullable), keys.get(column.name, 0))
        for table in metadata.tables.values()
        for keys in ({key.name: place for place, key in enumerate(table.primary_key.columns, start=1)},)
        for at, column in enumerate(table.columns)
    )


def sliced(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut values into slices that fit into an IN list."""
    for start in range(0, len(values), SLICE):
        yield values[start : start + SLICE]


def make_engine(path: Path, *, writable: bool, parameters: str = "mode=rw", pooled: bool = True) -> Engine:
    """Return an engine on an existing file: a connection per use, real transactions, waiting instead of "locked".

    Nothing is created or changed by opening: a missing file is an error. A transaction takes the write lock at its
    beginning when its connection has the execution option `writing`, so that it cannot fail in its middle.

    Args:
        path: the file.
        writable: whether statements that write are let through.
        parameters: of SQLite's URI; see read_only.py.
        pooled: whether connections are kept for the next use.
    """
    uri = f"{path.absolute().as_uri()}?{parameters}"

    def connect() -> sqlite3.Connection:
        file = own_file(path)
        options: dict[str, Any] = {"uri": True, "check_same_thread": False, "isolation_level": None}
        connection = sqlite3.connect(uri, timeout=BUSY_SECONDS, factory=_Connection, **options)
        connection.path, connection.file = path, file
        _connections.add(connection)
        abandon_in_children(connection)
        return connection

    pool: dict[str, Any] = (
        {"poolclass": QueuePool, "pool_size": 8, "max_overflow": -1} if pooled else {"poolclass": NullPool}
    )
    engine = create_engine("sqlite+pysqlite://", creator=connect, **pool)

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - type of SQLAlchemy's pool
        # FULL, not NORMAL: a commit that a snapshot has seen must outlive a power cut.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"query_only={'OFF' if writable else 'ON'}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def create_database(path: Path, info: dict[str, str | int]) -> None:
    """Make a new file with all tables and the row of `index_info`; no file of that name may exist."""
    sqlite3.connect(path).close()
    engine = make_engine(path, writable=True)
    try:
        driver = engine.raw_connection()
        try:
            for pragma in (
                f"page_size={PAGE_BYTES}",
                "journal_mode=WAL",
                f"application_id={APPLICATION_ID}",
            ):
                driver.cursor().execute(f"PRAGMA {pragma}")
            driver.cursor().execute(SET_SCHEMA_VERSION)
        finally:
            driver.close()
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql(CREATE_FTS)
            connection.execute(index_info.insert(), [{"one": 1, **info}])
    finally:
        engine.dispose()


def leave_open(engine: Engine, path: Path) -> None:
    """Let go of an engine without closing its connections to `path`.

    Closing the last one plays what lies in `-wal` into the file, which may be all that is left to mend it with.
    """
    for connection in list(_connections):
        if connection.path == path:
            never_close(connection)
    engine.dispose(close=False)


def outside_transaction(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement that SQLite refuses inside a transaction (VACUUM, checkpoints), and return its rows."""
    driver = engine.raw_connection()
    try:
        cursor = driver.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())
    finally:
        driver.close()


def empty_wal(engine: Engine) -> bool:
    """Move everything into the file and empty the WAL; False where a reader is in the way for `WAL_SECONDS`."""
    driver = engine.raw_connection()
    try:
        cursor = driver.cursor()
        cursor.execute(_WAIT_FOR_READERS)
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return not cursor.fetchall()[0][0]
        finally:
            cursor.execute(_WAIT_AS_EVER)
    finally:
        driver.close()


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the file, the disk or the folder into errors of odqa; mistakes in SQL stay as they are.

    Raises:
        DamagedIndexError: the file is no database or its pages contradict each other.
        StoreError: it cannot be opened, read or written: rights, a full disk, a failing disk.
    """
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        # Our statements are right: what is wrong with a table or a text in it is wrong in the file.
        told = isinstance(cause, sqlite3.OperationalError) and not str(cause).startswith(_OF_STATEMENTS)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (code == sqlite3.SQLITE_ERROR and told):
            raise damaged(path, str(cause)) from error
        if code in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_BUSY,
        ):
            raise StoreError(
                f"{path}: {cause}; the last complete transaction stands: mend the cause and run again"
            ) from error
        raise
    except UnicodeDecodeError as error:
        raise damaged(path, f"a name in it is no text: {error}") from error


def is_of_expression(error: DatabaseError) -> bool:
    """Tell whether an error of a full-text search is one of its expression, not of the file or the disk."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_ERROR and str(error.orig).startswith(_OF_EXPRESSIONS)


def damaged(path: Path, reason: str) -> DamagedIndexError:
    """Return the error for an index whose SQLite file cannot be used."""
    return DamagedIndexError(
        f"{path} is damaged ({reason}); nothing was changed: put back a copy of it, "
        "or remove the folder and index the documents again"
    )
