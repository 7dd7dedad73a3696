"""Passages as they are served: cut out of the blocks that they touch, with the fields of their document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from odqa.store.blocks import BlockError, cut, damaged_text
from odqa.store.schema import BLOCK_CODE_POINTS, Transaction, document_blocks, documents, passages, sql
from odqa.types import Passage, Section, Span

_Fields = tuple[tuple[Section, ...], dict[str, Any]]
_NO_FIELDS = (json.dumps([]), json.dumps({}))
_blocks = document_blocks.c
_touched = (
    (_blocks.document_pk == passages.c.document_pk)
    & (_blocks.start < passages.c.end)
    & (_blocks.start > passages.c.start - BLOCK_CODE_POINTS)
)
# One row for each block of each passage; a passage whose blocks are lost keeps a row without a block. Compiled once:
# SQLAlchemy needs three times as long to find a statement among those that it has compiled as SQLite needs to run it.
_PASSAGES = str(
    passages.join(documents, documents.c.document_pk == passages.c.document_pk)
    .outerjoin(document_blocks, _touched)
    .select()
    .with_only_columns(
        passages.c.passage_id,
        documents.c.document_pk,
        passages.c.start,
        passages.c.end,
        documents.c.doc_id,
        documents.c.title,
        documents.c.source,
        documents.c.sections,
        documents.c.metadata,
        _blocks.start,
        _blocks.text,
        _blocks.checksum,
    )
    .where(passages.c.passage_id.in_(sql("SELECT value FROM json_each(?)")))
    .order_by(passages.c.passage_id, _blocks.start)
    .compile(compile_kwargs={"literal_binds": True})
)


def read_passages(connection: Transaction, ids: Sequence[int]) -> dict[int, Passage]:
    """Read the living passages among `ids`.

    Raises:
        DamagedIndexError: the document of one of them is damaged; names it.
    """
    found: dict[int, Passage] = {}
    fields: dict[int, _Fields] = {}
    rows = connection.exec_driver_sql(_PASSAGES, (json.dumps([int(passage_id) for passage_id in ids]),)).all()
    for passage_id, blocks in groupby(rows, key=itemgetter(0)):
        found[passage_id] = _passage(list(blocks), fields)
    return found


def document_fields(sections: str, metadata: str) -> _Fields:
    """Return sections and metadata of a document, as they are stored.

    Raises:
        BlockError: they cannot be read.
    """
    try:
        if (sections, metadata) == _NO_FIELDS:  # most plain texts: parsing it for 30 passages takes 0.1 ms
            return (), {}
        found = tuple(Section(Span(start, end), page, heading) for start, end, page, heading in json.loads(sections))
        return found, json.loads(metadata)
    except (TypeError, ValueError) as error:
        raise BlockError(f"its fields cannot be read: {error}") from error


def _passage(rows: Sequence[Sequence[Any]], fields: dict[int, _Fields]) -> Passage:
    passage_id, document_pk, start, end, doc_id, title, source, own_sections, own_metadata, *_ = rows[0]
    try:
        if document_pk not in fields:
            fields[document_pk] = document_fields(own_sections, own_metadata)
        text = cut(((at, block, checksum) for *_, at, block, checksum in rows), start=start, end=end)
    except BlockError as error:
        raise damaged_text(doc_id, error) from error
    (sections, metadata), span = fields[document_pk], Span(start, end)
    touched = tuple(section for section in sections if section.span.overlaps(span)) if sections else ()
    return Passage(passage_id, doc_id, title, text, span, source, touched, metadata)
