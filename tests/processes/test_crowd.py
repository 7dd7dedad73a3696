"""One writer and eight readers, each a process of its own, for a while: nothing is locked, stale, or from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

READERS = 8


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_crowd_reads_while_one_writes(tmp_path: Path, seconds: int) -> None:
    """Stricter than "within 2 seconds": what was committed before a search began is found, what it replaced is not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ODQA_")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crowd.py")), str(tmp_path), str(seconds), str(READERS)],
        env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    *outcomes, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last == {"exit codes": [0] * (READERS + 1)}
    assert [outcome["wrong"] for outcome in outcomes] == [[]] * (READERS + 1)
    readers = [outcome for outcome in outcomes if outcome["role"] != "writer"]
    assert {outcome["role"] for outcome in readers} == {"reader", "reopening", "read-only"}
    for outcome in readers:
        assert outcome["done"]["answers"] > 0
        assert outcome["done"]["files held against the board"] > 0
    (writer,) = [outcome for outcome in outcomes if outcome["role"] == "writer"]
    assert min(writer["done"][what] for what in ("change", "delete", "prune", "compact")) > 0
