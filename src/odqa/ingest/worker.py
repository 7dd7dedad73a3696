"""The process that parses files which may crash or hang a parser: reads requests, writes replies, knows nothing else.

`odqa.ingest.isolation` starts it and kills it. What protects the rest even from a parser that a file has taken over is
modest: limits on memory, no files written, no core dump, an alarm. It is a wall against accidents and bombs, no prison.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import IO

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest import parsers, wire

GRACE_SECONDS = 5.0  # so much later than the parent would, the process ends itself
KEPT_BYTES = 256_000_000  # a process that has held more ends after its file: Python seldom gives memory back
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


def main(*, memory_bytes: int, parent: int) -> None:
    """Serve until the parent closes the pipe or dies.

    Args:
        memory_bytes: Largest address space, where the system can limit it (Linux; not Windows, hardly macOS).
        parent: Process id of the parent.
    """
    replies = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # whatever a parser prints is no reply
    os.dup2(null, 2)
    if sys.platform != "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for alarm in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(alarm, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {alarm})
        _limit(memory_bytes)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            return
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone or is done
        serve(sys.stdin.buffer, replies)


def _limit(memory_bytes: int) -> None:
    """Limit the memory; allow no file to be written, and no core dump."""
    import resource

    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # a system that knows the limit but does not set it (macOS)
            resource.setrlimit(kind, (lower, lower))


def _held_bytes() -> int:
    """Return the most memory that this program has held, 0 where the system does not tell.

    Linux counts in `getrusage` what the parent held when it started this process, but not here (proc(5)).
    """
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return 0
    found = re.search(rb"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until a file has needed much memory, or more than there is: the next one gets a fresh process.

    Raises:
        EOFError: There are no more requests.
    """
    wire.write(replies, wire.READY)
    while True:
        request = json.loads(wire.read(requests, at_most=settings.MAX_FILE_BYTES))
        data = wire.read(requests, at_most=settings.MAX_FILE_BYTES)
        _set_alarms(computing=request["seconds"], waiting=request["waiting"] + GRACE_SECONDS)
        try:
            parsed = parsers.parse(request["suffix"], data)
            reply = wire.to_json({"parsed": wire.parsed_fields(parsed)})
        except IngestError as error:
            reply = wire.to_json({"reason": str(error).encode("utf-8", "backslashreplace").decode()})
        except MemoryError:
            wire.write(replies, wire.to_json({"memory": True}))
            return
        wire.write(replies, reply)
        if _held_bytes() > KEPT_BYTES:
            return
        _set_alarms(computing=0.0, waiting=0.0)


def _set_alarms(*, computing: float, waiting: float) -> None:
    """Have the system end this process after so many seconds; native code cannot stop it. 0 means never.

    Args:
        computing: Seconds of the processor, so that a busy machine costs no file.
        waiting: Seconds on the clock, in case the parent is dead and the parser waits for something.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, computing)
        signal.setitimer(signal.ITIMER_REAL, waiting)
