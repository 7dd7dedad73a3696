"""What happens around a fork: each function is run in a process of its own, in a folder with an index of one file.

`python fork_child.py FOLDER` runs them all and writes, for each, one line of JSON: its name, its exit code, what it
said.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "crash"))

import crash_child
from pytest import MonkeyPatch

from odqa import pipeline
from odqa.errors import StoreError
from odqa.store.lock import FolderLock

ALARM_SECONDS = 60  # a child that hangs is a failure


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def told(call: Callable[[], object]) -> str:
    try:
        return f"did not fail: {call()}"
    except StoreError as error:
        return str(error)


def in_child(do: Callable[[], object]) -> None:
    """Fork, and wait for the child, which ends as Python ends a process, with all its clean-up."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(ALARM_SECONDS)
        do()
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        say("exit code", code)


def refused(folder: Path) -> None:
    qa = pipeline.open(folder / "index")
    qa.search("whale")

    def child() -> None:
        calls: list[Callable[[], object]] = [
            lambda: qa.search("whale"),
            lambda: qa.query("whale?"),
            qa.status,
            qa.doc_ids,
            lambda: qa.encoder,
            lambda: qa.reader,
            lambda: pipeline.open(folder / "index"),
        ]
        for call in calls:
            say(told(call))

    in_child(child)
    say(len(qa.search("whale")), "in the parent")


def closed(folder: Path) -> None:
    many = np.zeros((64, 16), np.float32)
    with pipeline.open(folder / "index") as qa:
        for _ in range(3):
            qa._index.search_dense(many, top_k=3)

    def child() -> None:
        with pipeline.open(folder / "index") as qa:
            ids = qa._index.search_dense(many, top_k=3)[1]
            say(ids[0].tolist(), qa.query("Who sings?").passages[0].passage.doc_id)

    in_child(child)


def left_alone(folder: Path) -> None:
    qa = pipeline.open(folder / "index", writable=True)
    (folder / "docs" / "b.txt").write_text("The seal barks. " * 30)
    qa.index([folder / "docs"])
    before = sorted(path.name for path in (folder / "index").iterdir())
    say("odqa.sqlite-wal" in before)
    in_child(qa.close)
    in_child(lambda: None)
    say(sorted(path.name for path in (folder / "index").iterdir()) == before)
    say(qa.status().documents, "documents")
    say(told(lambda: pipeline.open(folder / "index", writable=True)))
    qa.close()
    say(pipeline.check(folder / "index").problems)


def survivor(folder: Path) -> None:
    """A process opens an index and is killed; its child lives on, closes, and ends."""
    pid = os.fork()
    if pid == 0:
        mine = pipeline.open(folder / "other", create=True)
        mine.index([folder / "docs"])
        if os.fork() == 0:
            time.sleep(1)
            mine.close()
            sys.exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    wal = folder / "other" / "odqa.sqlite-wal"
    size = wal.stat().st_size
    time.sleep(2)
    say(size > 0, wal.stat().st_size == size)
    with pipeline.open(folder / "other") as other:
        say(other.doc_ids())
    say(pipeline.check(folder / "other").problems)


def lock(folder: Path) -> None:
    pid = os.fork()
    if pid == 0:
        held = FolderLock.acquire(folder / "index")
        if os.fork() == 0:
            os.closerange(1, 3)  # whoever listens need not wait for it
            time.sleep(60)  # a child that lives on
            os._exit(0)
        assert held
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    FolderLock.acquire(folder / "index", wait_seconds=30).release()  # the child may not have begun to run yet
    say("free")


def another(folder: Path) -> None:
    with pipeline.open(folder / "other", create=True) as other:
        other.index([folder / "docs"])
    qa = pipeline.open(folder / "index")
    qa.search("whale")

    def child() -> None:
        with pipeline.open(folder / "other") as other:
            say(len(other.search("whale")))

    in_child(child)
    qa.close()


def workers(folder: Path) -> None:
    """The usual pool of processes, made by fork before the index is opened."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        index = folder / "index"
        qa = pipeline.open(index)
        asked = [("whale", str(index)), ("sings", str(index)), ("whale sings", str(index))]
        say(pool.map(_count, asked), len(qa.search("whale")))
        qa.close()


def _count(asked: tuple[str, str]) -> int:
    with pipeline.open(asked[1]) as qa:
        return len(qa.search(asked[0]))


STORIES = (refused, closed, left_alone, survivor, lock, another, workers)


def tell(story: Callable[[Path], None], home: Path) -> dict[str, object]:
    folder = home / story.__name__
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "a.txt").write_text("The whale sings. " * 30)
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            with pipeline.open(folder / "index", create=True) as made:
                made.index([folder / "docs"])
            story(folder)
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        return {"story": story.__name__, "code": code, "said": said.read().decode().splitlines()}


if __name__ == "__main__":
    crash_child.use_small_fakes(MonkeyPatch())
    told_all = [tell(story, Path(sys.argv[1])) for story in STORIES]
    sys.stdout.write(json.dumps(told_all))
