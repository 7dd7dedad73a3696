"""Fifty real questions of the sample corpus, each with a stretch of the document that answers it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from odqa.ingest.loaders import Record, read_records
from odqa.ingest.sources import SourceFile, discover

DATA = Path(__file__).resolve().parents[3] / "data"
COUNT = 50
TEXT_FORMATS = (".md", ".txt")  # need no parser besides Python's own
WHOLE = 9  # every ninth pair has the whole document, which fills more than one window


@dataclass(frozen=True)
class Pair:
    """A question, and a passage that holds its answer."""

    question: str
    passage: str


@cache
def pairs() -> tuple[Pair, ...]:
    """Return the pairs, always the same ones; no two passages are alike."""
    lines = (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row.get("doc", "").endswith(TEXT_FORMATS)][:COUNT]
    texts = {row["doc"]: _text(row["doc"]) for row in rows}
    found, wholes = [], set()
    for number, row in enumerate(rows):
        text = texts[row["doc"]]
        if number % WHOLE == 0 and row["doc"] not in wholes:
            wholes.add(row["doc"])
            found.append(Pair(row["question"], text))
        else:
            found.append(Pair(row["question"], _around(text, text.index(row["answers"][0]), number)))
    assert len({pair.passage for pair in found}) == COUNT
    return tuple(found)


def _text(doc: str) -> str:
    source = next(discover([DATA / "corpus" / doc]))
    assert isinstance(source, SourceFile), source
    record = next(read_records(source))
    assert isinstance(record, Record), record
    return record.load().text


def _around(text: str, at: int, number: int) -> str:
    """Cut some 200 to 1,000 code points around a place out of a text, at blanks."""
    first = text.rfind(" ", 0, max(0, at - 100 - 9 * number)) + 1
    last = text.find(" ", at + 100 + 7 * number)
    return text[first : last if last > 0 else len(text)]
