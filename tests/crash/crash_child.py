"""Runs commands of odqa, each in a process of its own, and kills them when asked to: `python crash_child.py`.

Reads jobs from standard input, one line of JSON each, and answers each with one line. Everything is imported once; a
job is a fork, so that hundreds of them are quick. Where there is no fork, a job is a new process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import sqlite_calls
from fake_models import use_fake_models
from pytest import MonkeyPatch

from odqa import cli, settings
from odqa.ingest.chunker import PassageChunker
from odqa.protocols import TextTokenizer
from odqa.store import faults

COMMIT_PASSAGES = 4  # so that a few small files make several transactions
PASSAGE_TOKENS = 24


@dataclass(frozen=True)
class Job:
    """A command to run, in which environment, when to kill it (seconds; None: never), and how large files may be.

    `most_bytes` is a limit of the system on the size of a file: what is written beyond it fails, as on a full disk.
    """

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    kill_after: float | None = None
    most_bytes: int | None = None
    log: str = os.devnull


def small_chunker(tokenizer: TextTokenizer) -> PassageChunker:
    return PassageChunker(tokenizer, max_tokens=PASSAGE_TOKENS, title_tokens=6)


def use_small_fakes(monkeypatch: MonkeyPatch) -> None:
    """Fake models, small passages, small transactions: the same here and in the tests that look at the outcome."""
    use_fake_models(monkeypatch)
    monkeypatch.setattr("odqa.ingest.chunker.PassageChunker", small_chunker)
    monkeypatch.setattr(settings, "COMMIT_PASSAGES", COMMIT_PASSAGES)


def run(job: Job) -> int:
    """Run a command in this process, and return its exit code."""
    os.environ.update(job.environment)
    stream = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(stream, number)
    if job.most_bytes is not None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.most_bytes, job.most_bytes))
    with sqlite_calls.hooked():
        return cli.main(job.words)


def start(job: Job) -> tuple[int, subprocess.Popen[bytes] | None]:
    """Start a job and return its process id."""
    if not hasattr(os, "fork"):
        child = subprocess.Popen([sys.executable, __file__, json.dumps(asdict(job))])
        return child.pid, child
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = run(job)
        finally:
            os._exit(code)
    return pid, None


def finish(pid: int, child: subprocess.Popen[bytes] | None) -> int:
    """Return the exit code, negative when a signal ended it."""
    if child is not None:
        return child.wait()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve(lines: IO[str]) -> None:
    for line in lines:
        job = Job(**json.loads(line))
        began = time.perf_counter()
        pid, child = start(job)
        if job.kill_after is not None:
            time.sleep(job.kill_after)
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        code = finish(pid, child)
        sys.stdout.write(json.dumps({"code": code, "seconds": time.perf_counter() - began}) + "\n")
        sys.stdout.flush()


class Server:
    """The other end: gives jobs to a process that runs this file."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: Job) -> tuple[int, float]:
        """Return the exit code of a job, negative when a signal ended it, and the seconds that it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer["code"], answer["seconds"]


@contextmanager
def server() -> Iterator[Server]:
    """Start a process that runs jobs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODQA_")}
    # One thread: a fork copies no others, and FAISS and BLAS would wait for theirs.
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**kept, **one},
    ) as process:
        try:
            yield Server(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    use_small_fakes(MonkeyPatch())
    os.environ.pop(faults.VARIABLE, None)
    if len(sys.argv) > 1:
        sys.exit(run(Job(**json.loads(sys.argv[1]))))
    serve(sys.stdin)
