"""Indexes of any size without hours of encoding: real texts and made ones, with made vectors."""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import odqa
from common import say
from material import MadeVectors, Piece, paragraphs, tokenizer, write_lines
from odqa import settings
from odqa.indexing import Indexer
from odqa.ingest.chunker import PassageChunker
from odqa.models import registry
from odqa.pipeline import QuestionAnswering
from odqa.protocols import Encoder, EncoderIdentity, PreparedDocument, TokenIds
from odqa.retriever.encoder import load_encoder
from odqa.store.index import Index, IndexIdentity
from odqa.types import Document, IndexReport, Span

BATCH_PASSAGES = 4096


def identity() -> IndexIdentity:
    """Return what an index of the bundled encoder remembers of it."""
    spec = registry.find(settings.DEFAULT_ENCODER)
    encoder = EncoderIdentity(spec.name, spec.revision, spec.checksum, spec.width)
    return IndexIdentity(encoder, settings.PASSAGE_TOKENS, settings.TITLE_TOKENS)


def build(folder: Path, documents: Iterable[list[Piece]], vectors: Iterator[np.ndarray]) -> int:
    """Make an index of documents that are given as their passages; return the number of passages.

    Args:
        folder: where it goes; it must not be there.
        documents: each a list of passages of one title, which are joined by blank lines.
        vectors: blocks of rows, as many in all as there are passages, or more.
    """
    rows = (row for block in vectors for row in block)
    numbered = enumerate(documents)
    passages = 0
    with Index.create(folder, identity()) as index:
        while batch := list(_batch(numbered)):
            prepared = [_prepared(number, pieces, rows) for number, pieces in batch]
            index.write(prepared)
            passages += sum(len(one.spans) for one in prepared)
            say(f"{passages} passages in the index")
        index.write_snapshot()
    return passages


def index_lines(folder: Path, lines: Path, encoder: Encoder) -> IndexReport:
    """Index a file of JSON lines as `odqa index` does, into a new index, with an encoder that is loaded already."""
    with Index.create(folder, IndexIdentity(encoder.identity, settings.PASSAGE_TOKENS, settings.TITLE_TOKENS)) as index:
        indexer = Indexer(index, encoder=encoder, chunker=PassageChunker(encoder.tokenizer))
        report = indexer.run([lines], prune=False)
    if report.skipped:
        raise ValueError(f"{report.skipped[0].source} was skipped: {report.skipped[0].reason}")
    return report


@contextmanager
def paragraph_index(folder: Path, options: argparse.Namespace) -> Iterator[tuple[QuestionAnswering, int]]:
    """Index the paragraphs of the options' SQuAD file, really encoded, and open the index; few of them if `quick`."""
    pieces = paragraphs(options.squad)
    if options.quick:
        pieces = pieces[:8]
    lines = write_lines(folder / "paragraphs.jsonl", pieces)
    passages = index_lines(folder / "index", lines, load_encoder(settings.DEFAULT_ENCODER)).passages
    with odqa.open(folder / "index") as qa:
        yield qa, passages


class ServingEncoder:
    """Keeps the promises of an encoder without computing: text n of those it has ever seen gets row n of a table.

    So the time and the memory of everything else can be measured. Rows come again when the table is at its end.
    """

    def __init__(self, rows: np.ndarray) -> None:
        """Serve the rows of a table, float32 [n, width]."""
        self.identity = identity().encoder
        self.tokenizer = tokenizer()
        self._rows, self._served = rows, 0

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> np.ndarray:  # noqa: ARG002
        """Questions -> float32 [len(questions), width]."""
        places = (self._served + np.arange(len(questions))) % len(self._rows)
        self._served += len(questions)
        return self._rows[places]

    def encode_passages(
        self,
        passages: Sequence[str],
        *,
        titles: Sequence[str],  # noqa: ARG002
        ids: Sequence[TokenIds] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Passages -> float32 [len(passages), width]."""
        return self.encode_questions(passages)


def _batch(numbered: Iterator[tuple[int, list[Piece]]]) -> Iterator[tuple[int, list[Piece]]]:
    passages = 0
    for number, pieces in numbered:
        yield number, pieces
        passages += len(pieces)
        if passages >= BATCH_PASSAGES:
            return


def _prepared(number: int, pieces: list[Piece], rows: Iterator[np.ndarray]) -> PreparedDocument:
    spans, at = [], 0
    for piece in pieces:
        spans.append(Span(at, at + len(piece.text)))
        at += len(piece.text) + 2
    text = "\n\n".join(piece.text for piece in pieces)
    document = Document(
        doc_id=f"made/{number}",
        title=pieces[0].title,
        text=text,
        source=f"/made/{number}.txt",
        suffix=".txt",
        content_hash=hashlib.sha256(text.encode()).hexdigest(),
    )
    return PreparedDocument(document, tuple(spans), np.stack(list(itertools.islice(rows, len(spans)))))


def grouped(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Put so many neighbouring pieces into each document, under the title of the first."""
    rest = iter(pieces)
    while group := list(itertools.islice(rest, size)):
        yield group


def made_vectors(base: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield blocks of made vectors; see `MadeVectors`."""
    return MadeVectors(base).blocks(count)
