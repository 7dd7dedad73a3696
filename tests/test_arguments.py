import io
import math
import sys
from pathlib import Path

import pytest

from odqa import arguments


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_probability_refuses(value: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        arguments.probability(value)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_seconds_refuses(value: float) -> None:
    with pytest.raises(ValueError, match="not a number of seconds"):
        arguments.seconds(value)


@pytest.mark.parametrize("value", ["", " \n", "caf\udce9"])
def test_text_refuses(value: str) -> None:
    with pytest.raises(ValueError, match=r"blank|UTF-8"):
        arguments.text(value)


def test_stage_refuses() -> None:
    arguments.stage("reading")
    with pytest.raises(ValueError, match="end to end is none of retrieval, reading, end-to-end, abstention"):
        arguments.stage("end to end")


def test_bounds_are_allowed() -> None:
    arguments.probability(0.0)
    arguments.probability(1.0)
    arguments.seconds(0.0)


def test_questions_are_lines_or_objects(tmp_path: Path) -> None:
    path = tmp_path / "questions"
    path.write_bytes('\ufeffWho?\r\n\n  {"id": 1, "question": "What\\u2028now?"}\n \nWhere\u2028is it?'.encode())
    assert arguments.read_questions(str(path)) == (["Who?", "What\u2028now?", "Where\u2028is it?"], 2)


def test_questions_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Wer schläft?\n".encode())))
    assert arguments.read_questions("-") == (["Wer schläft?"], 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no questions"),
        (b"\n \n", "holds no questions"),
        (b"Who?\ncaf\xe9?\n", "line 2: not UTF-8"),
        (b'Who?\n{"question": "Who?"\n', "line 2: begins with { but is not JSON"),
        (b'{"question": ' + b"[" * 100_000, "line 1: begins with { but is not JSON: maximum recursion depth"),
        (b'{"query": "Who?"}\n', 'line 1: has no text under "question"'),
        (b'{"question": ["Who?"]}\n', 'line 1: has no text under "question"'),
        (b'{"question": " "}\n', "line 1: the question cannot be asked: it is blank"),
        (b'{"question": "\\ud800"}\n', "line 1: the question cannot be asked"),
        (b"Who?\n?!\n", "line 2: the question cannot be asked: '?!' has no words"),
    ],
)
def test_malformed_questions_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "questions"
    path.write_bytes(data)
    with pytest.raises(ValueError) as raised:
        arguments.read_questions(str(path))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_of_questions_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: cannot be read: no such file"):
        arguments.read_questions(str(tmp_path / "nowhere"))
