"""A snapshot is written anew when that pays, compaction gives space back, and older copies of a file do no harm."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from store_cases import IDENTITY, WIDTH, brute_force, prepared, vectors_of

from odqa.store import schema
from odqa.store.index import Index


def text_of(number: int) -> str:
    return f"document {number} tells of whale {number}"


def write(index: Index, numbers: range) -> None:
    index.write([prepared(f"d{number}", text_of(number), size=1000) for number in numbers])


def assert_true(index: Index) -> None:
    living = index.passages(range(1, 5000))
    vectors = {i: vectors_of([repr(passage.text)])[0] for i, passage in living.items()}
    for query in vectors_of(["one", "two"]):
        distances, ids = index.search_dense(query[None], top_k=len(vectors) + 1)
        assert (distances[0].tolist(), ids[0].tolist()) == brute_force(vectors, query, top_k=len(vectors) + 1)
    assert {i for i, _ in index.search_text("whale", top_k=5000)} == set(living)


def snapshots(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("vectors-*")}


def test_a_delete_leaves_the_snapshot_alone_until_it_pays(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        write(index, range(100))
        index.refresh_snapshot()
        before = snapshots(folder)
        assert list(before) == ["vectors-1.faiss"]
        for number in range(10):  # a tenth
            index.delete([f"d{number * 7}"])
            index.refresh_snapshot()
            assert snapshots(folder) == before
            assert_true(index)
        with Index.open(folder) as reader:
            assert_true(reader)
            assert reader.notices == ()
        index.delete(["d1"])
        index.refresh_snapshot()
        assert list(snapshots(folder)) == ["vectors-12.faiss"]
        assert_true(index)
    with Index.open(folder) as reader:
        assert_true(reader)


def test_few_new_passages_leave_the_snapshot_alone_and_many_do_not(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", IDENTITY) as index:
        write(index, range(100))
        index.refresh_snapshot()
        write(index, range(95, 105))  # five are replaced: fifteen changes
        index.refresh_snapshot()
        assert list(snapshots(index.folder)) == ["vectors-2.faiss"]
        write(index, range(105, 110))
        index.refresh_snapshot()
        assert list(snapshots(index.folder)) == ["vectors-2.faiss"]
        index.compact()
        write(index, range(110, 114))
        index.refresh_snapshot()
        assert list(snapshots(index.folder)) == ["vectors-3.faiss"]
        assert_true(index)
    with Index.open(tmp_path / "index") as reader:
        assert_true(reader)


def test_an_older_copy_of_the_sqlite_file_beside_a_newer_snapshot(tmp_path: Path) -> None:
    """Ids and generations are given out a second time: the old snapshot must not pass for one of the new index."""
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        write(index, range(30))
        index.write_snapshot()
    copy = (folder / "odqa.sqlite").read_bytes()
    with Index.open(folder, writable=True) as index:
        write(index, range(30, 60))
        index.write_snapshot()
    assert list(snapshots(folder)) == ["vectors-2.faiss"]
    (folder / "odqa.sqlite").write_bytes(copy)
    with Index.open(folder, writable=True) as index:
        assert "newer than odqa.sqlite" in index.notices[0]
        write(index, range(70, 100))  # generation 2 once more, and the same ids
        assert_true(index)
    with Index.open(folder) as reader:
        assert_true(reader)
    assert Index.check(folder).problems == ()


def test_compaction_gives_space_back_and_leaves_no_deleted_text(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared(f"s{n}", f"secret {n} " * 3000, size=1000) for n in range(30)])
        write(index, range(20))
        index.write_snapshot()
        # Texts are packed; the words of the full-text index are not, but may lack what they share with the one before.
        parts = (b"ecret", zlib.compress(b"secret 3 " * 3000))
        assert all(any(part in path.read_bytes() for path in folder.iterdir()) for part in parts)
        assert len(index.delete([f"s{n}" for n in range(30)])) == 30
        assert any(b"ecret" in path.read_bytes() for path in folder.iterdir())
        dead = index.status().tombstones
        report = index.compact()
        assert report.path == str(folder)
        assert report.bytes_before > 4 * report.bytes_after
        assert report.bytes_after == sum(path.stat().st_size for path in [folder / "odqa.sqlite", *folder.glob("v*")])
        assert (report.tombstones, report.notices) == (dead, ())
        assert not any(part in path.read_bytes() for path in folder.iterdir() for part in parts)
        assert index.status().tombstones == 0
        assert_true(index)
        again = index.compact()
        assert again.bytes_before == again.bytes_after == report.bytes_after and again.tombstones == 0
    assert Index.check(folder).problems == ()


def test_compaction_beside_a_reader_in_the_middle_of_its_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_WAIT_FOR_READERS", "PRAGMA busy_timeout=50")
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        write(index, range(20))
        reader = sqlite3.connect(folder / "odqa.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM documents").fetchone()
        index.delete(["d3", "d4"])
        report = index.compact()
        assert "a reader is busy" in report.notices[0]
        assert reader.execute("SELECT count(*) FROM documents").fetchone() == seen == (20,)
        assert_true(index)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM documents").fetchone() == (18,)
        reader.close()
        assert index.compact().notices == ()
        assert_true(index)


def test_readers_go_on_through_compactions(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    failures: list[str] = []
    done = threading.Event()
    with Index.create(folder, IDENTITY) as index:
        write(index, range(40))

        def read() -> None:
            try:
                with Index.open(folder) as reader:
                    while not done.is_set():
                        ids = reader.search_dense(np.zeros((1, WIDTH), dtype=np.float32), top_k=100)[1][0]
                        found = reader.passages(ids[ids >= 0].tolist())
                        failures.extend(p.text for p in found.values() if p.text != text_of(int(p.doc_id[1:])))
                        if len(found) < 20:
                            failures.append(f"{len(found)} passages")
            except Exception as error:  # noqa: BLE001 - whatever it is, the test has to fail
                failures.append(repr(error))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(15):
            index.delete([f"d{number}"])
            index.compact()
        done.set()
        for thread in threads:
            thread.join()
        assert_true(index)
    assert failures == []
