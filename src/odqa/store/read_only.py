"""Reading an index where nothing can be written: a read-only folder or file, a read-only mount, a full disk.

SQLite in WAL mode wants to make `-wal` and `-shm` beside the file even to read it. Where it cannot:

- While a writer is at work, or transactions lie in `-wal`, the side files are there, and SQLite reads with them
  (`mode=ro`) as any reader does.
- Otherwise `odqa.sqlite` alone is the whole index, and SQLite reads it without any side file (`immutable=1`). It then
  takes no lock and looks for no change, so nobody may write meanwhile: the lock of the folder is held for as long as
  the connection, shared with other such readers. A writer waits for those moments.

Every use opens a connection of its own, so the next one sees what was written in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from odqa.errors import DamagedIndexError, StoreError
from odqa.store.lock import no_writer

SETTLE_SECONDS = 60.0  # how long a writer may take to begin or to end, on a machine that is busy
POLL_SECONDS = 0.02
Connection = TypeVar("Connection")


class ReadOnlyAccess(Generic[Connection]):
    """Opens connections to a file whose folder cannot be written to.

    Args:
        path: the `odqa.sqlite`.
        connect: opens a connection with the given URI parameters and reads something with it; StoreError if it cannot.
        close: closes it.
    """

    def __init__(
        self, path: Path, *, connect: Callable[[str], Connection], close: Callable[[Connection], None]
    ) -> None:
        """Open nothing yet."""
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._shm = path.with_name(path.name + "-shm")
        self._connect = connect
        self._close = close

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a connection for one use.

        Raises:
            StoreError: a writer left transactions behind that cannot be read here, or is neither here nor gone.
            DamagedIndexError: the file cannot be read.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            with no_writer(self._path.parent) as free:
                connection = self._opened(free=free, last=time.monotonic() >= deadline)
                if connection is not None:
                    try:
                        yield connection
                    finally:
                        self._close(connection)
                    return
            time.sleep(POLL_SECONDS)  # side files come and go while a writer begins or ends

    def _opened(self, *, free: bool, last: bool) -> Connection | None:
        """Open a connection; None when it is worth trying again."""
        there = self._wal.exists()
        pending = there and self._wal.stat().st_size > 0
        if pending and free and not self._shm.exists():
            raise StoreError(
                f"{self._wal} holds transactions that cannot be read while the folder is read-only: "
                "open the index once where the folder can be written to, with `odqa status`"
            )
        alone = free and not pending
        if not alone and not there and not last:
            return None
        try:
            return self._connect("mode=ro&immutable=1" if alone else "mode=ro")
        except DamagedIndexError:
            raise
        except StoreError:
            if last:
                raise
            return None
