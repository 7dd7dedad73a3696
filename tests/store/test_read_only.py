"""Reading where nothing can be written: read-only folders, transactions left in them, writers elsewhere, full disks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import read_only_folders
from store_cases import IDENTITY, prepared, vectors_of

from odqa.errors import LockedIndexError, StoreError
from odqa.store.index import Index
from odqa.store.lock import FolderLock, no_writer
from odqa.store.read_only import ReadOnlyAccess

TEXTS = {"a": "alpha whale " * 8, "b": "beta seal " * 8, "c": "gamma orca " * 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared(doc_id, text) for doc_id, text in TEXTS.items()])
        index.write_snapshot()
        index.write([prepared("b", "modern seal " * 5)])
    return folder


def state_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_readable(index: Index, texts: dict[str, str]) -> None:
    assert {doc_id: index.document(doc_id).text for doc_id in index.doc_ids()} == texts
    distances, ids = index.search_dense(vectors_of(["q"]), top_k=100)
    living = index.passages([int(i) for i in ids[0] if i >= 0])
    expected = [(doc_id, one.document.text[s.start : s.end]) for doc_id, one in _all(texts) for s in one.spans]
    assert sorted((p.doc_id, p.text) for p in living.values()) == sorted(expected)
    assert np.isfinite(distances[0, : len(living)]).all()
    for doc_id, text in texts.items():
        found = index.passages([i for i, _ in index.search_text(text.split()[1], top_k=100)])
        assert doc_id in {passage.doc_id for passage in found.values()}
    assert index.status().documents == len(texts)


def _all(texts: dict[str, str]) -> Iterator[tuple[str, object]]:
    return ((doc_id, prepared(doc_id, text)) for doc_id, text in texts.items())


NOW = {**TEXTS, "b": "modern seal " * 5}
WAYS: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "real": read_only_folders.read_only,
    "refused": read_only_folders.refusing,
}

# A writer that dies with transactions in -wal.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store_cases import prepared
from odqa.store.index import Index
index = Index.open(Path(sys.argv[1]), writable=True)
index.write([prepared("d", "delta krill " * 8)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed_writer(folder: Path) -> dict[str, str]:
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent)], check=False)
    assert (folder / "odqa.sqlite-wal").stat().st_size > 0
    return {**NOW, "d": "delta krill " * 8}


@pytest.mark.parametrize("way", WAYS)
def test_an_index_is_read_where_nothing_can_be_written(folder: Path, way: str) -> None:
    before = state_of(folder)
    with WAYS[way](folder):
        with Index.open(folder) as index:
            assert_readable(index, NOW)
            assert index.notices == ()
        with pytest.raises(StoreError, match="cannot be written to"):
            Index.open(folder, writable=True)
        with pytest.raises(StoreError, match="cannot be written to"):
            Index.check(folder)
        assert state_of(folder) == before
    assert state_of(folder) == before


@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_rebuilt_in_memory_there(folder: Path, way: str) -> None:
    for path in folder.glob("vectors-*"):
        path.unlink()
    with WAYS[way](folder), Index.open(folder) as index:
        assert_readable(index, NOW)
        assert "no new snapshot of the vectors could be written" in index.notices[-1]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_without_lock_file(folder: Path, way: str) -> None:
    (folder / "lock").unlink()
    with WAYS[way](folder), Index.open(folder) as index:
        assert_readable(index, NOW)
    assert not (folder / "lock").exists()


@pytest.mark.parametrize("way", WAYS)
def test_transactions_that_a_killed_writer_left_are_read(folder: Path, way: str) -> None:
    texts = _killed_writer(folder)
    before = state_of(folder)
    with WAYS[way](folder):
        with Index.open(folder) as index:
            assert_readable(index, texts)
        assert {name: value for name, value in state_of(folder).items() if "shm" not in name} == {
            name: value for name, value in before.items() if "shm" not in name
        }


@pytest.mark.parametrize("way", WAYS)
def test_transactions_that_cannot_be_read_there_are_an_error(folder: Path, way: str) -> None:
    """A copy of -wal without -shm: SQLite cannot read it here, and without it the index would be an older one."""
    texts = _killed_writer(folder)
    (folder / "odqa.sqlite-shm").unlink()
    before = state_of(folder)
    with WAYS[way](folder):
        with pytest.raises(StoreError, match="open the index once where the folder can be written to"):
            Index.open(folder)
        assert state_of(folder) == before
    with Index.open(folder) as index:
        assert_readable(index, texts)


def _as_if_read_only(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let this process read `path` as a user does who may not write to it, while others may."""
    allowed = os.access
    monkeypatch.setattr(
        "odqa.store.metadata_store.os.access", lambda other, mode: allowed(other, mode) and Path(other) != path
    )


def test_a_reader_without_rights_follows_a_writer_with_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.open(folder, writable=True) as writer:
        _as_if_read_only(monkeypatch, folder / "odqa.sqlite")
        with Index.open(folder) as reader:
            assert reader._store._read_only is not None
            assert_readable(reader, NOW)  # the writer has -wal and -shm open
            writer.write([prepared("e", "epsilon eel " * 4)])
            assert_readable(reader, {**NOW, "e": "epsilon eel " * 4})
            writer.delete(["a"])
            writer.compact()
            left = {doc_id: text for doc_id, text in NOW.items() if doc_id != "a"}
            assert_readable(reader, {**left, "e": "epsilon eel " * 4})
            writer.close()
            assert not (folder / "odqa.sqlite-wal").exists()
            assert_readable(reader, {**left, "e": "epsilon eel " * 4})  # nobody has them open
            with Index.open(folder, writable=True) as again:
                again.write([prepared("f", "zeta ray " * 4)])
                assert_readable(reader, {**left, "e": "epsilon eel " * 4, "f": "zeta ray " * 4})


def test_no_writer_begins_while_the_file_is_read_without_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite looks for no changes then: a writer has to wait for the reader, and is let in after it."""
    _as_if_read_only(monkeypatch, folder / "odqa.sqlite")
    with Index.open(folder) as reader:
        begun: list[float] = []

        def write() -> None:
            FolderLock.acquire(folder).release()
            begun.append(time.monotonic())

        with reader._store.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM documents").scalar_one() == 3
            thread = threading.Thread(target=write)
            thread.start()
            time.sleep(0.3)
            assert begun == []
            released = time.monotonic()
        thread.join(30)
        assert len(begun) == 1 and begun[0] >= released


def test_a_reader_waits_for_a_writer_that_is_neither_here_nor_gone(folder: Path) -> None:
    """The lock is held, but SQLite's side files are not there yet, or no longer."""
    lock = FolderLock.acquire(folder)
    asked: list[str] = []

    def connect(parameters: str) -> str:
        asked.append(parameters)
        return parameters

    access = ReadOnlyAccess(folder / "odqa.sqlite", connect=connect, close=lambda _: None)
    began = time.monotonic()
    threading.Timer(0.3, lock.release).start()
    with access.connection() as parameters:
        assert parameters == "mode=ro&immutable=1"
    assert time.monotonic() - began >= 0.25
    assert asked == ["mode=ro&immutable=1"]


def test_a_copy_in_which_somebody_begins_to_write_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lock").unlink()
    _as_if_read_only(monkeypatch, folder / "odqa.sqlite")
    with (
        Index.open(folder) as reader,
        pytest.raises(StoreError, match="was written to while it was read"),
        reader._store.reading(),
    ):
        FolderLock.acquire(folder).release()


def test_a_second_writer_still_fails_at_once(folder: Path) -> None:
    with FolderLock.acquire(folder):
        began = time.monotonic()
        with pytest.raises(LockedIndexError, match=r"process \d+ on .* since \d{4}-\d\d-\d\dT"):
            FolderLock.acquire(folder)
        assert time.monotonic() - began < 5


def test_readers_that_never_pause_are_named_as_what_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock file names whoever wrote last, who has nothing to do with it."""
    monkeypatch.setattr("odqa.store.lock.SHARED_SECONDS", 0.2)
    with no_writer(folder) as free:
        assert free
        with pytest.raises(LockedIndexError, match="is being read without a pause by processes that may not write"):
            FolderLock.acquire(folder)
    FolderLock.acquire(folder).release()


def test_an_index_is_read_on_a_full_disk(folder: Path, tmp_path: Path) -> None:
    """SQLite finds no room for its side files; on a system where no small disk can be made, no right."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with read_only_folders.small_disk(disk, size="8m") as mounted:
        index_dir = disk / "index"
        shutil.copytree(folder, index_dir)
        if mounted:
            with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(4096))
            with Index.open(index_dir) as index:
                assert_readable(index, NOW)
            with Index.open(index_dir, writable=False) as index, pytest.raises(StoreError, match=r"full|disk"):
                Index.open(index_dir, writable=True).write([prepared("x", "x " * 5000)])
                assert_readable(index, NOW)
        else:
            with read_only_folders.refusing(index_dir), Index.open(index_dir) as index:
                assert_readable(index, NOW)
