"""A disk that runs full while documents are put in: a real one where this process may mount one, a limit elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import crash_cases
import crash_child
import pytest
from crash_child import Job

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

import read_only_folders

from odqa import cli, pipeline

FILES = 20
LIMIT = 700_000  # bytes of a file; less than the index of all the documents needs
DISK = "1500k"


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    crash_child.use_small_fakes(monkeypatch)


def write_documents(docs: Path) -> Path:
    docs.mkdir()
    for number in range(FILES):
        text = "".join(f"Sentence {n} of whale{number} says word{number}x{n}. " for n in range(120))
        (docs / f"whale{number:02}.txt").write_text(text, encoding="utf-8")
    return docs


@contextmanager
def _small_disk(disk: Path) -> Iterator[tuple[int | None, Callable[[], None]]]:
    """Give a limit on the size of files (None: the disk is small), and a way to make room."""
    with read_only_folders.small_disk(disk, size=DISK) as mounted:

        def make_room() -> None:
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

        yield None if mounted else LIMIT, make_room


@contextmanager
def _limit(_: Path) -> Iterator[tuple[int | None, Callable[[], None]]]:
    yield LIMIT, lambda: None


@pytest.mark.parametrize("way", [_small_disk, _limit], ids=["small disk", "limit on files"])
def test_a_disk_runs_full_while_indexing(
    tmp_path: Path, way: Callable[[Path], AbstractContextManager[tuple[int | None, Callable[[], None]]]]
) -> None:
    docs = write_documents(tmp_path / "docs")
    disk = tmp_path / "disk"
    disk.mkdir()
    log = tmp_path / "log"
    with crash_child.server() as server, way(disk) as (most_bytes, make_room):
        folder = disk / "index"
        command = ["index", str(docs), "--index-dir", str(folder)]
        code, _ = server.run(Job(command, log=str(log), most_bytes=most_bytes))
        (line,) = [one for one in log.read_text("utf-8").splitlines() if one.startswith("odqa: ")]
        assert code == 1 and "unexpected" not in line
        assert "run again" in line or "SQLite holds all" in line
        # What was committed is there, whole, and can be asked on the full disk.
        held = crash_cases.state_of(folder)
        assert 0 < len(held) < FILES
        with pipeline.open(folder) as qa:
            assert qa.doc_ids() == sorted(held)
            for doc_id, (text, _) in held.items():
                (word,) = {sentence.split()[-1] for sentence in text.split(". ") if sentence.startswith("Sentence 7 ")}
                (found,) = qa.search(word, mode="text", top_k=5)
                assert found.passage.doc_id == doc_id and found.passage.span.of(text) == found.passage.text
        code, _ = server.run(Job(command, log=str(log), most_bytes=most_bytes))
        assert code == 1  # it is still full
        assert crash_cases.state_of(folder).items() >= held.items()
        make_room()
        assert pipeline.check(folder).problems == ()
        assert cli.main(command) == 0
        assert pipeline.check(folder).problems == ()
        assert cli.main(["index", str(docs), "--index-dir", str(tmp_path / "undisturbed")]) == 0
        assert crash_cases.state_of(folder) == crash_cases.state_of(tmp_path / "undisturbed")
