"""An index that gives fixed results, and what the command shows of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from odqa.types import (
    Answer,
    IndexReport,
    IndexStatus,
    Passage,
    Place,
    QueryResult,
    RetrievedPassage,
    Section,
    SkippedFile,
    Span,
)

TEXT = "It was designed by Odile Marchetti."
PASSAGE = Passage(
    7, "hall.md", "Hall", TEXT, Span(10, 45), "/in/hall.md", (Section(Span(0, 50), page=2),), {"year": 1868}
)
SPAN = Span(29, 44)
ANSWER = Answer("Odile Marchetti", SPAN, PASSAGE, 3.5, 0.93, (Place(PASSAGE, SPAN),))
FOUND = (RetrievedPassage(PASSAGE, 0.5, 1, -0.25, None),)
RESULT = QueryResult("", ANSWER, (ANSWER,), FOUND, 0.1)
REPORT = IndexReport(("a",), (), 0, (), (), (SkippedFile("/in/a.png", "unsupported file type"),), 3, 1.5)
STATUS = IndexStatus("ix", 1, 3, 0, 4, "enc", "1", 384, 1, 1000, 2000, None, None, "auto")

REFERENCE = {
    "passage_id": 7,
    "doc_id": "hall.md",
    "title": "Hall",
    "span": {"start": 10, "end": 45},
    "source": "/in/hall.md",
}
WHERE = {"span": {"start": 29, "end": 44}, "page": 2, "heading": None, "passage": REFERENCE}
ANSWER_JSON = {"text": "Odile Marchetti", "score": 3.5, "probability": 0.93, "places": [WHERE]} | WHERE
FOUND_JSON = {
    "passage": REFERENCE
    | {
        "text": TEXT,
        "sections": [{"span": {"start": 0, "end": 50}, "page": 2, "heading": None}],
        "metadata": {"year": 1868},
    },
    "score": 0.5,
    "rank": 1,
    "dense_score": -0.25,
    "text_score": None,
}


@dataclass
class Fake:
    """Stands for an open index: gives fixed results, and keeps what it was asked for."""

    error: BaseException | None = None
    answer: Answer | None = ANSWER
    notices: tuple[str, ...] = ()
    asked: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Fake":
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def _done(self, *what: object) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def query_many(self, questions: Sequence[str], **options: object) -> Iterator[QueryResult]:
        self._done("query", list(questions), options)
        for question in questions:
            yield replace(RESULT, question=question, answer=self.answer)

    def search(self, question: str, **options: object) -> tuple[RetrievedPassage, ...]:
        self._done("search", question, options)
        return FOUND

    def index(self, paths: Sequence[str], **options: object) -> IndexReport:
        self._done("index", list(paths), {name: value for name, value in options.items() if name != "progress"})
        return REPORT

    def delete(self, doc_ids: Sequence[str]) -> list[str]:
        self._done("delete", list(doc_ids))
        return [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id == "hall.md"]

    def status(self) -> IndexStatus:
        return STATUS


Run = Callable[..., tuple[int, str, str]]
