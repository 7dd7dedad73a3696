"""What makes a folder an index: its SQLite file, made whole or not at all, opened only by what fits it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from odqa.errors import IndexMismatchError, NoIndexError, StoreError
from odqa.protocols import EncoderIdentity
from odqa.store.faults import fault_point
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.schema import DATABASE_NAME, SCHEMA_VERSION, create_database, damaged, translated_errors
from odqa.store.snapshot import sync_folder


@dataclass(frozen=True, slots=True)
class IndexIdentity:
    """What an index is made with: the encoder, and the most tokens of a passage and of the title in front of it."""

    encoder: EncoderIdentity
    passage_tokens: int
    title_tokens: int


def open_store(folder: Path, *, writable: bool) -> SqliteMetadataStore:
    """Open the SQLite file of an index folder.

    Raises:
        NoIndexError: there is none.
        IndexMismatchError: its schema is another.
        DamagedIndexError: it cannot be read.
    """
    path = folder / DATABASE_NAME
    if not path.is_file():
        raise NoIndexError(f"no index in {folder}: make one with `odqa index FOLDER --index-dir {folder}`")
    store = SqliteMetadataStore(path, writable=writable)
    if store.schema_version < 1:
        store.close()
        raise damaged(path, "the number of its schema is lost")
    if store.schema_version != SCHEMA_VERSION:
        store.close()
        raise IndexMismatchError(
            f"the index in {folder} has schema {store.schema_version}, as a newer version of odqa makes it; this one "
            f"reads up to schema {SCHEMA_VERSION}: update odqa, or index the documents again into another folder"
        )
    return store


def make_database(folder: Path, identity: IndexIdentity) -> None:
    """Make the SQLite file under another name and rename it: an index is there with all its tables, or not at all.

    Raises:
        StoreError: the disk is full or fails, or transactions of a lost `odqa.sqlite` lie there; nothing was made.
    """
    wal = folder / (DATABASE_NAME + "-wal")
    if wal.exists() and wal.stat().st_size:  # SQLite would play it into the new file
        raise StoreError(f"{wal} is there, but not its {DATABASE_NAME}: put that back, or remove all of {folder}")
    temporary = folder / (DATABASE_NAME + ".new")
    try:
        with translated_errors(folder / DATABASE_NAME):
            _remove_database(temporary)
            try:
                _make_database(temporary, identity)
            except BaseException:  # half an index would only take room, on a disk that may be full
                _remove_database(temporary)
                raise
            sync_folder(folder)
    except OSError as error:
        raise StoreError(f"no index can be made in {folder}: {error}") from error
    fault_point("create.after-fsync")


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that died while writing left half done. The caller holds the lock of the folder.

    Raises:
        StoreError: the folder cannot be written to.
    """
    try:
        for path in folder.glob("vectors-*.faiss.tmp"):
            fault_point("open.before-remove")
            path.unlink(missing_ok=True)
        _remove_database(folder / (DATABASE_NAME + ".new"))
    except OSError as error:
        raise StoreError(f"the index in {folder} cannot be written to: {error}") from error


def _remove_database(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        if (part := path.with_name(path.name + ending)).exists():
            fault_point("create.before-remove")
            part.unlink(missing_ok=True)


def _make_database(temporary: Path, identity: IndexIdentity) -> None:
    encoder = identity.encoder
    create_database(
        temporary,
        {
            "uuid": str(uuid4()),
            "schema_version": SCHEMA_VERSION,
            "generation": 0,
            "compacted_generation": 0,
            "encoder": encoder.name,
            "encoder_revision": encoder.revision,
            "encoder_checksum": encoder.checksum,
            "width": encoder.width,
            "passage_tokens": identity.passage_tokens,
            "title_tokens": identity.title_tokens,
            "created_by": f"odqa {importlib.metadata.version('odqa')}",
        },
    )
    fault_point("create.before-rename")
    temporary.replace(temporary.with_name(DATABASE_NAME))
    fault_point("create.after-rename")


def compare_identities(folder: Path, own: IndexIdentity, expected: IndexIdentity) -> None:
    """Raise IndexMismatchError, which says what made the index and what was given, unless both are the same."""
    if own.encoder != expected.encoder:
        alike = (own.encoder.name, own.encoder.revision) == (expected.encoder.name, expected.encoder.revision)
        made, given = (_described(one.encoder, whole=alike) for one in (own, expected))
        raise IndexMismatchError(
            f"the index in {folder} was made by encoder {made}, but {given} was given: use the encoder that made it, "
            "or index the documents again into another folder"
        )
    if own != expected:
        raise IndexMismatchError(
            f"the index in {folder} was made with passage_tokens={own.passage_tokens} and "
            f"title_tokens={own.title_tokens}, but {expected.passage_tokens} and {expected.title_tokens} were given: "
            "use the settings that it was made with, or index the documents again into another folder"
        )


def _described(encoder: EncoderIdentity, *, whole: bool) -> str:
    """Name an encoder for people; its checksum and width only where name and revision do not tell two apart."""
    shown = f"name={encoder.name!r} revision={encoder.revision!r}"
    return f"{shown} checksum={encoder.checksum!r} width={encoder.width}" if whole else shown
