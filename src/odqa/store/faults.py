"""Points at which a crash test may kill the process; without `ODQA_FAULT_POINT` each costs one dictionary look-up.

`ODQA_FAULT_POINT=write.before-commit:3` makes the process kill itself (SIGKILL: no handler, no flush, no clean-up) when
it passes the point `write.before-commit` for the third time. The points are listed in docs/storage.md.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "ODQA_FAULT_POINT"
_passed: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Kill this process if the environment asks for it at this passing of the point `name`; else do nothing."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    point, _, count = wanted.rpartition(":")
    _passed[name] += 1
    if point == name and int(count) == _passed[name]:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
