"""Folders in which nothing can be written, and disks that are full: the real ones where this process may make them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))

import sqlite_calls


def _mount(*words: str) -> bool:
    program = shutil.which("mount")
    return program is not None and subprocess.run([program, *words], capture_output=True, check=False).returncode == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: by permissions, for root by a mount, and where root may not mount by refusing opens."""
    if os.geteuid():
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
        for path, mode in modes.items():
            path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
    elif _mount("--bind", str(folder), str(folder)):
        try:
            assert _mount("-o", "remount,ro,bind", str(folder))
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        with refusing(folder):
            yield


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Refuse to open anything below a folder for writing, as a read-only file system does, in this process."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    opened, allowed = os.open, os.access

    def inside(path: object) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(folder)

    def fake_open(path: Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & writing and inside(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, mode, **options)

    def fake_access(path: Path, mode: int, **options: bool) -> bool:
        return allowed(path, mode, **options) and not (mode & os.W_OK and inside(path))

    with (
        patch("os.open", fake_open),
        patch("os.access", fake_access),
        sqlite_calls.read_only_opens(os.fsencode(folder)),
    ):
        yield


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[bool]:
    """Put a file system of `size` in place of a folder, and tell whether that was possible."""
    mounted = os.geteuid() == 0 and _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
