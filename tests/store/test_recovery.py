"""Damaged, foreign, missing and outdated files; the lock; readers in other processes; check and repair."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from store_cases import IDENTITY, WIDTH, brute_force, prepared, vectors_of

import odqa.store.recovery
from odqa.errors import DamagedIndexError, IndexMismatchError, LockedIndexError
from odqa.store.index import Index
from odqa.store.lock import FolderLock

TEXTS = {"a": "alpha whale " * 8, "b": "beta seal " * 8, "c": "gamma orca " * 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index at generation 2 whose snapshot is of generation 1: replaying is needed."""
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared(doc_id, text) for doc_id, text in TEXTS.items()])
        index.write_snapshot()
        index.write([prepared("b", "modern seal " * 5)])
    return folder


def _assert_true(index: Index) -> None:
    living = index.passages(range(1, 1000))
    vectors = {i: vectors_of([repr(p.text)])[0] for i, p in living.items()}
    query = vectors_of(["q"])
    distances, ids = index.search_dense(query, top_k=len(vectors) + 3)
    assert (distances[0].tolist(), ids[0].tolist()) == brute_force(vectors, query[0], top_k=len(vectors) + 3)


def _sql(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "odqa.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _change_generation(path: Path) -> None:
    path.rename(path.with_name("vectors-2.faiss"))


def _foreign(path: Path) -> None:
    with Index.create(path.parent / "other", IDENTITY) as other:
        other.write([prepared("z", "zeta " * 50)])
        other.write_snapshot()
    shutil.copy(path.parent / "other" / "vectors-1.faiss", path)
    shutil.rmtree(path.parent / "other")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "0 bytes long"),
    "cut in the header": (lambda path: path.write_bytes(path.read_bytes()[:100]), "shorter than its header"),
    "cut at the end": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its header says"),
    "magic": (lambda path: _flip(path, 0), "not a snapshot"),
    "format version": (lambda path: _flip(path, 8), "not a snapshot"),
    "generation": (lambda path: _flip(path, 16), "checksum differs"),
    "checksum": (lambda path: _flip(path, 50), "checksum differs"),
    "a code": (lambda path: _flip(path, 129), "checksum differs"),
    "an id": (lambda path: _flip(path, path.stat().st_size - 8), "checksum differs"),
    "renamed": (_change_generation, "holds generation 1"),
    "foreign": (_foreign, "another index"),
    "missing": (lambda path: path.unlink(), "no good snapshot"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("role", ["reader", "reader without lock", "writer"])
def test_damaged_snapshots_are_reported_and_rebuilt(folder: Path, damage: str, role: str) -> None:
    spoil, notice = DAMAGES[damage]
    spoil(folder / "vectors-1.faiss")
    before = sorted(path.name for path in folder.glob("vectors-*"))
    lock = FolderLock.acquire(folder) if role == "reader without lock" else None
    with Index.open(folder, writable=role == "writer") as index:
        index.prepare()
        assert notice in index.notices[0]
        assert "rebuilt from odqa.sqlite" in index.notices[-1]
        _assert_true(index)
    names = sorted(path.name for path in folder.glob("vectors-*"))
    assert names == (["vectors-2.faiss"] if lock is None else before)
    if lock is None:
        with Index.open(folder) as index:
            _assert_true(index)
            assert index.notices == ()
    else:
        lock.release()


def test_snapshot_from_the_future_is_not_served(folder: Path) -> None:
    """An older copy of the SQLite file was put back beside a newer snapshot."""
    copy = (folder / "odqa.sqlite").read_bytes()
    with Index.open(folder, writable=True) as index:
        index.delete(["a"])
        index.write_snapshot()
    (folder / "odqa.sqlite").write_bytes(copy)
    with Index.open(folder, writable=True) as index:
        _assert_true(index)
        assert "newer than odqa.sqlite" in index.notices[0]
        index.write([prepared("n", "new text")])
        _assert_true(index)
        index.write_snapshot()
    assert Index.check(folder).problems == ()


def test_long_replay_becomes_a_new_snapshot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odqa.store.recovery, "REPLAY_ROWS", 2)
    monkeypatch.setattr(odqa.store.recovery.VectorFollower._changes, "__kwdefaults__", {"most": 2})
    lock = FolderLock.acquire(folder)
    with Index.open(folder) as index:
        _assert_true(index)
    assert [path.name for path in folder.glob("vectors-*")] == ["vectors-1.faiss"]
    lock.release()
    with Index.open(folder) as index:
        _assert_true(index)
        assert index.notices == ()
    assert [path.name for path in folder.glob("vectors-*")] == ["vectors-2.faiss"]


@pytest.mark.parametrize("kept", [0, 50, 1000, 20_000, 60_000])
def test_truncated_sqlite_is_an_error_and_stays_as_it_is(folder: Path, kept: int) -> None:
    path = folder / "odqa.sqlite"
    path.write_bytes(path.read_bytes()[:kept])
    before = path.read_bytes()
    for writable in (False, True):
        with pytest.raises(DamagedIndexError, match=r"odqa.sqlite is damaged .*nothing was changed"):
            Index.open(folder, writable=writable)
    assert path.read_bytes() == before


def test_other_files_named_like_ours_are_errors(folder: Path) -> None:
    path = folder / "odqa.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(DamagedIndexError, match="not a database"):
        Index.open(folder)
    path.unlink()
    _sql(folder, "CREATE TABLE x (y)")
    with pytest.raises(DamagedIndexError, match="not made by odqa"):
        Index.open(folder)


def test_newer_schema_is_refused(folder: Path) -> None:
    _sql(folder, "PRAGMA user_version=99")
    for call in (Index.open, Index.check):
        with pytest.raises(IndexMismatchError, match="has schema 99"):
            call(folder)


HOLDER = """
import sys
from pathlib import Path
from odqa.store.lock import FolderLock
lock = FolderLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_between_processes_names_the_holder_and_dies_with_it(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline().strip() == b"held"
        for action in (
            lambda: Index.open(folder, writable=True),
            lambda: Index.open(folder, writable=True, wait_seconds=0.2),
            lambda: Index.check(folder),
            lambda: Index.create(folder, IDENTITY),
        ):
            with pytest.raises(LockedIndexError, match=rf"process {child.pid} on .*wait until it is done"):
                action()
        with Index.open(folder) as reader:
            assert len(reader) > 0
        assert json.loads((folder / "lock").read_text())["pid"] == child.pid
        child.kill()
        child.wait()
        with Index.open(folder, writable=True, wait_seconds=10) as index:
            assert json.loads((folder / "lock").read_text())["pid"] == os.getpid()
            with pytest.raises(LockedIndexError):  # within one process too
                Index.open(folder, writable=True)
            index.close()
        Index.open(folder, writable=True).close()


READER = """
import sys
from pathlib import Path
import numpy as np
from odqa.store.index import Index
with Index.open(Path(sys.argv[1])) as index:
    for line in sys.stdin:
        ids = index.search_dense(np.zeros((1, 8), dtype=np.float32), top_k=100)[1][0]
        dense = {p.doc_id for p in index.passages(ids[ids >= 0].tolist()).values()}
        text = index.passages([i for i, _ in index.search_text(line.strip(), top_k=100)]).values()
        print(len(ids[ids >= 0]), *sorted(dense), "|", *sorted({p.doc_id for p in text}), flush=True)
"""


def test_reader_in_another_process_follows_the_writer(folder: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", READER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child,
        Index.open(folder, writable=True) as writer,
    ):

        def ask(word: str) -> str:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(word + "\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        assert ask("seal") == f"{len(writer)} a b c | b"
        writer.delete(["b"])
        assert ask("seal") == f"{len(writer)} a c |"
        writer.write([prepared("d", "delta seal")])
        assert ask("seal") == f"{len(writer)} a c d | d"
        writer.delete(["a"])
        writer.write_snapshot()
        writer.compact()
        assert ask("whale") == f"{len(writer)} c d |"
        writer.write([prepared("e", "whale")])
        assert ask("whale") == f"{len(writer)} c d e | e"
        assert child.stdin is not None
        child.stdin.close()


def test_threads_search_while_one_writes(folder: Path) -> None:
    """No thread ever sees a text that was deleted before its search began, nor an error of a locked database."""
    failures: list[str] = []
    deleted: list[str] = []
    done = threading.Event()
    index = Index.open(folder, writable=True)
    reader = Index.open(folder)

    def search(searched: Index) -> None:
        try:
            while not done.is_set():
                gone = set(deleted)
                ids = searched.search_dense(np.zeros((1, WIDTH), dtype=np.float32), top_k=50)[1][0]
                ids = [*ids[ids >= 0].tolist(), *(i for i, _ in searched.search_text("serial", top_k=50))]
                found = {passage.text for passage in searched.passages(ids).values()}
                failures.extend(found & gone)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test has to fail
            failures.append(repr(error))

    threads = [threading.Thread(target=search, args=(each,)) for each in (index, reader, index, reader)]
    for thread in threads:
        thread.start()
    for number in range(40):
        index.write([prepared("s", f"serial {number}")])
        deleted.append(f"serial {number - 1}")
        if number % 10 == 9:
            index.compact()
    done.set()
    for thread in threads:
        thread.join()
    reader.close()
    index.close()
    assert failures == []


def test_old_snapshot_stays_readable_for_those_who_mapped_it(folder: Path) -> None:
    with Index.open(folder) as reader, Index.open(folder, writable=True) as writer:
        before = reader._follower.current()
        query = np.zeros((1, WIDTH), dtype=np.float32)
        found = before.search(query, top_k=5)[1].tolist()
        writer.delete(["a"])
        writer.compact()
        assert not (folder / "vectors-1.faiss").exists()
        assert before.search(query, top_k=5)[1].tolist() == found
        _assert_true(reader)
