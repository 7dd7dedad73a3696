"""The right to write to an index: a lock of the operating system, which dies with the process that holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from odqa.errors import LockedIndexError, StoreError
from odqa.store.faults import fault_point
from odqa.store.forks import abandon_in_children

LOCK_NAME = "lock"
POLL_SECONDS = 0.05
SHARED_SECONDS = 60.0  # how long a writer waits for readers that share the lock; each needs a moment

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

    def _try_shared(descriptor: int) -> bool:  # noqa: ARG001 - as below
        raise OSError(0, "Windows has no shared locks of files")

    def _unlock(descriptor: int) -> None:
        """Do nothing: what was never shared needs no unlocking."""
else:
    import fcntl

    def _try(descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _try_lock(descriptor: int) -> bool:
        return _try(descriptor, fcntl.LOCK_EX)

    def _try_shared(descriptor: int) -> bool:
        return _try(descriptor, fcntl.LOCK_SH)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FolderLock:
    """The lock of one index folder, held from `acquire` to `release`.

    The file `lock` stays when the lock is released; its text names the last holder. Two locks of one folder exclude
    each other within a process too. A child made by `os.fork` does not hold the lock of its parent.
    """

    def __init__(self, descriptor: int) -> None:
        """Wrap a descriptor that is locked already; callers use `acquire`."""
        self._descriptor: int | None = descriptor
        abandon_in_children(self)

    @classmethod
    def acquire(cls, folder: Path, *, wait_seconds: float = 0) -> Self:
        """Lock `folder`, trying for `wait_seconds` (0: once; readers that share the lock are waited for in any case).

        Raises:
            LockedIndexError: another holder kept it; the message names its process, host and command, and since when.
            StoreError: the folder cannot be written to.
        """
        path = folder / LOCK_NAME
        try:
            fault_point("lock.before-lock")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise StoreError(f"the index in {folder} cannot be written to: {error}") from error
        try:
            _wait_for(descriptor, folder, wait_seconds=wait_seconds)
            _write_holder(descriptor)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise StoreError(f"the index in {folder} cannot be locked: {error}") from error
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """Let go of a parent's lock, in a child made by fork; the parent keeps it."""
        self.release()

    def __enter__(self) -> Self:
        """Return the lock itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.release()


@contextmanager
def no_writer(folder: Path) -> Iterator[bool]:
    """Keep writers away from a folder that this process cannot write to, if there is none now.

    Readers share the lock. Yields False when a writer holds it. A folder without the file `lock` has no writer, and
    none may begin meanwhile.

    Raises:
        StoreError: locks do not work here, or a writer made the file `lock` meanwhile; what was read is not to be used.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        if path.exists():
            raise StoreError(f"the index in {folder} was written to while it was read: ask again") from None
        return
    except OSError as error:
        raise StoreError(f"the index in {folder} cannot be read safely: {error}") from error
    try:
        try:
            free = _try_shared(descriptor)
        except OSError as error:
            raise StoreError(f"the index in {folder} cannot be read safely: {error}") from error
        yield free
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, folder: Path, *, wait_seconds: float) -> None:
    """Take the lock. A reader that shares it holds it for moments only, so that is no reason to give up at once."""
    began = time.monotonic()
    while not _try_lock(descriptor):
        waited = time.monotonic() - began
        if waited >= wait_seconds:
            shared = _is_shared(descriptor)
            if shared and waited >= SHARED_SECONDS:  # the text in the file names the last writer, who may be long gone
                raise LockedIndexError(
                    f"the index in {folder} is being read without a pause by processes that may not write to it: "
                    "try again when they ask less"
                )
            if not shared:
                holder = _holder(folder / LOCK_NAME)
                raise LockedIndexError(
                    f"the index in {folder} is being written to by {holder}: wait until it is done, or stop it"
                )
        time.sleep(POLL_SECONDS)


def _is_shared(descriptor: int) -> bool:
    """Tell whether readers hold the lock, not a writer."""
    try:
        shared = _try_shared(descriptor)
    except OSError:  # Windows
        return False
    if shared:
        _unlock(descriptor)
    return shared


def _write_holder(descriptor: int) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv)[:1000],
    }
    text = json.dumps(holder).encode("ascii")
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        fault_point("lock.before-write")
        os.write(descriptor, text)
        fault_point("lock.mid-write")
        os.ftruncate(descriptor, len(text))
        fault_point("lock.after-write")
    except (
        OSError
    ):  # a full disk is no reason not to write: deleting needs the lock too. The text must not name another
        os.ftruncate(descriptor, 0)
        fault_point("lock.after-error")


def _holder(path: Path) -> str:
    """Describe the holder; its text may be half written at the moment, or from another version."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        since = f" since {holder['since']}" if "since" in holder else ""
        return f"process {holder['pid']} on {holder['host']}{since} ({holder['command'] or 'python'})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
