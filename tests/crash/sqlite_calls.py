"""Passes a fault point before every write, sync, truncation and removal of a file that SQLite itself does.

SQLite reads and writes through a table of functions, its VFS (https://www.sqlite.org/c3ref/vfs.html). `hooked` replaces
some of them in the library that Python's `sqlite3` uses, so that a test can end the process between any two writes of a
commit, or let a write fail as on a full disk.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from typing import Any

from odqa.store.faults import fault_point

# What SQLite says of a disk that is full, read-only or broken; written by the number of the OSError.
SQLITE_FULL, SQLITE_IOERR = 13, 10

_METHODS = (
    "xClose xRead xWrite xTruncate xSync xFileSize xLock xUnlock xCheckReservedLock xFileControl xSectorSize "
    "xDeviceCharacteristics xShmMap xShmLock xShmBarrier xShmUnmap xFetch xUnfetch"
).split()
_VFS = "xOpen xDelete xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep xCurrentTime".split()


class _Methods(ctypes.Structure):
    _fields_ = [("iVersion", c_int), *((name, c_void_p) for name in _METHODS)]


class _File(ctypes.Structure):
    _fields_ = [("pMethods", POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        *((name, c_void_p) for name in _VFS),
    ]


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


def _vfs() -> Any:
    find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    find.restype, find.argtypes = POINTER(_Vfs), [c_char_p]
    return find(None).contents


def _passed(name: str) -> int:
    """Pass a fault point; what it raises becomes what SQLite would have been told."""
    try:
        fault_point(name)
    except OSError as error:
        return SQLITE_FULL if error.errno == errno.ENOSPC else SQLITE_IOERR
    return 0


class _Hooks:
    """The functions that stand in for SQLite's own; kept alive for as long as SQLite may call them."""

    def __init__(self, vfs: Any) -> None:
        self.vfs = vfs
        self.old_open, self.old_delete = vfs.xOpen, vfs.xDelete
        self.opened, self.deleted = _OPEN(vfs.xOpen), _DELETE(vfs.xDelete)
        self.tables: dict[int, _Methods] = {}
        self.kept: list[Any] = []
        self.new_open, self.new_delete = _OPEN(self.open), _DELETE(self.delete)

    def open(self, vfs: int, name: int, file: Any, flags: int, out: int) -> int:
        code = int(self.opened(vfs, name, file, flags, out))
        if code == 0 and file.contents.pMethods:
            file.contents.pMethods = ctypes.pointer(self.table(file.contents.pMethods))
        return code

    def table(self, original: Any) -> _Methods:
        """Copy a table of functions, with ours in place of those that change a file."""
        address = ctypes.addressof(original.contents)
        if address not in self.tables:
            copy = _Methods.from_buffer_copy(original.contents)
            for name, kind, point in (
                ("xWrite", _WRITE, "sqlite.before-write"),
                ("xTruncate", _TRUNCATE, "sqlite.before-truncate-write"),
                ("xSync", _SYNC, "sqlite.before-fsync"),
            ):
                setattr(copy, name, self.replacement(kind, kind(getattr(copy, name)), point))
            self.tables[address] = copy
            self.tables[ctypes.addressof(copy)] = copy
        return self.tables[address]

    def replacement(self, kind: Any, original: Any, point: str) -> int:
        def call(*arguments: Any) -> int:
            return _passed(point) or original(*arguments)

        def write(file: int, data: int, length: int, offset: int) -> int:
            """Write half of it first: a process may die, and a disk be full, in the middle."""
            half = length // 2
            return (
                _passed(point)
                or (half and original(file, data, half, offset))
                or _passed("sqlite.mid-write")
                or original(file, data, length, offset)
            )

        function = kind(write if kind is _WRITE else call)
        self.kept += [function, original]
        return ctypes.cast(function, c_void_p).value or 0

    def delete(self, vfs: int, name: bytes, sync: int) -> int:
        return _passed("sqlite.before-remove") or self.deleted(vfs, name, sync)


def reachable() -> bool:
    """Tell whether the SQLite of this Python can be reached; it cannot where it is hidden in the interpreter."""
    try:
        _vfs()
    except (AttributeError, OSError, ValueError):
        return False
    return True


_alive: list[_Hooks] = []  # a file that was opened under the hooks may be closed after them


@contextmanager
def hooked() -> Iterator[None]:
    """Pass fault points at every call by which SQLite changes a file that is opened meanwhile."""
    if not reachable():
        yield
        return
    hooks = _Hooks(_vfs())
    _alive.append(hooks)
    hooks.vfs.xOpen = ctypes.cast(hooks.new_open, c_void_p).value
    hooks.vfs.xDelete = ctypes.cast(hooks.new_delete, c_void_p).value
    try:
        yield
    finally:
        hooks.vfs.xOpen, hooks.vfs.xDelete = hooks.old_open, hooks.old_delete


_SYSTEM_OPEN = CFUNCTYPE(c_int, c_char_p, c_int, c_int, use_errno=True)
_SET_CALL = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p)
_GET_CALL = CFUNCTYPE(c_void_p, c_void_p, c_char_p)


class _SystemVfs(ctypes.Structure):
    _fields_ = [
        *_Vfs._fields_,
        ("xGetLastError", c_void_p),
        ("xCurrentTimeInt64", c_void_p),
        ("xSetSystemCall", c_void_p),
        ("xGetSystemCall", c_void_p),
        ("xNextSystemCall", c_void_p),
    ]


@contextmanager
def read_only_opens(folder: bytes) -> Iterator[None]:
    """Let SQLite open files below `folder` for reading only, its `-shm` too, where opens can be replaced."""
    if not reachable():
        yield
        return
    vfs = ctypes.cast(ctypes.pointer(_vfs()), POINTER(_SystemVfs))
    set_call, get_call = _SET_CALL(vfs.contents.xSetSystemCall), _GET_CALL(vfs.contents.xGetSystemCall)
    address = get_call(vfs, b"open")
    original = _SYSTEM_OPEN(address)

    def refuse(path: bytes, flags: int, mode: int) -> int:
        if path.startswith(folder) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            ctypes.set_errno(errno.EROFS)
            return -1
        return int(original(path, flags, mode))

    function = _SYSTEM_OPEN(refuse)
    set_call(vfs, b"open", ctypes.cast(function, c_void_p))
    try:
        yield
    finally:
        set_call(vfs, b"open", address)
