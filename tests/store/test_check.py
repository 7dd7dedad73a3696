"""Every kind of damage is found and named, and mended as far as it can be; what is lost is named too."""

from __future__ import annotations

import re
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import IDENTITY, WIDTH, brute_force, prepared, vectors_of

from odqa.errors import DamagedIndexError
from odqa.store.index import Index
from odqa.types import Section, Span

TEXTS = {"a": "alpha whale " * 8, "b": "beta seal " * 8, "c": "gamma orca " * 8, "long": "krill é\n" * 6000}
SECTIONS = (Section(Span(0, 12), page=1, heading="Top"),)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index at generation 3 whose snapshot is of generation 2: replaying is needed."""
    folder = tmp_path_factory.mktemp("sound") / "index"
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("b", "older seal"), prepared("gone", "gone")])
        index.write(
            [
                prepared(doc_id, text, sections=SECTIONS, metadata={"year": 1900}, title=doc_id.upper(), size=500)
                for doc_id, text in TEXTS.items()
            ]
        )
        index.write_snapshot()
        index.delete(["gone"])
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        connection = sqlite3.connect(folder / "odqa.sqlite")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return spoil


def bytes_of_snapshot(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "vectors-2.faiss"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def block_of_a(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the one block of document "a", and leave its checksum."""

    def spoil(folder: Path) -> None:
        connection = sqlite3.connect(folder / "odqa.sqlite")
        [(packed,)] = connection.execute("SELECT text FROM document_blocks WHERE document_pk = 3").fetchall()
        connection.execute("UPDATE document_blocks SET text = ? WHERE document_pk = 3", (change(packed),))
        connection.commit()
        connection.close()

    return spoil


def foreign_snapshot(folder: Path) -> None:
    with Index.create(folder.parent / "other", IDENTITY) as other:
        other.write([prepared("z", "zeta")])
        other.write([prepared("y", "eta")])
        other.write_snapshot()
    shutil.copy(folder.parent / "other" / "vectors-2.faiss", folder / "vectors-2.faiss")


def snapshot_of_the_future(folder: Path) -> None:
    """A newer snapshot lies beside an older copy of the SQLite file."""
    copy = (folder / "odqa.sqlite").read_bytes()
    with Index.open(folder, writable=True) as index:
        index.delete(["c"])
        index.write_snapshot()
    (folder / "odqa.sqlite").write_bytes(copy)


NAN = "007e" * WIDTH
PACKED = zlib.compress(b"A")
# name -> (damage, kinds that are found, documents that are lost when it is mended)
DAMAGES: dict[str, tuple[Callable[[Path], object], set[str], list[str]]] = {
    "vector missing, in the snapshot": (
        sql("DELETE FROM vectors WHERE passage_id = 3"),
        {"passage-without-vector"},
        [],
    ),
    "vector too short": (
        sql("UPDATE vectors SET vector = x'0000' WHERE passage_id = 3"),
        {"vector-of-wrong-length"},
        [],
    ),
    "vector that is text": (
        sql(f"UPDATE vectors SET vector = '{'x' * WIDTH * 2}' WHERE passage_id = 3"),
        {"vector-of-wrong-length"},
        [],
    ),
    "vector not a number": (
        sql(f"UPDATE vectors SET vector = x'{NAN}' WHERE passage_id = 3"),
        {"vector-not-finite"},
        [],
    ),
    "vector infinite": (
        sql(f"UPDATE vectors SET vector = x'{'007c' * WIDTH}' WHERE passage_id = 3"),
        {"vector-not-finite"},
        [],
    ),
    "vector missing, no snapshot": (
        lambda folder: (
            (folder / "vectors-2.faiss").unlink(),
            sql("DELETE FROM vectors WHERE passage_id = 3")(folder),
        ),
        {"passage-without-vector"},
        ["a"],
    ),
    "vector missing, snapshot not to be trusted": (
        sql(
            "DELETE FROM vectors WHERE passage_id = 3",
            f"UPDATE vectors SET vector = x'{'003c' * WIDTH}' WHERE passage_id = 4",
        ),
        {"passage-without-vector", "snapshot-differs"},
        ["a"],
    ),
    "vector without passage": (
        sql("INSERT INTO vectors VALUES (999, x'00')"),
        {"vector-without-passage"},
        [],
    ),
    "block without document": (
        sql("INSERT INTO document_blocks (document_pk, start, text) VALUES (77, 0, x'41')"),
        {"block-without-document"},
        [],
    ),
    "passage without document": (
        sql("UPDATE passages SET document_pk = 77 WHERE passage_id = 3"),
        {"passage-without-document", "text-without-passage", "full-text-words"},
        ["a"],
    ),
    "document row lost": (
        sql("DELETE FROM documents WHERE doc_id = 'c'"),
        {"passage-without-document", "block-without-document", "full-text-words"},
        [],
    ),
    "tombstone of a living passage": (
        sql("INSERT INTO tombstones VALUES (3, 2)"),
        {"tombstone-of-living-passage"},
        [],
    ),
    "block damaged": (
        sql("UPDATE document_blocks SET text = x'4142' WHERE document_pk = 3"),
        {"text-damaged"},
        ["a"],
    ),
    "one bit of a text": (
        block_of_a(lambda packed: flipped(packed, len(packed) // 2)),
        {"text-damaged"},
        ["a"],
    ),
    "another text of the same length": (
        block_of_a(lambda packed: zlib.compress(zlib.decompress(packed).replace(b"alpha", b"alphc"))),
        {"text-damaged"},
        ["a"],
    ),
    "first block missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5 AND start = 0"),
        {"text-damaged"},
        ["long"],
    ),
    "last block missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5 AND start > 0"),
        {"text-damaged"},
        ["long"],
    ),
    "all blocks missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5"),
        {"text-damaged"},
        ["long"],
    ),
    "one block too many": (
        sql(f"INSERT INTO document_blocks VALUES (3, 32768, x'{PACKED.hex()}', {zlib.crc32(PACKED)})"),
        {"text-damaged"},
        ["a"],
    ),
    "wrong length": (
        sql("UPDATE documents SET length = length + 1 WHERE document_pk = 3"),
        {"text-damaged"},
        ["a"],
    ),
    "span behind the text": (
        sql('UPDATE passages SET "end" = 9999 WHERE passage_id = 3'),
        {"span-outside-document"},
        ["a"],
    ),
    "span turned round": (
        sql('UPDATE passages SET "start" = 9, "end" = 3 WHERE passage_id = 3'),
        {"span-outside-document", "full-text-words"},
        ["a"],
    ),
    "span too short": (
        sql('UPDATE passages SET "end" = "end" - 7 WHERE passage_id = 3'),
        {"text-without-passage", "full-text-words"},
        ["a"],
    ),
    "passages lost": (
        sql("DELETE FROM passages WHERE passage_id = 7", "DELETE FROM vectors WHERE passage_id = 7"),
        {"text-without-passage", "full-text-rows", "snapshot-differs"},
        ["long"],
    ),
    "metadata damaged": (
        sql("UPDATE documents SET metadata = '{\"year\": ' WHERE doc_id = 'a'"),
        {"fields-damaged"},
        ["a"],
    ),
    "sections damaged": (
        sql("UPDATE documents SET sections = '[[0, 99999, null, null]]' WHERE doc_id = 'a'"),
        {"fields-damaged"},
        ["a"],
    ),
    "generation behind its rows": (
        sql("UPDATE index_info SET generation = 1"),
        {"generation-ahead", "snapshot-ahead"},
        [],
    ),
    "counter of ids behind": (
        sql("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'passages'"),
        {"counter-behind"},
        [],
    ),
    "counter of ids lost": (sql("DELETE FROM sqlite_sequence"), {"counter-behind"}, []),
    "full text lacks a passage": (
        sql(f"INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', '{TEXTS['a']}')"),
        {"full-text-rows"},
        [],
    ),
    "full text of another text": (
        sql(
            f"INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', '{TEXTS['a']}')",
            f"INSERT INTO passages_fts (rowid, title, text) VALUES (3, 'A', '{TEXTS['a'].replace('alpha', 'omega')}')",
        ),
        {"full-text-words"},
        [],
    ),
    "full text deleted with another text": (
        sql(
            "INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', 'alpha')",
            f"INSERT INTO passages_fts (rowid, title, text) VALUES (3, 'A', '{TEXTS['a']}')",
        ),
        {"full-text-words"},
        [],
    ),
    "full text of a stranger": (
        sql("INSERT INTO passages_fts (rowid, title, text) VALUES (555, 'x', 'stranger')"),
        {"full-text-rows"},
        [],
    ),
    "totals of the full text": (
        sql("UPDATE passages_fts_data SET block = x'0a0e22' WHERE id = 1"),
        {"full-text-words"},
        [],
    ),
    "pages of the full text": (
        sql("UPDATE passages_fts_data SET block = zeroblob(40) WHERE id > 10"),
        {"full-text-structure"},
        [],
    ),
    "full text gone": (sql("DROP TABLE passages_fts"), {"table-missing"}, []),
    "snapshot empty": (bytes_of_snapshot(lambda _: b""), {"snapshot-truncated"}, []),
    "snapshot cut in its header": (bytes_of_snapshot(lambda data: data[:100]), {"snapshot-truncated"}, []),
    "snapshot cut at its end": (bytes_of_snapshot(lambda data: data[:-1]), {"snapshot-truncated"}, []),
    "snapshot too long": (bytes_of_snapshot(lambda data: data + b"x"), {"snapshot-size"}, []),
    "snapshot of another format": (bytes_of_snapshot(lambda data: flipped(data, 8)), {"snapshot-format"}, []),
    "one bit of the snapshot's codes": (bytes_of_snapshot(lambda data: flipped(data, 200)), {"snapshot-checksum"}, []),
    "one bit of the snapshot's ids": (
        bytes_of_snapshot(lambda data: flipped(data, len(data) - 8)),
        {"snapshot-checksum"},
        [],
    ),
    "snapshot renamed": (
        lambda folder: (folder / "vectors-2.faiss").rename(folder / "vectors-3.faiss"),
        {"snapshot-generation"},
        [],
    ),
    "snapshot of another index": (foreign_snapshot, {"snapshot-foreign"}, []),
    "snapshot of the future": (snapshot_of_the_future, {"snapshot-ahead"}, []),
    "vector that is another number": (
        sql(f"UPDATE vectors SET vector = x'{'003c' * WIDTH}' WHERE passage_id = 3"),
        {"snapshot-differs"},
        [],
    ),
}


def assert_true(index: Index) -> None:
    """What is served is what was written, in both ways of searching; ids go on behind all that were given out."""
    living = index.passages(range(1, 10_000))
    query = vectors_of(["q"])
    vectors = {i: vectors_of([repr(p.text)])[0] for i, p in living.items()}
    distances, ids = index.search_dense(query, top_k=len(vectors) + 3)
    assert (distances[0].tolist(), ids[0].tolist()) == brute_force(vectors, query[0], top_k=len(vectors) + 3)
    for word in ("whale", "krill", "orca", "omega", "stranger"):
        found = {passage_id for passage_id, _ in index.search_text(word, top_k=1000)}
        assert found == {passage_id for passage_id, passage in living.items() if word in passage.text}
    before = max(living, default=0)
    index.write([prepared("new", "a new one")])
    assert min(p.passage_id for p in index.passages(range(1, 10_000)).values() if p.doc_id == "new") > before


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_mended(folder: Path, damage: str) -> None:
    spoil, kinds, lost = DAMAGES[damage]
    spoil(folder)
    found = Index.check(folder)
    assert {problem.kind for problem in found.problems} == kinds
    assert not found.clean and found.lost == ()
    assert not any(problem.mended for problem in found.problems)
    mended = Index.check(folder, repair=True)
    assert {(problem.kind, problem.mended) for problem in mended.problems} == {(kind, True) for kind in kinds}
    assert mended.clean and list(mended.lost) == lost
    if "snapshot-differs" in kinds and "vector" in damage:
        assert Index.check(folder).problems == ()
        return  # SQLite is the truth: a vector that is another number stays what it is
    with Index.open(folder, writable=True) as index:
        emptied = [doc_id for doc_id in index.doc_ids() if not index.document(doc_id).content_hash]  # type: ignore[union-attr]
        assert emptied == lost
        texts = {doc_id: index.document(doc_id).text for doc_id in index.doc_ids()}  # type: ignore[union-attr]
        assert texts == {doc_id: "" if doc_id in lost else TEXTS[doc_id] for doc_id in texts}
        index.write([prepared(doc_id, TEXTS[doc_id], size=500) for doc_id in lost])  # its file is read again
        assert_true(index)
    assert Index.check(folder).problems == ()


def test_every_kind_is_documented_and_tried() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "storage.md").read_text(encoding="utf-8")
    table = page.partition("## Check and repair")[2].partition("\n\nTo compare")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    kinds = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
    assert kinds == {kind for _, found, _ in DAMAGES.values() for kind in found} | {"sqlite-pages"}


def test_looking_changes_nothing(folder: Path) -> None:
    for name in ("vector missing, in the snapshot", "last block missing", "one bit of the snapshot's codes"):
        DAMAGES[name][0](folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("lock", "odqa.sqlite-shm")}
    found = Index.check(folder)
    assert len(found.problems) == 3
    assert Index.check(folder) == found
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before


def test_a_sound_index_is_clean(folder: Path) -> None:
    before = (folder / "odqa.sqlite").read_bytes()
    for repair in (False, True):
        report = Index.check(folder, repair=repair)
        assert (report.problems, report.lost, report.notices, report.clean) == ((), (), (), True)
        assert report.documents == 4
        with Index.open(folder) as index:
            assert report.passages == len(index)
    assert (folder / "odqa.sqlite").read_bytes() == before


def test_a_missing_snapshot_is_a_notice_and_made_by_repair(folder: Path) -> None:
    (folder / "vectors-2.faiss").unlink()
    report = Index.check(folder)
    assert report.problems == () and report.clean
    assert report.notices == ("there is no snapshot of the vectors; the next dense search makes one",)
    assert not list(folder.glob("vectors-*"))
    assert Index.check(folder, repair=True).notices == ()
    assert [path.name for path in folder.glob("vectors-*")] == ["vectors-3.faiss"]


def test_several_damages_at_once(folder: Path) -> None:
    """Every one of them is named, and a repair mends them together."""
    chosen = ["vector missing, in the snapshot", "block damaged", "full text of a stranger", "counter of ids lost"]
    chosen = [name for name in chosen if name != "block damaged"] + ["last block missing"]
    for name in chosen:
        DAMAGES[name][0](folder)
    kinds = {"passage-without-vector", "text-damaged", "full-text-rows", "counter-behind"}
    assert {problem.kind for problem in Index.check(folder).problems} == kinds
    report = Index.check(folder, repair=True)
    assert report.clean and report.lost == ("long",)
    with Index.open(folder, writable=True) as index:
        assert_true(index)


@pytest.mark.parametrize(
    "damage",
    ["block damaged", "first block missing", "last block missing", "all blocks missing"],
)
def test_a_damaged_text_is_never_served(folder: Path, damage: str) -> None:
    spoil, _, [doc_id] = DAMAGES[damage]
    spoil(folder)
    with Index.open(folder, writable=True) as index:
        message = rf"document '{doc_id}' of the index is damaged .*run `odqa check --repair`"
        with pytest.raises(DamagedIndexError, match=message):
            index.document(doc_id)
        with pytest.raises(DamagedIndexError, match=message):
            index.passages(range(1, 1000))
        with pytest.raises(DamagedIndexError, match=message):  # the full text could not be taken out
            index.delete([doc_id])
        assert index.document("b").text == TEXTS["b"]  # type: ignore[union-attr]


def test_every_flipped_byte_of_a_text_is_noticed(folder: Path) -> None:
    path = folder / "odqa.sqlite"
    data = path.read_bytes()
    connection = sqlite3.connect(path)
    [(packed,)] = connection.execute("SELECT text FROM document_blocks WHERE document_pk = 3").fetchall()
    connection.close()
    place = data.index(packed)
    for offset in range(len(packed)):
        path.write_bytes(flipped(data, place + offset))
        with (
            Index.open(folder) as index,
            pytest.raises(DamagedIndexError, match="document 'a' of the index is damaged"),
        ):
            index.document("a")
        assert {problem.kind for problem in Index.check(folder).problems} == {"text-damaged"}


def test_an_index_of_sqlite_is_built_anew(folder: Path) -> None:
    """An entry of an index that names no row: SQLite finds it, and REINDEX mends it."""
    connection = sqlite3.connect(folder / "odqa.sqlite")
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_tombstones_generation'").fetchone()[
        0
    ]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path = folder / "odqa.sqlite"
    data = bytearray(path.read_bytes())
    start = (root - 1) * 16384
    assert data[start] == 10  # a leaf page of an index
    data[start + 3 : start + 5] = b"\0\0"  # it holds no cells any more
    path.write_bytes(data)
    found = Index.check(folder)
    assert not found.clean and {problem.kind for problem in found.problems} == {"sqlite-pages"}
    mended = Index.check(folder, repair=True)
    assert mended.clean and mended.lost == ()
    with Index.open(folder, writable=True) as index:
        assert_true(index)
    assert Index.check(folder).problems == ()


def test_pages_that_contradict_each_other_are_reported_and_left_alone(folder: Path) -> None:
    path = folder / "odqa.sqlite"
    data = bytearray(path.read_bytes())
    for start in range(16384 * 3, len(data), 16384):
        data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    for repair in (False, True):
        report = Index.check(folder, repair=repair)
        assert not report.clean and {problem.kind for problem in report.problems} == {"sqlite-pages"}
        assert path.read_bytes() == bytes(data)


@pytest.mark.parametrize("table", ["vectors", "passages", "document_blocks", "tombstones"])
def test_a_missing_table_cannot_be_mended(folder: Path, table: str) -> None:
    sql("PRAGMA foreign_keys=OFF", f"DROP TABLE {table}")(folder)
    for repair in (False, True):
        report = Index.check(folder, repair=repair)
        assert [(one.kind, one.detail, one.mended) for one in report.problems] == [("table-missing", table, False)]
