"""Sixteen threads with the bundled models."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from commands import QUESTIONS

from odqa import pipeline
from odqa.types import QueryResult

THREADS = 16


def without_time(result: QueryResult) -> tuple[object, ...]:
    return result.question, result.answer, result.answers, result.passages


def test_threads_get_the_answers_of_one_thread(sample_index: Path) -> None:
    """The probabilities too, to the last bit: what runs beside a question has no part in its answer."""
    lines = QUESTIONS.read_text("utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines][: THREADS // 2]
    with pipeline.open(sample_index) as qa:
        alone = [without_time(qa.query(question)) for question in questions]
        with ThreadPoolExecutor(THREADS) as pool:
            together = [without_time(result) for result in pool.map(qa.query, questions * 2)]
    assert together == alone * 2
    assert sum(answer is not None for _, answer, _, _ in alone) > len(questions) // 2
