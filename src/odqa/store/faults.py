"""Points at which a crash test may end the process or make a step fail; else each costs two dictionary look-ups.

`ODQA_FAULT_POINT=write.before-commit:3` makes the process kill itself (SIGKILL: no handler, no flush, no clean-up) when
it passes the point `write.before-commit` for the third time. `ODQA_FAULT_POINT=snapshot.before-fsync:1:ENOSPC` raises
`OSError` with that number there and at every later point: a disk that is full stays full. `ODQA_FAULT_RECORD=FILE`
appends the name of every point that is passed to a file, one a line. The points are listed in docs/storage.md.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "ODQA_FAULT_POINT"
RECORD = "ODQA_FAULT_RECORD"
# Points in front of something of ours that can fail; a commit fails by what SQLite does in it.
CAN_FAIL = re.compile(r".*\.(before|mid)-(.*-)?(write|fsync|rename|remove|lock)")

_passed: Counter[str] = Counter()
_watchers: list[Callable[[str], None]] = []


def fault_point(name: str) -> None:
    """End this process, or raise, if the environment asks for it at this passing of the point `name`; else do nothing.

    Raises:
        OSError: as asked for by the environment.
    """
    for watcher in _watchers:
        watcher(name)
    wanted, record = os.environ.get(VARIABLE), os.environ.get(RECORD)
    if record is not None:
        with Path(record).open("a", encoding="ascii") as file:
            file.write(name + "\n")
    if wanted is None:
        return
    _passed[name] += 1
    point, count, *action = wanted.split(":")
    if not action and point == name and int(count) == _passed[name]:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if action and _passed[point] >= int(count) and CAN_FAIL.fullmatch(name):
        number = getattr(errno, action[0])
        raise OSError(number, os.strerror(number))


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` with the name of every point that is passed meanwhile; what it raises is raised there."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
