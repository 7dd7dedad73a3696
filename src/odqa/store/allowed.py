"""Which passages a filter lets through: the ids that dense and full-text search are then limited to."""

from __future__ import annotations

import difflib

import numpy as np

from odqa.protocols import PassageIds
from odqa.store.filters import DOCUMENT_KEYS, Expression, FilterSql
from odqa.store.schema import Transaction, documents, passages, sql

LISTED_FIELDS = 20  # fields named in a message
_HAS_FIELD = sql(
    "SELECT EXISTS (SELECT 1 FROM documents, json_each(documents.metadata) AS field WHERE field.key = :field)"
)
_LIST_FIELDS = sql(
    "SELECT DISTINCT field.key FROM documents, json_each(documents.metadata) AS field ORDER BY field.key"
)


def allowed_passages(connection: Transaction, where: Expression) -> PassageIds:
    """Return the ids, ascending, of the passages whose documents meet a filter; an empty array where none does.

    Raises:
        ValueError: the filter looks at a field that no document has, or has too many conditions.
    """
    found = FilterSql(where)
    for field in found.fields:
        if not connection.execute(_HAS_FIELD, {"field": field}).scalar_one():
            raise _unknown(field, list(connection.scalars(_LIST_FIELDS)))
    owned = passages.join(documents, documents.c.document_pk == passages.c.document_pk).select()
    ids = owned.with_only_columns(passages.c.passage_id).where(sql(found.sql)).order_by(passages.c.passage_id)
    return np.fromiter(connection.scalars(ids, found.parameters), dtype=np.int64)


def _unknown(field: str, fields: list[str]) -> ValueError:
    near = difflib.get_close_matches(field, [*fields, *DOCUMENT_KEYS], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    listed = ", ".join(map(repr, fields[:LISTED_FIELDS])) or "none"
    more = f" and {len(fields) - LISTED_FIELDS} more" if len(fields) > LISTED_FIELDS else ""
    return ValueError(
        f"no document of the index has a field {field!r}: {hint}The fields are {listed}{more}; "
        f"besides them there are {', '.join(DOCUMENT_KEYS)}"
    )
