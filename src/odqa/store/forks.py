"""What a child made by `os.fork` must neither use nor close: SQLite connections, and locks held by its parent.

A connection that was open at the fork belongs to the parent. The child must not even close it (that could remove the
parent's `-wal`), and must not open the same file again: SQLite would take the locks that it remembers from before the
fork for its own (https://www.sqlite.org/howtocorrupt.html, section 2.6). So connections are left alone in the child,
for ever, and their files are refused there. A lock by `flock` is shared with a child: its copy is closed at once, so
that the lock dies with the parent.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from pathlib import Path
from typing import Protocol

from odqa.errors import StoreError


class Inherited(Protocol):
    """Something that a forked child has to let go of."""

    def abandon(self) -> None:
        """Called in the child, right after the fork."""
        ...


_things: weakref.WeakSet[Inherited] = weakref.WeakSet()
_inherited_files: set[tuple[int, int]] = set()


def abandon_in_children(thing: Inherited) -> None:
    """Call `thing.abandon()` in every child that is forked while `thing` lives."""
    _things.add(thing)


def never_close(thing: object) -> None:
    """Keep an object alive to the very end of this process, when even Python's own clean-up does not close it.

    A global list would not do: when Python ends it drops modules, and with them connections, which closes them.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refuse_in_this_process(file: tuple[int, int]) -> None:
    """Make `own_file` refuse a file (device, inode) from now on."""
    _inherited_files.add(file)


def own_file(path: Path) -> tuple[int, int]:
    """Return the (device, inode) of a file, (0, 0) if there is none.

    Raises:
        StoreError: the file was open in the parent when this process was forked.
    """
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    file = (status.st_dev, status.st_ino)
    if file in _inherited_files:
        raise StoreError(
            f"{path} was open when this process was made by fork, and SQLite cannot open it again here: "
            "fork before the index is opened, close it before the fork, or start processes by spawn"
        )
    return file


def _in_child() -> None:
    for thing in list(_things):
        thing.abandon()
    _things.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
