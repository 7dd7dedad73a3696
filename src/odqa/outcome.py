"""How a command begins and ends: usable streams; one line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path

from odqa.errors import OdqaError
from odqa.printable import flat, to_json, visible


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ctrl-C, with the message to show."""


def prepare() -> None:
    """Make the standard streams fit for use.

    A stream that the caller closed becomes the null device: its number would else go to the next file that is opened,
    such as the index, and output would be written into it. A terminal that lacks a character is no reason to fail.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def note(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(visible(flat(f"odqa: {message}")) + "\n")
    sys.stderr.flush()


def print_json(value: object) -> None:
    """Write a result to stdout as one line of JSON in UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def failed(error: Exception) -> int:
    """Say what went wrong, and return the exit code; the traceback stands above it if `ODQA_DEBUG` is set."""
    if os.environ.get("ODQA_DEBUG", "0") not in ("", "0"):
        for line in "".join(traceback.format_exception(error)).splitlines():
            sys.stderr.write(visible(line) + "\n")
    if isinstance(error, OdqaError):
        note(str(error))
        return 1
    if type(error) is ValueError and _raised_by_odqa(error):
        note(str(error))
        return 2
    note(f"unexpected {type(error).__name__}: {error} (set ODQA_DEBUG=1 to see the traceback)")
    return 1


def _raised_by_odqa(error: Exception) -> bool:
    """Tell odqa's own ValueError, a wrong argument, from one of a library, which is a mistake in odqa."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("odqa.")


def settle() -> None:
    """Leave nothing in the buffers that Python would fail to write when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
