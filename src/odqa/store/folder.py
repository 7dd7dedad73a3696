"""What makes a folder an index: its SQLite file, made whole or not at all, opened only by what fits it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from odqa.errors import IndexMismatchError, NoIndexError
from odqa.protocols import EncoderIdentity
from odqa.store.faults import fault_point
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.schema import DATABASE_NAME, SCHEMA_VERSION, create_database
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
    if store.schema_version != SCHEMA_VERSION:
        store.close()
        raise IndexMismatchError(
            f"the index in {folder} has schema {store.schema_version}, this odqa reads schema {SCHEMA_VERSION}: "
            "use the version of odqa that made it, or index the documents again into another folder"
        )
    return store


def make_database(folder: Path, identity: IndexIdentity) -> None:
    """Make the SQLite file under another name and rename it: an index is there with all its tables, or not at all."""
    temporary = folder / (DATABASE_NAME + ".new")
    for ending in ("", "-wal", "-shm"):
        temporary.with_name(temporary.name + ending).unlink(missing_ok=True)
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
    temporary.replace(folder / DATABASE_NAME)
    fault_point("create.after-rename")
    sync_folder(folder)


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
