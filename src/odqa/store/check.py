"""Looking through an index: everything is compared with everything. What is found is mended in repair.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from odqa.errors import DamagedIndexError
from odqa.store.binary import to_bits
from odqa.store.blocks import BlockError
from odqa.store.codes import CODE, Codes
from odqa.store.full_text_check import FullTextCheck
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.recovery import VectorFollower
from odqa.store.schema import TABLES, Transaction, sql
from odqa.store.snapshot import Snapshot
from odqa.store.walk import StoredDocument, walk_documents
from odqa.types import Problem

_BATCH_ROWS = 1024
_NOT_BLANK = re.compile(r"\S")
_NAMED = 10  # ids named in a problem
_BITS = np.dtype("<u2")
_EXPONENT = np.uint16(0x7C00)  # all ones: infinite, or not a number

# Rows that refer to nothing, or contradict others: kind and how many.
_ROWS = (
    (
        "vector-without-passage",
        sql("SELECT count(*) FROM vectors WHERE passage_id NOT IN (SELECT passage_id FROM passages)"),
    ),
    (
        "block-without-document",
        sql("SELECT count(*) FROM document_blocks WHERE document_pk NOT IN (SELECT document_pk FROM documents)"),
    ),
    (
        "passage-without-document",
        sql("SELECT count(*) FROM passages WHERE document_pk NOT IN (SELECT document_pk FROM documents)"),
    ),
    (
        "tombstone-of-living-passage",
        sql("SELECT count(*) FROM tombstones WHERE passage_id IN (SELECT passage_id FROM passages)"),
    ),
    (
        "generation-ahead",
        sql(
            "SELECT (SELECT count(*) FROM documents WHERE generation > (SELECT generation FROM index_info))"
            " + (SELECT count(*) FROM passages WHERE generation > (SELECT generation FROM index_info))"
            " + (SELECT count(*) FROM tombstones WHERE generation > (SELECT generation FROM index_info))"
            " + (SELECT count(*) FROM index_info WHERE compacted_generation > generation)"
        ),
    ),
    (
        "counter-behind",
        sql(
            "SELECT (SELECT count(*) FROM passages WHERE passage_id >"
            " ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'passages'), 0))"
            " + (SELECT count(*) FROM tombstones WHERE passage_id >"
            " ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'passages'), 0))"
            " + (SELECT count(*) FROM documents WHERE document_pk >"
            " ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'documents'), 0))"
        ),
    ),
)
# Passages whose vector cannot be used: kind, and (passage_id, document_pk) of each.
_VECTORS = (
    (
        "passage-without-vector",
        sql("SELECT passage_id, document_pk FROM passages WHERE passage_id NOT IN (SELECT passage_id FROM vectors)"),
    ),
    (
        "vector-of-wrong-length",
        sql(
            "SELECT passage_id, document_pk FROM passages JOIN vectors USING (passage_id)"
            " WHERE typeof(vector) != 'blob' OR length(vector) != 2 * (SELECT width FROM index_info)"
        ),
    ),
)
_GOOD_VECTORS = sql(
    "SELECT passage_id, document_pk, vector FROM vectors JOIN passages USING (passage_id)"
    " WHERE typeof(vector) = 'blob' AND length(vector) = 2 * (SELECT width FROM index_info) ORDER BY passage_id"
)
_EXISTING = sql("SELECT name FROM sqlite_master")
_DOC_IDS = sql("SELECT document_pk, doc_id FROM documents WHERE document_pk IN :pks", expanding="pks")
_DEAD = sql("SELECT passage_id FROM tombstones WHERE generation > :generation")
_OLD = sql("SELECT passage_id FROM passages WHERE generation <= :generation ORDER BY passage_id")


@dataclass(slots=True)
class Findings:
    """What is wrong with an index, and what a repair needs to know of it.

    Attributes:
        problems: all that was found.
        notices: worth knowing, but no damage.
        vectors: passages without a usable vector: passage_id -> document_pk.
        contents: documents whose text, spans or fields are damaged: document_pk.
        full_text: whether the full-text index has to be built anew.
        snapshot: the newest good snapshot.
        trusted: whether that snapshot says the same as all usable vectors.
    """

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    vectors: dict[int, int] = field(default_factory=dict)
    contents: set[int] = field(default_factory=set)
    full_text: bool = False
    readable: bool = True
    snapshot: Snapshot | None = None
    trusted: bool = False

    def add(self, kind: str, detail: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, detail))


def examine(store: SqliteMetadataStore, follower: VectorFollower) -> Findings:
    """Look through all tables and the snapshots. Nothing is changed. The caller holds the lock of the folder.

    Args:
        store: the metadata store, writable (the check of the full-text index is a statement that writes).
        follower: the vectors of the same index.
    """
    findings = Findings()
    for detail in sqlite_problems(store):
        findings.readable = False
        findings.add("sqlite-pages", detail)
    if not findings.readable:
        return findings
    with store.writing() as connection:  # never committed
        missing = set(TABLES) - set(connection.scalars(_EXISTING))
        for name in sorted(missing):
            findings.add("table-missing", name)
        findings.full_text = "passages_fts" in missing
        findings.readable = missing <= {"passages_fts"}
        if not findings.readable:
            return findings
        for kind, statement in _ROWS:
            count = connection.execute(statement).scalar_one()
            if count:
                findings.add(kind, f"{count} rows")
        _examine_documents(store, connection, findings)
        _examine_snapshots(follower, connection, findings)
        _examine_vectors(connection, findings)
    return findings


def sqlite_problems(store: SqliteMetadataStore) -> list[str]:
    """Return what SQLite itself finds wrong with the pages of the file."""
    try:
        problems = [str(row[0]) for row in store.run("PRAGMA integrity_check") if row[0] != "ok"]
    except DamagedIndexError as error:
        problems = [str(error)]
    store.damaged = bool(problems)
    return problems


def _examine_documents(store: SqliteMetadataStore, connection: Transaction, findings: Findings) -> None:
    """Read every text, look at the spans and fields over it, and build the full-text index a second time."""
    words = None if findings.full_text else FullTextCheck(connection, store.path)
    for document in walk_documents(connection):
        text = ""
        try:
            text = document.text()
            damages = [*_span_problems(document, text), *_field_problems(document)]
        except BlockError as error:
            damages = [("text-damaged", str(error))]
            if words is not None:
                words.leave_out()
        for kind, detail in damages:
            findings.contents.add(document.document_pk)
            findings.add(kind, f"{document.doc_id}: {detail}")
        if words is not None and text:
            words.add(document, text)
    for kind, detail in words.problems() if words is not None else ():
        findings.full_text = True
        findings.add(kind, detail)


def _span_problems(document: StoredDocument, text: str) -> Iterator[tuple[str, str]]:
    """Passages are ranges of the text, and what is not blank lies in one of them."""
    outside = [row[0] for row in document.passages if not 0 <= row[1] < row[2] <= len(text)]
    if outside:
        yield "span-outside-document", f"passages {_some(outside)} do not lie within {len(text)} code points"
        return
    covered = 0
    for _, start, end in (*document.passages, (0, len(text), len(text))):
        if start > covered and (found := _NOT_BLANK.search(text, covered, start)):
            yield "text-without-passage", f"the code points from {found.start()} to {start} are in no passage"
            return
        covered = max(covered, end)


def _field_problems(document: StoredDocument) -> Iterator[tuple[str, str]]:
    for name, stored, kind in (("sections", document.sections, list), ("metadata", document.metadata, dict)):
        try:
            value = json.loads(stored)
            sound = isinstance(value, kind) and (
                kind is dict or all(_is_section(one, document.length) for one in value)
            )
        except (TypeError, ValueError):
            sound = False
        if not sound:
            yield "fields-damaged", f"{name} cannot be read"


def _is_section(value: object, length: int) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    start, end, page, heading = value
    numbers = isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= length
    return numbers and isinstance(page, int | None) and isinstance(heading, str | None)


def _examine_snapshots(follower: VectorFollower, connection: Transaction, findings: Findings) -> None:
    findings.snapshot, errors = follower.inspect_snapshots()
    for error in errors:
        findings.add(error.kind, str(error))
    snapshot = findings.snapshot
    if snapshot is None:
        if not errors:
            findings.notices.append("there is no snapshot of the vectors; the next dense search makes one")
        return
    since = {"generation": snapshot.generation}
    expected: NDArray[np.int64] = np.fromiter(connection.scalars(_OLD, since), dtype=np.int64)
    dead: NDArray[np.int64] = np.fromiter(connection.scalars(_DEAD, since), dtype=np.int64)
    missing = np.setdiff1d(expected, snapshot.ids, assume_unique=True)
    if len(missing):
        findings.add("snapshot-differs", f"{snapshot.path.name} lacks {len(missing)} passages")
    foreign = np.setdiff1d(np.setdiff1d(snapshot.ids, expected, assume_unique=True), dead)
    if len(foreign):
        findings.add(
            "snapshot-differs", f"{snapshot.path.name} holds {len(foreign)} passages that are not in odqa.sqlite"
        )


def _examine_vectors(connection: Transaction, findings: Findings) -> None:
    """Look at every vector, and compare it with the snapshot's."""
    bad: dict[str, list[tuple[int, int]]] = {}
    for kind, statement in _VECTORS:
        bad[kind] = [(row[0], row[1]) for row in connection.execute(statement)]
    different, snapshot = 0, findings.snapshot
    for rows in connection.execute(_GOOD_VECTORS).partitions(_BATCH_ROWS):
        ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        codes = np.frombuffer(b"".join(row[2] for row in rows), dtype=_BITS).reshape(len(rows), -1)
        finite = ((codes & _EXPONENT) != _EXPONENT).all(axis=1)  # far faster than isfinite is for half precision
        bad.setdefault("vector-not-finite", []).extend(
            (rows[int(i)][0], rows[int(i)][1]) for i in np.flatnonzero(~finite)
        )
        if snapshot is not None and len(snapshot.ids):
            places = np.minimum(np.searchsorted(snapshot.ids, ids), len(snapshot.ids) - 1)
            shared = (snapshot.ids[places] == ids) & finite
            different += int(_differs(snapshot, places[shared], codes[shared].view(CODE)).sum())
    if different and snapshot is not None:
        findings.add("snapshot-differs", f"{snapshot.path.name} differs from odqa.sqlite in {different} vectors")
    findings.trusted = snapshot is not None and not any(one.kind == "snapshot-differs" for one in findings.problems)
    _name_vectors(connection, bad, findings)


def _differs(snapshot: Snapshot, places: NDArray[np.int64], codes: Codes) -> NDArray[np.bool_]:
    """Tell which rows of a snapshot are not what it would hold of these vectors."""
    if snapshot.binary is not None:
        unequal = to_bits(codes, snapshot.binary.centre) != snapshot.binary.bits[places]
    else:
        assert snapshot.codes is not None  # it is flat
        unequal = codes.view(_BITS) != snapshot.codes.view(_BITS)[places]
    result: NDArray[np.bool_] = unequal.any(axis=1)
    return result


def _name_vectors(connection: Transaction, bad: dict[str, list[tuple[int, int]]], findings: Findings) -> None:
    for kind, found in bad.items():
        owners: dict[int, list[int]] = {}
        for passage_id, document_pk in found:
            owners.setdefault(document_pk, []).append(passage_id)
            findings.vectors[passage_id] = document_pk
        names = doc_ids(connection, list(owners))
        for pk, passage_ids in owners.items():
            findings.add(kind, f"{names.get(pk, 'a document that is gone')}: passages {_some(passage_ids)}")


def doc_ids(connection: Transaction, document_pks: list[int]) -> dict[int, str]:
    """Return document_pk -> doc_id."""
    found: dict[int, str] = {}
    for at in range(0, len(document_pks), 500):
        rows = connection.execute(_DOC_IDS, {"pks": document_pks[at : at + 500]})
        found |= {row[0]: row[1] for row in rows}
    return found


def _some(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:_NAMED]))
    return shown if len(ids) <= _NAMED else f"{shown} and {len(ids) - _NAMED} more"
