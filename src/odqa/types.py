"""The values that the rooms hand to each other: frozen, checked at birth, free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Metadata = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of Unicode code points, `[start, end)`, in the text of a document.

    Raises:
        ValueError: `start` is negative or `end` lies before it.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be cut out of a text."""
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a span: [{self.start}, {self.end})")

    def __len__(self) -> int:
        """Return the number of code points."""
        return self.end - self.start

    def of(self, text: str) -> str:
        """Cut the span out of `text`."""
        return text[self.start : self.end]

    def overlaps(self, other: Span) -> bool:
        """Tell whether the two ranges share a code point."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document that stands on one page (PDF) or under one heading (Markdown, HTML, DOCX).

    Sections of a document are ordered and do not overlap; text before the first heading belongs to none. `page` counts
    from 1.
    """

    span: Span
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A text as it was extracted, with where it came from. Every span in odqa refers to `text`.

    `source` is the absolute POSIX path of the file (bytes that are not UTF-8 written as backslash escapes); `record`
    is the record's own id for JSON lines, else "". Together they name the document's origin, and no two documents of an
    index share both. `modified` is the file's time of change in seconds since 1970; `content_hash` is the SHA-256
    (hex) of the bytes that the document was made from, and tells whether it has to be indexed again.
    """

    doc_id: str
    title: str
    text: str
    source: str
    record: str = ""
    suffix: str = ""
    modified: float = 0.0
    content_hash: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrievable piece of a document; `passage.span.of(document.text) == passage.text`.

    `passage_id` is unique in the index for ever, and is the id of its vector. `sections` are those of its document that
    share code points with it, with their spans in the document.
    """

    passage_id: int
    doc_id: str
    title: str
    text: str
    span: Span
    source: str
    sections: tuple[Section, ...] = ()
    metadata: Metadata = field(default_factory=dict)

    def section_at(self, position: int) -> Section | None:
        """Return the section that holds a position of the document, or None."""
        for section in self.sections:
            if section.span.start <= position < section.span.end:
                return section
        return None


@dataclass(frozen=True, slots=True)
class RetrievedPassage:
    """A passage as the retriever ranked it.

    `score` in [0, 1] orders the passages of one question; 1 is the first of every list asked. `dense_score` is the
    negated squared L2 distance of the vectors and `text_score` the BM25 score (higher is better); None where that list
    did not hold the passage.
    """

    passage: Passage
    score: float
    rank: int
    dense_score: float | None = None
    text_score: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One place where an answer stands: `span` in the document of `passage`."""

    passage: Passage
    span: Span

    @property
    def page(self) -> int | None:
        """The page on which the answer begins, for documents with pages."""
        section = self.passage.section_at(self.span.start)
        return section.page if section else None

    @property
    def heading(self) -> str | None:
        """The heading under which the answer begins, for documents with headings."""
        section = self.passage.section_at(self.span.start)
        return section.heading if section else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a document that answers the question; `answer.span.of(document.text) == answer.text`.

    `places` lists every place where an equal answer was read, the best one first: `places[0]` is where `text`, `span`
    and `passage` are taken from. `score` orders the answers of one question (higher is better); `probability` in [0, 1]
    is the calibrated chance that the answer is right.
    """

    text: str
    span: Span
    passage: Passage
    score: float
    probability: float
    places: tuple[Place, ...]

    @property
    def page(self) -> int | None:
        """The page on which the answer begins, for documents with pages."""
        return self.places[0].page

    @property
    def heading(self) -> str | None:
        """The heading under which the answer begins, for documents with headings."""
        return self.places[0].heading


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What was found for a question.

    `answer` is the best answer, or None when none is probable enough: the documents do not say. `answers` are the best
    candidates in order, kept even then, so that a caller can look below the threshold. `passages` are those that were
    retrieved; the reader leaves out some that can hardly hold a better answer, and parts of others, unless `read_all`
    was asked for.
    """

    question: str
    answer: Answer | None
    answers: tuple[Answer, ...]
    passages: tuple[RetrievedPassage, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file (or a record of one) that was not indexed, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did. Documents are named by `doc_id`.

    `vanished` are documents of the given folders whose file is gone; they stay in the index unless pruned. `partial`
    are files that were indexed, but for a part that could not be read, and which part that is.
    """

    added: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: int
    vanished: tuple[str, ...]
    pruned: tuple[str, ...]
    skipped: tuple[SkippedFile, ...]
    passages: int
    seconds: float
    partial: tuple[SkippedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Where an indexing run stands, as handed to the progress callback after each batch and file.

    `bytes_done` and `bytes_total` count the files' sizes on disk.
    """

    documents: int
    passages: int
    bytes_done: int
    bytes_total: int
    current: str


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index holds and what it was made with. Sizes are in bytes.

    `vector_index` is the type that was asked for ("auto", "flat" or "binary"), `snapshot_type` the one in use.
    """

    path: str
    documents: int
    passages: int
    tombstones: int
    generation: int
    encoder: str
    encoder_revision: str
    passage_tokens: int
    schema_version: int
    metadata_bytes: int
    snapshot_bytes: int
    snapshot_generation: int | None
    snapshot_type: str | None
    vector_index: str


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction gave back: the bytes of the index folder before and after, and the tombstones dropped.

    `notices` tells what could not be done yet.
    """

    path: str
    bytes_before: int
    bytes_after: int
    tombstones: int
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an index: its kind, what it concerns, and whether it was mended.

    `kind` is one of the names in docs/storage.md; they do not change.
    """

    kind: str
    detail: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of looking through an index; `clean` when nothing is wrong or everything was mended.

    `lost` names the documents whose contents a repair had to remove: indexing their files again brings them back.
    `notices` tells what is worth knowing but no damage, such as that there is no snapshot.
    """

    problems: tuple[Problem, ...]
    documents: int
    passages: int
    lost: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is left to mend."""
        return all(problem.mended for problem in self.problems)
