"""A file that is written to while it is read: one version of it is taken, or the report says that none was."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from odqa.ingest import loaders, steady
from odqa.ingest.loaders import Record, read_records
from odqa.ingest.sources import SourceFile, discover
from odqa.types import SkippedFile

LONG_AGO = 1_500_000_000


class Disturbed(io.BufferedReader):
    """A file that is written to in the middle of each reading."""

    def __init__(self, path: Path, disturb: Callable[[], None]) -> None:
        super().__init__(io.FileIO(path), buffer_size=64)
        self._disturb = disturb

    def read(self, size: int | None = -1, /) -> bytes:
        first = super().read(10)
        self._disturb()
        return first + super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self._disturb()
        return line


def source_of(path: Path) -> SourceFile:
    (found,) = discover([path])
    assert isinstance(found, SourceFile)
    return found


def old(path: Path, data: bytes) -> Path:
    """Write a file that was not touched for long, as far as its times say."""
    path.write_bytes(data)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def disturbing(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[], None]) -> list[int]:
    """Let every file be opened as a `Disturbed` one, and count how often."""
    opened = []

    def fake(path: Path) -> IO[bytes]:
        opened.append(1)
        return Disturbed(path, disturb)

    monkeypatch.setattr(loaders, "_open", fake)
    monkeypatch.setattr(steady, "_WAIT_SECONDS", 0.0)
    return opened


def text_of(record: Record | SkippedFile) -> str:
    assert isinstance(record, Record)
    return record.load().text


def test_a_file_that_is_written_to_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a.txt", b"old old old old old old")
    todo = [b"new new new new new new"]

    def disturb() -> None:
        if todo:
            path.write_bytes(todo.pop())

    opened = disturbing(monkeypatch, disturb)
    (record,) = read_records(source_of(path))
    assert text_of(record) == "new new new new new new"  # not "old old olnew new"
    assert len(opened) == 2


def test_a_file_that_never_rests_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a.txt", b"line\n" * 9)
    disturbing(monkeypatch, lambda: path.write_bytes(path.read_bytes() + b"line\n"))
    (record,) = read_records(source_of(path))
    assert record == SkippedFile(str(path), f"cannot be read: {steady.CHANGES}")


def test_a_change_that_no_time_tells_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same size, same times: as when two writes fall into one tick of the clock, or the clock goes back."""
    path = old(tmp_path / "a.txt", b"old old old old old old")
    fixed = (1, 23, time.time_ns(), time.time_ns())
    monkeypatch.setattr(steady, "version", lambda _: fixed)
    todo = [b"new new new new new new"]

    def disturb() -> None:
        if todo:
            path.write_bytes(todo.pop())

    disturbing(monkeypatch, disturb)
    (record,) = read_records(source_of(path))
    assert text_of(record) == "new new new new new new"


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_the_clock_may_stand_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"some text")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    (record,) = read_records(source_of(path))
    assert text_of(record) == "some text"


def test_a_file_that_is_replaced_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a.txt", b"old old old old old old")
    new = tmp_path / "b"
    new.write_bytes(b"new new new new new new")
    disturbing(monkeypatch, lambda: new.replace(path) if new.exists() else None)
    (record,) = read_records(source_of(path))
    assert text_of(record) == "new new new new new new"


def test_records_of_a_file_that_changes_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({"id": str(n), "text": f"text {n} " * 9}) + "\n" for n in range(30)]
    path = old(tmp_path / "a.jsonl", "".join(lines).encode())
    quiet = list(read_records(source_of(path)))
    assert len(quiet) == 30 and all(isinstance(one, Record) for one in quiet)
    times = [0]

    def disturb() -> None:
        times[0] += 1
        if times[0] == 3:
            path.write_bytes("".join(reversed(lines)).encode())

    disturbing(monkeypatch, disturb)
    *_, last = read_records(source_of(path))
    assert last == SkippedFile(str(path), steady.CHANGES)


def test_a_writer_that_does_not_stop(tmp_path: Path) -> None:
    """A large file, written in place again and again: what is taken is what it held at one moment.

    At any moment the newer letter stands before the older one, and they are neighbours; a mixture of two moments has
    them the other way round, or more than two. That a writer pauses in the middle of a version cannot be seen.
    """
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * 300_000)
    stop = threading.Event()

    def write() -> None:
        for n in range(100_000):
            if stop.is_set():
                return
            with path.open("r+b") as file:
                for at in range(0, 300_000, 50_000):
                    file.seek(at)
                    file.write(bytes([97 + n % 26]) * 50_000)
                    file.flush()
            time.sleep(0.03 * (n % 2))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(12):
            (record,) = read_records(source_of(path))
            if isinstance(record, Record):
                runs = [ord(letter) for letter, _ in itertools.groupby(record.load().text)]
                assert len(runs) == 1 or (len(runs) == 2 and (runs[0] - runs[1]) % 26 == 1), runs
            else:
                assert steady.CHANGES in record.reason
    finally:
        stop.set()
        writer.join()
    (record,) = read_records(source_of(path))
    assert len(set(text_of(record))) == 1
