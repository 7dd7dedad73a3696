"""Parses files in a process of its own, so that a file can crash, stop or bloat its parser and nothing else.

The process is started with the first file that needs one, parses one file after the other, and is killed and replaced
when a file takes too long, needs too much memory or crashes it. A file that fails in a process which has parsed others
before is tried once more in a fresh one: what is said of a file never depends on its neighbours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import IO, cast

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest import parsers, wire
from odqa.ingest.parsed import Parsed, checked, shortened

START_SECONDS = 60.0  # to start Python on a machine that is busy
MAX_FAILED_STARTS = 3
WAIT_FACTOR = 5.0  # a file may take so many times its seconds of computing, since the machine may be busy
_ALARMS = {-getattr(signal, name) for name in ("SIGALRM", "SIGPROF") if hasattr(signal, name)}
_GAVE_UP = {-getattr(signal, name) for name in ("SIGABRT", "SIGILL", "SIGTRAP") if hasattr(signal, name)}
MAX_REPLY_BYTES = 8 * settings.MAX_TEXT_CHARACTERS
# With -I neither the working folder nor the environment says what is imported, but only the path that this process
# itself imports from; -B writes nothing.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from odqa.ingest import worker; "
    "worker.main(memory_bytes=int(sys.argv[2]), parent=int(sys.argv[3]))"
)


class _TooLongError(Exception):
    """The process did not answer in time; it is dead."""


class _DiedError(Exception):
    """The process ended, or answered what it never would; the message says which."""


class ParserProcess:
    """Parses files, those with native parsers in a process of their own. Use it in a `with`, from one thread."""

    def __init__(self, limits: settings.FileLimits | None = None) -> None:
        """Prepare; nothing is started yet. `limits` are those of the environment, else the defaults."""
        self._limits = limits or settings.file_limits()
        self._process: _Process | None = None
        self._failed_starts = 0

    def __enter__(self) -> ParserProcess:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process."""
        self._stop()

    @property
    def pid(self) -> int | None:
        """The id of the process, None while there is none."""
        return None if self._process is None else self._process.pid

    def parse(self, suffix: str, data: bytes) -> Parsed:
        """Parse the bytes of a file.

        Raises:
            IngestError: They cannot be parsed; the message says why.
            KeyError: No parser knows the suffix.
        """
        if suffix not in parsers.ISOLATED:
            try:
                return parsers.parse(suffix, data)
            except MemoryError as error:
                raise IngestError("needs more memory than there is") from error
        while True:
            fresh = self._process is None or not self._process.alive()
            try:
                return self._ask(suffix, data)
            except _DiedError as error:
                if fresh:
                    raise IngestError(str(error)) from error

    def _ask(self, suffix: str, data: bytes) -> Parsed:
        """Have the process parse a file; where that fails by more than a reason, there is no process afterwards."""
        process = self._running()
        seconds = self._limits.seconds_for(len(data))
        waiting = WAIT_FACTOR * seconds
        request = wire.to_json({"suffix": suffix, "seconds": seconds, "waiting": waiting})
        try:
            reply = process.ask(request, data, seconds=waiting)
            parsed, reason = wire.outcome(reply)
        except _TooLongError:
            self._stop()
            raise IngestError(f"took longer than {seconds:.3g} s; ODQA_FILE_SECONDS=N allows more") from None
        except MemoryError:
            self._stop()
            memory = self._limits.memory_mb
            raise _DiedError(f"needs more than {memory} MB of memory; ODQA_FILE_MEMORY_MB=N allows more") from None
        except ValueError as error:
            self._stop()
            raise _DiedError(f"the parser answered what it never would: {error}") from error
        except BaseException:
            self._stop()  # after Ctrl-C, too: the next file must not get the rest of this one's reply
            raise
        if parsed is None:
            raise IngestError(shortened(reason))
        return checked(parsed)

    def _running(self) -> _Process:
        """Return the process, started if need be."""
        if self._process is not None and self._process.alive():
            return self._process
        self._stop()
        if self._failed_starts >= MAX_FAILED_STARTS:
            raise IngestError("the parser process could not be started")
        try:
            self._process = _Process(self._limits.memory_mb)
            self._process.greet()
        except (OSError, ValueError, _DiedError, _TooLongError) as error:
            self._failed_starts += 1
            self._stop()
            raise IngestError(f"the parser process could not be started: {error}") from error
        self._failed_starts = 0
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()


class _Process:
    """One run of the parser process."""

    def __init__(self, memory_mb: int) -> None:
        """Start it.

        Raises:
            OSError: The system does not start it.
        """
        if not sys.executable:
            raise OSError(0, "Python does not know the path of its own program")
        words = [json.dumps(sys.path), str(memory_mb * settings.MEGABYTE), str(os.getpid())]
        self._memory_mb = memory_mb
        self._popen = subprocess.Popen(  # noqa: S603 - our own program and words
            [sys.executable, "-I", "-B", "-c", _START, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # away from Ctrl-C, which is for this process; Windows has no such thing, and
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # these instead, which POSIX has not
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.pid = self._popen.pid
        self._requests, self._replies = (cast("IO[bytes]", one) for one in (self._popen.stdin, self._popen.stdout))

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._popen.poll() is None

    def greet(self) -> None:
        """Wait until it is ready; errors are those of `ask`."""
        with self._deadline(START_SECONDS):
            if wire.read(self._replies, at_most=len(wire.READY)) != wire.READY:
                raise ValueError("it is of another version of odqa")

    def ask(self, *frames: bytes, seconds: float) -> bytes:
        """Send a request and wait for the reply.

        Raises:
            _TooLongError: There was none within `seconds`; the process is dead.
            _DiedError: The process ended.
            ValueError: The reply is too long.
        """
        with self._deadline(seconds):
            wire.write(self._requests, *frames)
            return wire.read(self._replies, at_most=MAX_REPLY_BYTES)

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Kill the process after `seconds`: that ends a wait for it on every system, and whatever it is doing."""
        passed = threading.Event()

        def end() -> None:
            passed.set()
            self._popen.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that only closed its pipe is killed later
                self._popen.wait(timeout=1.0)
            code = self._popen.poll()
            if passed.is_set() or code in _ALARMS:
                raise _TooLongError(f"it took longer than {seconds:.0f} s") from error
            raise _DiedError(self._how_it_ended(code)) from error
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End it at once, since it has nothing to lose, and take it off the system's table."""
        self._popen.kill()
        for stream in (self._requests, self._replies):
            with contextlib.suppress(OSError):  # what was not sent is of no use to anyone
                stream.close()
        self._popen.wait()

    def _how_it_ended(self, code: int | None) -> str:
        if code is None:
            return "the parser closed its pipe"
        if code >= 0:
            return f"the parser ended by itself (code {code})"
        name = signal.strsignal(-code)
        crashed = f"the parser crashed (signal {-code}{f', {name.lower()}' if name else ''})"
        # Native code that gets no memory mostly gives up in this way.
        return (
            f"{crashed}, perhaps in want of more than {self._memory_mb} MB of memory" if code in _GAVE_UP else crashed
        )
