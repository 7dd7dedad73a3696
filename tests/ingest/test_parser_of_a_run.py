"""The parser process of a run over files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingest_files import pdf_bytes
from ingest_runs import gone, index, reasons

from odqa import pipeline
from odqa.errors import SkippedFileError
from odqa.ingest import isolation
from odqa.types import IndexProgress

pytestmark = pytest.mark.usefixtures("_fake_models")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the parser processes that a run starts."""
    pids: list[int] = []
    greet = isolation._Process.greet

    def recorded(process: isolation._Process) -> None:
        pids.append(process.pid)
        greet(process)

    monkeypatch.setattr(isolation._Process, "greet", recorded)
    return pids


def test_a_run_starts_a_parser_process_for_files_that_need_one_and_ends_it(docs: Path, started: list[int]) -> None:
    index(docs, {"a.txt": b"Text.", "b.md": b"# Text", "c.jsonl": b'{"text": "x"}'})
    assert started == []
    index(docs, {"d.html": b"<p>Text.", "e.html": b"<p>More.", "f.pdf": pdf_bytes([["Page."]])})
    assert len(started) == 1
    index(docs, {})  # nothing has changed, so nothing is parsed
    assert len(started) == 1
    assert gone(started[0])


def test_the_process_ends_with_a_run_that_is_broken_off(docs: Path, started: list[int]) -> None:
    files = {"a.html": b"<p>Text.", "b.html": b"<html></html>", "c.html": b"<p>More."}
    with pytest.raises(SkippedFileError, match=r"b\.html: no text"):
        index(docs, files, strict=True)

    def interrupt(progress: IndexProgress) -> None:
        if progress.current.endswith("c.html"):
            raise KeyboardInterrupt

    with pipeline.open(docs.parent / "index") as qa:
        assert qa.doc_ids() == ["docs/a.html"]
    (docs / "a.html").write_bytes(b"<p>Another text.")
    with pipeline.open(docs.parent / "index", create=True) as qa, pytest.raises(KeyboardInterrupt):
        qa.index([docs], progress=interrupt)
    assert len(started) == 2
    assert all(map(gone, started))


def test_a_limit_that_is_no_number_is_a_mistake_of_the_caller(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODQA_FILE_SECONDS", "soon")
    with pytest.raises(ValueError, match="ODQA_FILE_SECONDS is 'soon'"):
        index(docs, {"a.txt": b"x"})


def test_limits_of_the_environment_hold(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is enough for good files on a busy machine; so the bad ones are of a parser that does what they say."""
    start = isolation._START.replace("from odqa", "import hostile_parsers; from odqa", 1)
    monkeypatch.setattr(isolation, "_START", start)
    monkeypatch.setenv("ODQA_FILE_SECONDS", "2.5")
    monkeypatch.setenv("ODQA_FILE_MEMORY_MB", "600")
    files = {
        "a.pdf": b"say Text.",
        "b.pdf": b"compute",
        "c.html": b"<p>More.",
        "d.pdf": b"allocate",
        "e.html": b"<p>Last.",
    }
    report = index(docs, files)
    assert report.added == ("docs/a.pdf", "docs/c.html", "docs/e.html")
    assert reasons(report) == {
        "b.pdf": "took longer than 2.5 s; ODQA_FILE_SECONDS=N allows more",
        "d.pdf": "needs more than 600 MB of memory; ODQA_FILE_MEMORY_MB=N allows more",
    }
