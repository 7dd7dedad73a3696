"""Runs the command `odqa` in a process of its own, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = Any  # whatever a command writes

REPOSITORY = Path(__file__).parents[2]
CORPUS = REPOSITORY / "data" / "corpus"
QUESTIONS = REPOSITORY / "data" / "questions.jsonl"

# Runs the command with the bundled models taken from another folder.
WITH_MODELS = """
import sys
from pathlib import Path
from odqa.models import registry
registry.BUNDLED = Path(sys.argv[1])
from odqa.cli import main
sys.exit(main(sys.argv[2:]))
"""
# Takes Ctrl-C also where the tests run in the background and ignore it.
WITH_CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from odqa.cli import main
sys.exit(main(sys.argv[1:]))
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the process without what would change odqa's defaults."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODQA_")}
    return {**kept, "NO_COLOR": "1", **(extra or {})}


def odqa(
    *words: str | Path, given: str | None = None, extra: Mapping[str, str] | None = None, script: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `odqa WORDS`, with `given` on standard input; `script` is Python that runs the command instead."""
    start = ["-m", "odqa"] if script is None else ["-c", script]
    return subprocess.run(
        [sys.executable, *start, *map(str, words)],
        input=given,
        env=environment(extra),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def as_json(done: subprocess.CompletedProcess[str]) -> Json:
    """The one line of JSON that a command wrote, after it ended well; a slow machine may have shown progress."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def failed(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr of a command that failed: no traceback, nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("odqa: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr
