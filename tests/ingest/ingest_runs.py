"""Runs over a folder of given files, and whether a process has ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from odqa import pipeline
from odqa.types import IndexReport


def index(docs: Path, files: Mapping[str, bytes], **options: bool) -> IndexReport:
    for name, content in files.items():
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_bytes(content)
    with pipeline.open(docs.parent / "index", create=True) as qa:
        return qa.index([docs], **options)


def reasons(report: IndexReport) -> dict[str, str]:
    return {skipped.source.rpartition("/")[2]: skipped.reason for skipped in report.skipped}


def gone(pid: int) -> bool:
    """Tell whether a process is dead and off the table."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
