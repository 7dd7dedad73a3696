"""Reading files that others may be writing to: what is read is one version, or it is said that it is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import IO

CHANGES = "it changes while it is read; index it again when nobody writes to it any more"
_ATTEMPTS = 4
_WAIT_SECONDS = 0.05
# A file that was written to so shortly ago may be written to again without another time of change.
_SETTLED_SECONDS = 2.0

Version = tuple[int, int, int, int]


def version(stream: IO[bytes]) -> Version:
    """Return what changes with the contents of an open file: inode, size, times of change (nanoseconds)."""
    status = os.fstat(stream.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_whole(opened: Callable[[], IO[bytes]], *, most: int) -> bytes:
    """Read one version of a file, at most `most` bytes of it.

    A file that changes meanwhile is read again, a few times.

    Args:
        opened: Opens the file.
        most: Largest number of bytes to read.

    Raises:
        OSError: The file cannot be read, or changes all the time.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_WAIT_SECONDS)
        with closing(opened()) as stream:
            before = version(stream)
            data = stream.read(most)
            if version(stream) == before and (_settled(before) or _same(stream, data, most=most)):
                return data
    raise OSError(0, CHANGES)


def _settled(found: Version) -> bool:
    """Tell whether the last change is long ago; a change in the future (the clock went back) is not."""
    return time.time() - max(found[2], found[3]) / 1e9 > _SETTLED_SECONDS


def _same(stream: IO[bytes], data: bytes, *, most: int) -> bool:
    stream.seek(0)
    return stream.read(most) == data
