"""Several reads of a thread in one transaction: they see one state of the index, and only the first must open it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Reads(Generic[Connection]):
    """Gives connections in read transactions: the one that the thread holds, else one for the moment.

    Args:
        access: opens a connection and closes it again.
    """

    def __init__(self, access: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Open nothing yet."""
        self._access = access
        self._held = threading.local()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Give the connection that this thread holds, or open one and close it at the end."""
        held: Connection | None = getattr(self._held, "connection", None)
        if held is not None:
            yield held
            return
        with self._access() as connection:
            yield connection

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Hold a connection for this thread: what is read meanwhile is the state at the first of its reads."""
        with self.connection() as connection, self._holding(connection):
            yield

    @contextmanager
    def newest_state(self) -> Iterator[None]:
        """Read the newest state in spite of one that this thread holds."""
        with self._holding(None):
            yield

    @contextmanager
    def _holding(self, connection: Connection | None) -> Iterator[None]:
        before: Connection | None = getattr(self._held, "connection", None)
        self._held.connection = connection
        try:
            yield
        finally:
            self._held.connection = before
