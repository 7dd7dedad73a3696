"""The right to write to an index: a lock of the operating system, which dies with the process that holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from odqa.errors import LockedIndexError, StoreError

LOCK_NAME = "lock"
POLL_SECONDS = 0.05

if sys.platform == "win32":
    import msvcrt

    # Windows forbids others to read a locked byte: lock one far behind the text that names the holder.
    _LOCKED_BYTE = 1 << 30

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FolderLock:
    """The lock of one index folder, held from `acquire` to `release`.

    The file `lock` stays when the lock is released; its text names the last holder. Two locks of one folder exclude
    each other within a process too. A child made by `os.fork` shares the lock of its parent.
    """

    def __init__(self, descriptor: int) -> None:
        """Wrap a descriptor that is locked already; callers use `acquire`."""
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, folder: Path, *, wait_seconds: float = 0) -> Self:
        """Lock `folder`, trying for `wait_seconds` (0: once).

        Raises:
            LockedIndexError: another holder kept it; the message names its process, host and command.
            StoreError: the folder cannot be written to.
        """
        path = folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise StoreError(f"the index in {folder} cannot be written to: {error}") from error
        deadline = time.monotonic() + wait_seconds
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise LockedIndexError(
                        f"the index in {folder} is being written to by {_holder(path)}: "
                        "wait until it is done, or stop it"
                    )
                time.sleep(POLL_SECONDS)
            _write_holder(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Return the lock itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.release()


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)[:1000]}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder).encode("ascii"))


def _holder(path: Path) -> str:
    """Describe the holder; its text may be half written at the moment, or from another version."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} ({holder['command'] or 'python'})"
    except (ValueError, KeyError, TypeError):
        return "another process"
