"""What a terminal receives, through a pseudo-terminal: nothing of a document, a name or an argument steers it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import docx
import pytest
from commands import environment

# Screen, title, colour, and answers that a terminal would type for us; the same in C1; backspace, carriage return, ENQ,
# shift out, NEL, DEL; overrides of the direction; separators of lines.
EVIL = (
    "\x1b[66;77;88m\x1b[2J\x1b]0;PWNED\x07\x1bP$q\x1b\\\x1b[6n\x9b66m\x9d0;PWNED\x9c\x90q\x08\x08\rover\x05\x0e\x85\x7f"
    "\u202egpj\u2066x\u2069\u2028\u2029"
)
IN_NAMES = EVIL.replace("/", "")
IN_XML = "".join(sign for sign in EVIL if sign >= " " or sign in "\r")
OWN_SEQUENCES = re.compile(rb"\x1b\[(?:[0-9;]*m|\?25[lh]|2K|1A)")  # colours; the bar: hide and show the cursor, wipe
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# Several command lines in one process, with models that are quick.
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fake_models
from odqa.cli import main
with fake_models.fake_models():
    for words in json.loads(sys.argv[2]):
        sys.stderr.write(f"ran {main(words)}\\n")
"""


def on_terminal(folder: Path, commands: Sequence[Sequence[str]], **variables: str) -> bytes:
    """Run command lines on a pseudo-terminal of 100 columns and return all that it received."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    words = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), json.dumps(list(commands))]
    kept = {name: value for name, value in environment().items() if name not in {"NO_COLOR", "TERM"}}
    with subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env={**kept, "PYTHONUTF8": "1", **variables}
    ):
        os.close(slave)
        received = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                piece = b""
            if not piece:
                break
            received += piece
    os.close(master)
    return received


def make_corpus(folder: Path) -> Path:
    """Documents with escape sequences in names, titles, headings, texts, ids and metadata, good ones and bad ones."""
    docs = folder / "docs"
    (docs / f"sub{IN_NAMES}").mkdir(parents=True)
    text = f"The gull{EVIL} steals the {EVIL}chips of{EVIL} Skarn{EVIL}. " + "The harbour is quiet at night. " * 30
    (docs / f"sub{IN_NAMES}" / f"a{IN_NAMES}.txt").write_text(text, encoding="utf-8")
    (docs / f"bad{IN_NAMES}.xyz{IN_NAMES}").write_bytes(b"x")
    (docs / f"empty{IN_NAMES}.txt").write_bytes(b"")
    (docs / os.fsdecode(b"\xff\x9b31m.txt")).write_bytes(b"The seal barks.")
    page = f"<html><head><title>Gulls{EVIL}</title></head><body><h1>Gulls{EVIL}</h1><p>{text}</p></body></html>"
    (docs / "b.html").write_text(page, encoding="utf-8")
    (docs / "c.md").write_text(
        f"# Whales{EVIL}\n\nThe whale{EVIL} sings. {'It sings all night. ' * 40}\n", encoding="utf-8"
    )
    lines = [
        {"id": f"one{EVIL}", "title": f"One{EVIL}", "text": text, f"key{EVIL}": f"value{EVIL}"},
        {"id": f"one{EVIL}", "text": "The same id again."},
        {"id": "bad", f"text{EVIL}": ""},
    ]
    (docs / "d.jsonl").write_text("\n".join(map(json.dumps, lines)) + f"\nno JSON {EVIL}\n", encoding="utf-8")
    document = docx.Document()
    document.core_properties.title = f"Word{IN_XML}"
    document.add_heading(f"Seals{IN_XML}", level=1)
    document.add_paragraph(f"The seal{IN_XML} barks.")
    document.save(str(docs / "e.docx"))
    return docs


def command_lines(folder: str) -> list[list[str]]:
    index = ["--index-dir", f"index{IN_NAMES}"]
    return [
        ["index", folder, *index],
        ["index", folder, *index, "--strict"],
        ["query", f"Who steals the chips of Skarn?{EVIL}", *index],
        ["query", "What does the whale do?", *index, "--threshold", "1"],
        ["search", f"gull chips Skarn{EVIL}", *index],
        ["search", "whale", "--mode", "text", *index],
        ["status", *index],
        ["check", *index],
        ["delete", f"none{EVIL}", *index],
        ["models", "list"],
        # Mistakes, told with what was typed.
        ["index", f"nowhere{EVIL}", *index],
        ["query", "x", "--index-dir", f"nowhere{EVIL}"],
        ["query", "x", *index, "--where", f"{EVIL}=1"],
        ["query", "x", *index, "--where", f"a b {EVIL}"],
        ["query", "x", *index, "--mode", EVIL],
        ["query", "x", *index, "--reader", EVIL],
        ["query", "x", *index, "--top-k", EVIL],
        ["query", "--questions", f"nowhere{EVIL}", *index],
        ["evaluate", f"nowhere{EVIL}", *index],
        [f"--{EVIL}"],
        [f"none{EVIL}"],
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    make_corpus(folder)
    return folder


def check(received: bytes, *, runs: int) -> str:
    """Everything ran, and nothing but our own sequences came out; return what was shown."""
    assert len(re.findall(rb"ran \d", received)) == runs, received.decode(errors="replace")[-3000:]
    assert b"Traceback" not in received
    shown = OWN_SEQUENCES.sub(b"", received).decode("utf-8")
    found = FORBIDDEN.search(shown.replace("\r", ""))
    assert found is None, repr(shown[max(0, found.start() - 80) : found.end() + 20])
    assert not any(payload in received for payload in (b"66;77;88m\x1b", b"\x1b[66", b"\x1b]", b"\x1bP"))
    return shown


def test_plain_text_on_a_terminal(corpus: Path) -> None:
    commands = command_lines("docs")
    received = on_terminal(corpus, commands, TERM="dumb", NO_COLOR="1")
    assert b"\x1b" not in received
    assert b"\r" not in received.replace(b"\r\n", b"")
    shown = check(received, runs=len(commands))
    assert "Documents: 6 added" in shown
    for part in (r"\x1b[66;77;88m", r"\x9b66m", r"\x08\x08", r"\u202egpj", "clean: ", "no document none"):
        assert part in shown


def test_colours_and_a_bar_on_a_terminal(corpus: Path, tmp_path: Path) -> None:
    commands = [[*words] for words in command_lines(str(corpus / "docs"))]
    received = on_terminal(tmp_path, commands, TERM="xterm-256color")
    assert OWN_SEQUENCES.search(received)
    check(received, runs=len(commands))


def test_json_on_a_terminal(corpus: Path, tmp_path: Path) -> None:
    commands = [[*words, "--json"] for words in command_lines(str(corpus / "docs"))[:10]]
    received = on_terminal(tmp_path, commands, TERM="xterm-256color")
    shown = check(received, runs=len(commands))
    results = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert len(results) >= 8
    texts = [one["passage"]["text"] for one in results[1]["passages"]]
    assert any(EVIL in text for text in texts)  # all of it is there, for who reads the JSON


def test_a_traceback_on_a_terminal(corpus: Path, tmp_path: Path) -> None:
    commands = [["index", f"nowhere{EVIL}"], ["query", "x", "--index-dir", f"nowhere{EVIL}"]]
    received = on_terminal(tmp_path, commands, TERM="dumb", ODQA_DEBUG="1")
    assert b"Traceback" in received
    check(received.replace(b"Traceback", b""), runs=2)
