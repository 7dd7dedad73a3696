"""Several processes that pull one model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from download_server import Step
from pulls import Pulled

from odqa.models import registry

# ---- several processes ---------------------------------------------------------------------------------------------

CHILD = """
import json, sys
from odqa.models.download import pull
from odqa.models.fetch import Patience
from odqa.models.registry import read_entry
spec = read_entry(json.loads(sys.argv[1]))
def show(progress):
    if progress.note or progress.bytes_done:
        print(progress.note or progress.file, flush=True)
print(len(pull(spec, base_url=sys.argv[2], progress=show, patience=Patience(stall_seconds=90)).fetched), flush=True)
"""


@pytest.fixture
def start(pulled: Pulled) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a pull in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", CHILD, json.dumps(registry.entry_of(pulled.spec)), pulled.server.url]
        environment = os.environ | pulled.environment
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    while text not in (line := process.stdout.readline()):
        assert line, "the process ended"


def last_line(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return out.splitlines()[-1]


def test_two_processes_fetch_a_model_once(weights: Pulled, start: Callable[[], subprocess.Popen[str]]) -> None:
    weights.server.steps = [Step(cut=100_000, stall=True)]
    first = start()
    read_until(first, "reader.bin")
    second = start()
    read_until(second, "another process is pulling it; waiting for that")
    weights.server.released.set()  # the first goes on now
    assert last_line(first) == "1"
    assert last_line(second) == "0"
    assert weights.is_whole()
    assert weights.server.asked() == [("reader.bin", None), ("reader.bin", "bytes=100000-")]


def test_the_lock_dies_with_its_process_and_the_next_goes_on(
    weights: Pulled, start: Callable[[], subprocess.Popen[str]]
) -> None:
    weights.server.steps = [Step(cut=100_000, stall=True)]
    first = start()
    read_until(first, "reader.bin")
    second = start()
    read_until(second, "waiting")
    first.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert last_line(second) == "1"
    assert weights.is_whole()
    assert weights.server.asked()[1][1] in [f"bytes={n}-" for n in range(4096, 100_001)]
