"""Bringing an index of an earlier schema to the present one: all steps in one transaction, under the lock.

What reads or writes an index knows the present schema only. Each step leads from the schema that it is named by to the
next one; steps are never changed once they are released. tests/store/earlier/ keeps an index of every schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from zlib import compress, crc32

from odqa.errors import LockedIndexError, StoreError
from odqa.store.faults import fault_point
from odqa.store.lock import FolderLock
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.schema import DATABASE_NAME, SCHEMA_VERSION, SET_SCHEMA_VERSION, Transaction, sql

# How long a process that only wants to read waits for another one that migrates, or writes.
WAIT_SECONDS = 30.0
_PAGE = 1000


def migrate(folder: Path, *, wait_seconds: float = 0.0) -> None:
    """Bring the index in `folder` to the present schema, if an earlier odqa made it; else do nothing.

    Either all steps are there afterwards or none. An index that is not there, or of a newer schema, is left to
    `open_store`, which says so.

    Raises:
        LockedIndexError: another process is writing to it.
        StoreError: the folder cannot be written to, or the disk is full; the index is as it was.
        DamagedIndexError: its SQLite file cannot be read; the index is as it was.
    """
    path = folder / DATABASE_NAME
    earlier = _version(path) if path.is_file() else SCHEMA_VERSION
    if not 0 < earlier < SCHEMA_VERSION:
        return
    try:
        with FolderLock.acquire(folder, wait_seconds=max(wait_seconds, WAIT_SECONDS)):
            _run(path)
    except LockedIndexError as error:
        raise LockedIndexError(f"an index of schema {earlier} has to be migrated before it is used: {error}") from error
    except StoreError as error:
        raise type(error)(f"schema {earlier} could not be migrated to {SCHEMA_VERSION}: {error}") from error


def _version(path: Path) -> int:
    store = SqliteMetadataStore(path, writable=False)
    store.close()
    return store.schema_version


def _run(path: Path) -> None:
    store = SqliteMetadataStore(path, writable=True)
    try:
        with store.writing() as connection:
            # Another process may have done it while this one waited for the lock.
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            for number in range(version, SCHEMA_VERSION):
                STEPS[number](connection)
                fault_point("migrate.after-step")
            connection.execute(sql("UPDATE index_info SET schema_version = :version"), {"version": SCHEMA_VERSION})
            connection.exec_driver_sql(SET_SCHEMA_VERSION)
            fault_point("migrate.before-commit")
            connection.commit()
            fault_point("migrate.after-commit")
    finally:
        store.close()


def _to_2(connection: Transaction) -> None:
    """Add the path of each document, and a checksum to each block of text."""
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN path TEXT DEFAULT '' NOT NULL")
    connection.exec_driver_sql("ALTER TABLE document_blocks ADD COLUMN checksum INTEGER DEFAULT '0' NOT NULL")
    some = sql(
        "SELECT document_pk, doc_id, source, record FROM documents WHERE document_pk > :pk ORDER BY 1 LIMIT :most"
    )
    blocks = sql("SELECT start, text FROM document_blocks WHERE document_pk = :pk")
    set_path = sql("UPDATE documents SET path = :path WHERE document_pk = :pk")
    set_checksum = sql("UPDATE document_blocks SET checksum = :checksum WHERE document_pk = :pk AND start = :start")
    last = 0
    while rows := connection.execute(some, {"pk": last, "most": _PAGE}).all():
        last = rows[-1][0]
        connection.execute(set_path, [{"pk": row[0], "path": _path(row[1], row[2], row[3])} for row in rows])
        for row in rows:
            owned = connection.execute(blocks, {"pk": row[0]}).all()
            values = [{"pk": row[0], "start": start, "checksum": crc32(text)} for start, text in owned]
            if values:
                connection.execute(set_checksum, values)


def _to_3(connection: Transaction) -> None:
    """Add the wanted type of the vector index, and pack each block of text. What was damaged stays known as such."""
    connection.exec_driver_sql("ALTER TABLE index_info ADD COLUMN vector_index TEXT DEFAULT 'auto' NOT NULL")
    some = sql(
        "SELECT document_pk, start, text, checksum FROM document_blocks"
        " WHERE (document_pk, start) > (:pk, :start) ORDER BY 1, 2 LIMIT :most"
    )
    pack = sql(
        "UPDATE document_blocks SET text = :text, checksum = :checksum WHERE document_pk = :pk AND start = :start"
    )
    pk, start = -1, -1
    while rows := connection.execute(some, {"pk": pk, "start": start, "most": _PAGE}).all():
        pk, start = rows[-1][0], rows[-1][1]
        values = []
        for row in rows:
            text = row[2] if isinstance(row[2], bytes) else str(row[2]).encode()
            packed = compress(text)
            # Differs from the CRC-32 of the packed bytes exactly where it differed from that of the text.
            checksum = crc32(packed) ^ crc32(text) ^ row[3]
            values.append({"pk": row[0], "start": row[1], "text": packed, "checksum": checksum})
        connection.execute(pack, values)


def _path(doc_id: str, source: str, record: str) -> str:
    """Take the record, and the "~2" that a name given twice has, off a `doc_id` as schema 1 had it."""
    for name in (doc_id, re.sub(r"~\d+\Z", "", doc_id)):
        path = name.removesuffix(f"#{record}") if record else name
        if source.endswith("/" + path.partition("/")[2]) and (path != name or not record):
            return path
    return doc_id.removesuffix(f"#{record}") if record else doc_id


# From which schema -> how.
STEPS: Mapping[int, Callable[[Transaction], None]] = MappingProxyType({1: _to_2, 2: _to_3})
