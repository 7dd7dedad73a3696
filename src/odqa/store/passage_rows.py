"""Passages as they are served: cut out of the blocks that they touch, with the fields of their document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from odqa.store.blocks import BlockError, cut, damaged_text
from odqa.store.schema import BLOCK_CODE_POINTS, Transaction, document_blocks, documents, passages, sliced
from odqa.types import Passage, Section, Span

_blocks = document_blocks.c
_touched = (
    (_blocks.document_pk == passages.c.document_pk)
    & (_blocks.start < passages.c.end)
    & (_blocks.start > passages.c.start - BLOCK_CODE_POINTS)
)
# One row for each block of each passage; a passage whose blocks are lost keeps a row without a block.
_PASSAGES = (
    passages.join(documents, documents.c.document_pk == passages.c.document_pk)
    .outerjoin(document_blocks, _touched)
    .select()
    .with_only_columns(
        passages,
        documents.c.doc_id,
        documents.c.title,
        documents.c.source,
        documents.c.sections,
        documents.c.metadata,
        _blocks.start.label("block_start"),
        _blocks.text.label("block"),
        _blocks.checksum.label("checksum"),
    )
    .order_by(passages.c.passage_id, _blocks.start)
)


def read_passages(connection: Transaction, ids: Sequence[int]) -> dict[int, Passage]:
    """Read the living passages among `ids`.

    Raises:
        DamagedIndexError: the document of one of them is damaged; names it.
    """
    found: dict[int, Passage] = {}
    fields: dict[int, tuple[tuple[Section, ...], dict[str, Any]]] = {}
    for part in sliced([int(passage_id) for passage_id in ids]):
        rows = connection.execute(_PASSAGES.where(passages.c.passage_id.in_(part)))
        for passage_id, blocks in groupby(rows, key=lambda row: row.passage_id):
            found[passage_id] = _passage(list(blocks), fields)
    return found


def document_fields(row: Any) -> tuple[tuple[Section, ...], dict[str, Any]]:  # noqa: ANN401 - a row of SQLAlchemy
    """Return sections and metadata of a row of `documents`.

    Raises:
        BlockError: they cannot be read.
    """
    try:
        sections = [Section(Span(start, end), page, heading) for start, end, page, heading in json.loads(row.sections)]
        metadata: dict[str, Any] = json.loads(row.metadata)
    except (TypeError, ValueError) as error:
        raise BlockError(f"its fields cannot be read: {error}") from error
    return tuple(sections), metadata


def _passage(blocks: list[Any], fields: dict[int, tuple[tuple[Section, ...], dict[str, Any]]]) -> Passage:
    row = blocks[0]
    try:
        if row.document_pk not in fields:
            fields[row.document_pk] = document_fields(row)
        owned = ((one.block_start, one.block, one.checksum) for one in blocks)
        text = cut(owned, start=row.start, end=row.end)
    except BlockError as error:
        raise damaged_text(row.doc_id, error) from error
    sections, metadata = fields[row.document_pk]
    span = Span(row.start, row.end)
    return Passage(
        passage_id=row.passage_id,
        doc_id=row.doc_id,
        title=row.title,
        text=text,
        span=span,
        source=row.source,
        sections=tuple(section for section in sections if section.span.overlaps(span)),
        metadata=metadata,
    )
