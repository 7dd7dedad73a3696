"""What a user typed, checked before anything is opened. Every function here raises ValueError, which is wrong usage."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from odqa import settings
from odqa.store.where import parse_where


def text(value: str) -> None:
    """Refuse a text that is blank or came from bytes that are not UTF-8."""
    if not value.strip():
        raise ValueError("it is blank")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{value} is not valid UTF-8") from None


def question(value: str) -> None:
    """Refuse a question that is blank or has neither letter nor digit, before a model is loaded for it."""
    text(value)
    if not any(character.isalnum() for character in value):
        raise ValueError(f"{value.strip()!r} has no words; ask something")


def path(value: str) -> None:
    """Refuse a path that is blank: an empty variable of a shell is not the working folder; nor can a path hold NUL."""
    if not value.strip() or "\0" in value:
        raise ValueError("it is blank; write . for the working folder")


def mode(value: str) -> None:
    """Refuse an unknown mode."""
    if value not in settings.MODES:
        raise ValueError(f"{value!r} is not one of {', '.join(settings.MODES)}")


def vector_index(value: str) -> None:
    """Refuse an unknown type of vector index."""
    if value not in settings.VECTOR_INDEXES:
        raise ValueError(f"{value!r} is not one of {', '.join(settings.VECTOR_INDEXES)}")


def profile(value: str) -> None:
    """Refuse an unknown profile."""
    if value not in settings.PROFILES:
        raise ValueError(f"{value!r} is not one of {', '.join(settings.PROFILES)}")


def precision(value: str) -> None:
    """Refuse an unknown precision."""
    if value not in settings.PRECISIONS:
        raise ValueError(f"{value!r} is not one of {', '.join(settings.PRECISIONS)}")


def task(value: str) -> None:
    """Refuse what no model does."""
    if value not in settings.TASKS:
        raise ValueError(f"{value!r} is not one of {', '.join(settings.TASKS)}")


def base_url(value: str) -> None:
    """Refuse what is not the address of a mirror."""
    from odqa.models.download import check_base_url  # only now: what fetches files takes a while to load

    check_base_url(value)


def stage(value: str) -> None:
    """Refuse what is no stage of a measurement."""
    if value not in settings.EVALUATION_STAGES:
        raise ValueError(f"{value} is none of {', '.join(settings.EVALUATION_STAGES)}")


def where(value: str) -> None:
    """Refuse a malformed filter on documents."""
    text(value)
    parse_where(value)


def probability(value: float) -> None:
    """Refuse what is not a probability, NaN included."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{value} is not a probability between 0 and 1")


def seconds(value: float) -> None:
    """Refuse a time that is negative, infinite or NaN."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{value} is not a number of seconds, 0 or more")


def read_questions(name: str) -> tuple[list[str], int]:
    """Read the questions of a file, or of standard input for "-", one a line or JSON objects with a "question".

    The file is read whole, so that a malformed line is found before anything is answered.

    Returns:
        The questions in order, at least one, and the number of blank lines between or around them.

    Raises:
        ValueError: the file cannot be read, is not UTF-8, holds no questions, or has a malformed line.
    """
    shown = "standard input" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ValueError(f"--questions {shown}: cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"--questions {shown}, line {line}: not UTF-8; save the file as UTF-8") from None
    if not lines[-1]:
        lines.pop()  # what follows the last line end is not a line
    questions = [_question(line, f"--questions {shown}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise ValueError(f"--questions {shown}: holds no questions")
    return questions, len(lines) - len(questions)


def _question(line: str, where: str) -> str:
    asked = line.strip()
    if asked.startswith("{"):
        try:
            asked = json.loads(line).get("question")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: begins with {{ but is not JSON: {error}") from None
        if not isinstance(asked, str):
            raise ValueError(f'{where}: has no text under "question"')
    try:
        question(asked)
    except ValueError as error:
        raise ValueError(f"{where}: the question cannot be asked: {error}") from None
    return asked


def read_texts(name: str) -> list[str]:
    """Read the texts of a file, one a line; blank lines count for nothing.

    Raises:
        ValueError: the file cannot be read, is not UTF-8, or holds no text.
    """
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8; save the file as UTF-8") from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{name} holds no text")
    return texts


def existing(paths: Sequence[str]) -> str | None:
    """Return the first of `paths` that does not exist, or None."""
    return next((one for one in paths if not os.path.lexists(one)), None)
