"""Sixteen threads ask one open index: each gets the answers that one thread alone gets."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))

import crash_cases
import crash_child

from odqa import pipeline
from odqa.types import QueryResult

THREADS = 16
QUESTIONS = [f"What says {animal}{version}x{n}?" for animal in ("whale", "krill") for version in (1, 2) for n in (0, 3)]
MODES = ("hybrid", "dense", "text")


def without_time(result: QueryResult) -> tuple[object, ...]:
    return result.question, result.answer, result.answers, result.passages


def test_threads_get_the_answers_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_child.use_small_fakes(monkeypatch)
    crash_cases.write_version(tmp_path / "docs", crash_cases.ANIMALS, 2)
    asked = [(question, mode) for question in QUESTIONS for mode in MODES]
    with pipeline.open(tmp_path / "index", create=True) as qa:
        qa.index([tmp_path / "docs"])
        crash_cases.write_version(tmp_path / "docs", crash_cases.ANIMALS[3:], 1)
        qa.index([tmp_path / "docs"])  # the vectors lie in two segments, and some are dead
    with pipeline.open(tmp_path / "index") as qa:
        alone = [without_time(qa.query(question, mode=mode, threshold=0.0)) for question, mode in asked]
    # Opened anew: the threads also meet when the vectors are loaded.
    with pipeline.open(tmp_path / "index") as qa, ThreadPoolExecutor(THREADS) as pool:
        together = threading.Barrier(THREADS)

        def ask(thread: int) -> list[tuple[object, ...]]:
            together.wait(60)
            order = asked[thread:] + asked[:thread]
            found = [without_time(qa.query(question, mode=mode, threshold=0.0)) for question, mode in order]
            return found[len(asked) - thread :] + found[: len(asked) - thread]

        for answers in pool.map(ask, range(THREADS)):
            assert answers == alone
    assert sum(answer is not None for _, answer, _, _ in alone) > len(QUESTIONS) // 2
