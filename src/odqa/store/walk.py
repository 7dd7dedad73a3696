"""All documents of an index one after the other, each with its blocks and passages, in the memory of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from odqa.store.blocks import joined
from odqa.store.metadata_writer import fts_row
from odqa.store.schema import Transaction, sql

_DOCUMENTS = sql("SELECT document_pk, doc_id, title, length, sections, metadata FROM documents ORDER BY document_pk")
_BLOCKS = sql("SELECT document_pk, start, text, checksum FROM document_blocks ORDER BY document_pk, start")
_PASSAGES = sql('SELECT document_pk, passage_id, "start", "end" FROM passages ORDER BY document_pk, "start"')


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it lies in the tables, unchecked; `blocks` are (start, text, checksum), `passages` (id, span)."""

    document_pk: int
    doc_id: str
    title: str
    length: int
    sections: str
    metadata: str
    blocks: tuple[tuple[int, bytes, int], ...]
    passages: tuple[tuple[int, int, int], ...]

    def text(self) -> str:
        """Return the whole text.

        Raises:
            BlockError: it is not the text that was written.
        """
        return joined(self.blocks, length=self.length)

    def fts_rows(self, text: str) -> list[dict[str, Any]]:
        """Return the rows of the full-text index for its passages."""
        return [fts_row(passage_id, self.title, text[start:end]) for passage_id, start, end in self.passages]


def walk_documents(connection: Transaction) -> Iterator[StoredDocument]:
    """Yield every document, in the order of their keys; rows that belong to none are left out."""
    blocks, passages = _Groups(connection, _BLOCKS), _Groups(connection, _PASSAGES)
    for row in connection.execute(_DOCUMENTS):
        pk = row[0]
        yield StoredDocument(pk, row[1], row[2], row[3], row[4], row[5], blocks.of(pk), passages.of(pk))


class _Groups:
    """Rows that are ordered by their first column, handed out by that column, which must be asked for in order."""

    def __init__(self, connection: Transaction, statement: Any) -> None:  # noqa: ANN401 - SQLAlchemy's, see schema.py
        rows = connection.execute(statement)
        self._groups = groupby(rows, key=lambda row: row[0])
        self._next: tuple[int, list[Any]] | None = None
        self._step()

    def of(self, key: int) -> tuple[Any, ...]:
        """Return the rows of a key without their first column."""
        while self._next is not None and self._next[0] < key:
            self._step()
        if self._next is None or self._next[0] != key:
            return ()
        rows = self._next[1]
        self._step()
        return tuple(rows)

    def _step(self) -> None:
        found = next(self._groups, None)
        self._next = None if found is None else (found[0], [tuple(row)[1:] for row in found[1]])
