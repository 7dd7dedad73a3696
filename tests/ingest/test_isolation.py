from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from ingest_files import docx_bytes, pdf_bytes
from ingest_runs import gone
from test_docx import small

from odqa.errors import IngestError
from odqa.ingest import isolation, parsers, wire
from odqa.ingest.isolation import ParserProcess
from odqa.ingest.parsed import Parsed
from odqa.settings import FileLimits

LIMITS = FileLimits(seconds=20.0, memory_mb=400)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the parser process read PDF with `hostile_parsers`, which does what the file says."""
    start = isolation._START.replace("from odqa", "import hostile_parsers; from odqa", 1)
    monkeypatch.setattr(isolation, "_START", start)


def said(parser: ParserProcess, words: str) -> str:
    """What comes of a file: its text, or the reason."""
    try:
        return parser.parse(".pdf", words.encode()).text
    except IngestError as error:
        return str(error)


def dead(pid: int) -> bool:
    """Tell whether a process has ended, be it still on the table: init takes an orphan off when it comes to it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return gone(pid)  # or a system without /proc
    return re.search(r"^State:\s*[ZX]", status, re.MULTILINE) is not None


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def limited(parser: ParserProcess, seconds: float) -> Iterator[None]:
    """Allow a file little time. Other files are given more: they would not be done in it on a busy machine."""
    usual, parser._limits = parser._limits, FileLimits(seconds=seconds, memory_mb=LIMITS.memory_mb)
    yield
    parser._limits = usual


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".pdf", pdf_bytes([["The first page."], [], ["The first é again."]], info={"Title": "A report"})),
        (".docx", docx_bytes(small())),
        (".html", "<title>Gulls</title><h1>Gulls</h1><p>Łódź 東京 🙂 &amp; \u202e</p>".encode()),
        (".txt", b"plain"),
        (".md", b"# Head\n\ntext"),
        (".pdf", b"no PDF"),
        (".docx", b"no archive"),
        (".html", b" "),
        (".pdf", pdf_bytes([[]])),
    ],
)
def test_the_process_says_what_the_parser_itself_says(suffix: str, data: bytes) -> None:
    def outcome(parse: object) -> Parsed | str:
        try:
            return parse(suffix, data)  # type: ignore[no-any-return, operator]
        except IngestError as error:
            return str(error)

    with ParserProcess() as parser:
        assert outcome(parser.parse) == outcome(parsers.parse)


def test_it_is_started_at_the_first_file_that_needs_it_and_stays() -> None:
    with ParserProcess() as parser:
        assert parser.parse(".txt", b"text").text == "text"
        assert parser.pid is None
        parser.parse(".html", b"<p>a")
        first = parser.pid
        assert first is not None
        parser.parse(".html", b"<p>b")
        assert parser.pid == first
    assert parser.pid is None
    assert gone(first)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("crash", "the parser crashed (signal 11, segmentation fault)"),
        ("abort", "the parser crashed (signal 6, aborted), perhaps in want of more than 400 MB of memory"),
        ("exit", "the parser ended by itself (code 3)"),
        ("allocate", "needs more than 400 MB of memory; ODQA_FILE_MEMORY_MB=N allows more"),
        ("fail", "the parser failed: ZeroDivisionError: of the parser"),
        ("close", "the parser closed its pipe"),
        ("surrogate", "not text: a lone surrogate at character 5"),
        ("long", "its text has 104857601 characters, the limit is 104857600; split the file"),
    ],
)
def test_whatever_a_file_does_is_a_reason_and_the_next_file_is_read(words: str, reason: str) -> None:
    with ParserProcess(LIMITS) as parser:
        assert said(parser, "say before") == "before"
        assert said(parser, words) == reason
        assert said(parser, "say after") == "after"


@pytest.mark.usefixtures("hostile")
def test_a_reason_is_one_line_of_bounded_length() -> None:
    with ParserProcess(LIMITS) as parser:
        reason = said(parser, "refuse")
    assert reason.startswith("no text: a reason of two lines, long long")
    assert len(reason) < 500


@pytest.mark.usefixtures("hostile")
def test_a_file_that_computes_for_ever_is_ended() -> None:
    with ParserProcess(LIMITS) as parser:
        began = time.process_time()
        with limited(parser, 0.3):
            assert said(parser, "compute") == "took longer than 0.3 s; ODQA_FILE_SECONDS=N allows more"
        assert time.process_time() - began < 1.0
        assert parser.pid is None
        assert said(parser, "say after") == "after"


@pytest.mark.usefixtures("hostile")
def test_a_file_that_waits_for_ever_is_ended() -> None:
    with ParserProcess(LIMITS) as parser:
        with limited(parser, 0.2):
            assert said(parser, "wait").startswith("took longer than")
        assert said(parser, "say after") == "after"


@pytest.mark.usefixtures("hostile")
def test_a_process_that_was_stopped_is_ended() -> None:
    with ParserProcess(LIMITS) as parser:
        assert said(parser, "say before") == "before"
        assert parser.pid is not None
        os.kill(parser.pid, signal.SIGSTOP)
        with limited(parser, 0.3):
            assert said(parser, "say text").startswith("took longer than")


def test_the_time_of_a_file_grows_with_its_size() -> None:
    limits = FileLimits(seconds=60.0)
    assert limits.seconds_for(0) == 60.0
    assert limits.seconds_for(100_000_000) == 160.0


@pytest.mark.usefixtures("hostile")
def test_no_file_pays_for_what_its_neighbours_did() -> None:
    with ParserProcess(LIMITS) as parser:
        assert said(parser, "say one") == "one"
        first = parser.pid
        assert said(parser, "second") == "text"  # it crashed the first process, and was tried again in a fresh one
        assert parser.pid != first


@pytest.mark.usefixtures("hostile")
def test_the_memory_of_this_process_does_not_count() -> None:
    held = bytearray(os.urandom(1)) * 400_000_000
    with ParserProcess(LIMITS) as parser:
        said(parser, "say one")
        first = parser.pid
        said(parser, "say two")
        assert parser.pid == first
    del held


@pytest.mark.usefixtures("hostile")
def test_a_process_that_has_held_much_memory_gives_it_back() -> None:
    with ParserProcess(LIMITS) as parser:
        assert said(parser, "some 1000000") == "1000000"
        first = parser.pid
        assert said(parser, "some 270000000") == "270000000"
        assert parser.pid == first
        assert said(parser, "say after") == "after"
        assert parser.pid != first


@pytest.mark.usefixtures("hostile")
def test_a_process_that_died_between_two_files_is_replaced() -> None:
    with ParserProcess(LIMITS) as parser:
        said(parser, "say one")
        assert parser.pid is not None
        os.kill(parser.pid, signal.SIGKILL)
        assert said(parser, "say two") == "two"


@pytest.mark.usefixtures("hostile")
def test_a_parser_can_write_no_file_and_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ParserProcess(LIMITS) as parser:
        assert said(parser, f"write {tmp_path / 'a.txt'}") == "refused: File too large"
        assert said(parser, "print") == "printed"
        assert said(parser, "say after") == "after"
    assert (tmp_path / "a.txt").stat().st_size == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("hostile")
def test_the_process_imports_what_this_one_would_and_nothing_heavy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lxml.py").write_text("raise SystemExit(7)", encoding="utf-8")
    (tmp_path / "json.py").write_text("raise SystemExit(7)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with ParserProcess(LIMITS) as parser:
        about = json.loads(said(parser, "about"))
        assert parser.parse(".html", b"<p>a").text == "a"
    assert about["path"] == sys.path
    assert about["isolated"] == 1
    assert about["parent"] == os.getpid()
    assert about["ctrl_c_is_ignored"]
    heavy = {"numpy", "faiss", "openvino", "sqlalchemy", "tokenizers", "typer", "rich", "lxml", "pypdfium2", "docx"}
    assert heavy.isdisjoint(about["modules"])


def test_a_process_that_cannot_be_started_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_START", "raise SystemExit(7)")
    with ParserProcess() as parser:
        for _ in range(isolation.MAX_FAILED_STARTS):
            assert said(parser, "") == "the parser process could not be started: the parser ended by itself (code 7)"
        assert said(parser, "") == "the parser process could not be started"
    monkeypatch.setattr(sys, "executable", "")
    with ParserProcess() as parser:
        assert "does not know the path of its own program" in said(parser, "")


def test_a_process_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READY", b"odqa parser 0")
    with ParserProcess() as parser:
        assert said(parser, "") == "the parser process could not be started: it is of another version of odqa"


@pytest.mark.usefixtures("hostile")
def test_ctrl_c_amid_a_file_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    read = wire.read

    def seen(stream: IO[bytes], *, at_most: int) -> bytes:
        waiting.set()
        return read(stream, at_most=at_most)

    def interrupt() -> None:
        assert waiting.wait(60)
        time.sleep(0.1)  # so that it does wait
        os.kill(os.getpid(), signal.SIGINT)

    parser = ParserProcess(LIMITS)
    with parser:
        assert said(parser, "say before") == "before"
        pid = parser.pid
        assert pid is not None
        monkeypatch.setattr(wire, "read", seen)
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                said(parser, "wait")
        finally:
            thread.join()
            signal.signal(signal.SIGINT, handler)
        assert parser.pid is None
        assert gone(pid)
        assert said(parser, "say after") == "after"


PARENT = """
import sys
from odqa.ingest import isolation
from odqa.settings import FileLimits
isolation._START = isolation._START.replace("from odqa", "import hostile_parsers; from odqa", 1)
parser = isolation.ParserProcess(FileLimits(seconds=1000.0))
parser.parse(".pdf", b"say text")
print(parser.pid, flush=True)
{then}
"""


@contextlib.contextmanager
def parent(then: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run another program that uses a parser process, and give its process id."""
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + PARENT.format(then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("doing", ["compute", "wait"])
def test_the_process_dies_with_its_parent_even_amid_a_file(doing: str) -> None:
    with parent(f"parser.parse('.pdf', b'{doing}')") as (process, pid):
        time.sleep(0.2)
        assert not dead(pid)
        process.kill()
        process.wait()
        assert wait_until(lambda: dead(pid))


def test_the_process_ends_when_its_parent_forgets_it() -> None:
    with parent("") as (process, pid):
        process.wait()
        assert wait_until(lambda: dead(pid))
