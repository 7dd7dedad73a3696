"""A parser that does what the file says: stands in for PDF in a parser process, see `test_isolation.py`."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

from odqa.errors import IngestError
from odqa.ingest import parsers
from odqa.ingest.parsed import Parsed

parsed_so_far = 0


def parse(data: bytes) -> Parsed:
    global parsed_so_far
    words = data.decode().split(" ", 1)
    result = DOES[words[0]](words[1] if len(words) > 1 else "")
    parsed_so_far += 1
    return Parsed(title="", text=result if isinstance(result, str) else "text")


def compute(_: str) -> None:
    while True:
        pass


def allocate(_: str) -> None:
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def allocate_some(size: str) -> str:
    return f"{len(bytearray(int(size)))}"


def give_up(_: str) -> None:
    os.abort()


def write_file(path: str) -> str:
    try:
        with open(path, "w", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write("x" * 100_000)
    except OSError as error:
        return f"refused: {error.strerror}"
    return "written"


def print_much(_: str) -> str:
    sys.stdout.write("a line of the parser\n")
    sys.stdout.flush()
    sys.stderr.write("a line of the parser\n")
    os.write(1, b"x" * 100_000)
    return "printed"


def fail(_: str) -> None:
    raise ZeroDivisionError("of the\nparser")


def refuse(_: str) -> None:
    raise IngestError("no text: a reason\nof two lines, " + "long " * 1000)


def second_only(_: str) -> str:
    """Crash unless this is the first file of the process."""
    if parsed_so_far:
        os.abort()
    return "text"


def about(_: str) -> str:
    import signal

    blocked = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    about_me = {
        "parent": os.getppid(),
        "ctrl_c_is_ignored": blocked,
        "folder": os.getcwd(),  # noqa: PTH109
        "path": sys.path,
        "isolated": sys.flags.isolated,
        "modules": sorted(sys.modules),
    }
    return json.dumps(about_me)


DOES = {
    "say": lambda words: words,
    "crash": lambda _: ctypes.string_at(0),
    "abort": give_up,
    "exit": lambda _: os._exit(3),
    "compute": compute,
    "wait": lambda _: time.sleep(1000),
    "allocate": allocate,
    "some": allocate_some,
    "write": write_file,
    "print": print_much,
    "fail": fail,
    "refuse": refuse,
    "second": second_only,
    "about": about,
    "close": lambda _: os.closerange(0, 256) or time.sleep(1000),
    "long": lambda _: "x" * (parsers.settings.MAX_TEXT_CHARACTERS + 1),
    "surrogate": lambda _: "half \ud800",
}
parsers.PARSERS[".pdf"] = parse
