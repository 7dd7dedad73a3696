"""Every kind of damage is found and named, and mended as far as it can be; what is lost is named too."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from damages import DAMAGES, SECTIONS, TEXTS, flipped, sql
from store_cases import IDENTITY, brute_force, prepared, vectors_of

from odqa.errors import DamagedIndexError
from odqa.store.index import Index
from odqa.store.schema import PAGE_BYTES


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
    start = (root - 1) * PAGE_BYTES
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
    for start in range(PAGE_BYTES * 3, len(data), PAGE_BYTES):
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
