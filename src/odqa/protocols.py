"""What the rooms promise each other. Anything that keeps these promises can take a room's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from odqa.types import Document, Passage, Section, Span

Vectors = NDArray[np.float32]
PassageIds = NDArray[np.int64]
TokenIds = NDArray[np.int32]  # 4 bytes a token, where a list of Python's numbers takes 36


@dataclass(frozen=True, slots=True)
class Encoding:
    """A tokenised text without special tokens: `ids[i]` covers the code points `offsets[i]` = `[start, end)`."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class TextTokenizer(Protocol):
    """Text -> word pieces with offsets. Knows no special tokens: a literal "[SEP]" is text like any other."""

    def encode(self, text: str) -> Encoding:
        """Tokenise one text."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise several texts; `encode_batch(t)[i] == encode(t[i])`."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What an index remembers of its encoder: an index is searched only by the encoder that made it."""

    name: str
    revision: str
    checksum: str
    width: int


class Encoder(Protocol):
    """Text -> vectors. The two methods differ: other lengths, and a passage may carry its document's title."""

    @property
    def identity(self) -> EncoderIdentity:
        """Name, revision, checksum of the network file, and width of the vectors."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer whose word pieces the lengths of passages are counted in."""
        ...

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> Vectors:
        """Questions -> float32 [len(questions), width]; an empty sequence gives [0, width].

        Without `lexical`, an encoder whose vectors hold words as well as meaning leaves the words out of the questions:
        for a search beside a full-text one. Other encoders make no difference.
        """
        ...

    def encode_passages(
        self, passages: Sequence[str], *, titles: Sequence[str], ids: Sequence[TokenIds] | None = None
    ) -> Vectors:
        """Passages with the titles of their documents ("" for none) -> float32 [len(passages), width].

        `ids` are what `tokenizer` makes of each passage, where that is known, so that it is not done again.
        """
        ...


@dataclass(frozen=True, slots=True)
class SpanCandidate:
    """A span read from one passage: `span` in the passage's own text.

    `score` is the log-odds of the span against "no answer in this window" and compares across windows and passages.
    """

    passage: int
    span: Span
    score: float


class Reader(Protocol):
    """Question + passages -> spans."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        """Return at most `n_best` candidates of each passage, best first over all; `passage` counts from 0."""
        ...

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        """Read several questions, each with its own passages: `read_many(q, p)[i] == read(q[i], p[i])`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TokenisedSpan:
    """A passage's span in its document, and the token ids of its text by itself, without special tokens."""

    span: Span
    ids: TokenIds


class Chunker(Protocol):
    """Text -> spans of passages that cover all its non-blank characters."""

    def cut(self, text: str, *, title: str, sections: Sequence[Section]) -> list[TokenisedSpan]:
        """Cut a document's text into passages, in order; blank text gives none."""
        ...


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document with its passages' spans and vectors (float32 [len(spans), width]), ready to be stored."""

    document: Document
    spans: tuple[Span, ...]
    vectors: Vectors


class VectorIndex(Protocol):
    """Nearest neighbours by L2 among vectors named by 64-bit ids. A cache: the metadata store holds the truth."""

    def add(self, ids: PassageIds, vectors: Vectors) -> None:
        """Add vectors float32 [n, width] under ascending ids int64 [n], all above those already held."""
        ...

    def remove(self, ids: PassageIds) -> None:
        """Exclude ids from every later search (a tombstone; the bytes go with `compact`)."""
        ...

    def search(
        self, queries: Vectors, *, top_k: int, allowed: PassageIds | None = None
    ) -> tuple[NDArray[np.float32], PassageIds]:
        """Return squared L2 distances and ids, both [n, top_k], ascending; missing neighbours are inf and -1.

        `allowed=None` means every id; an empty array means none.
        """
        ...


class MetadataStore(Protocol):
    """Documents and passages by id: the truth."""

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Return the living passages among `ids`."""
        ...

    def search_text(self, expression: str, *, top_k: int, allowed: PassageIds | None = None) -> list[tuple[int, float]]:
        """Return (passage_id, BM25 score, higher is better) of the best matches of an FTS5 expression."""
        ...
