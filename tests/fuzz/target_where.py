"""Bytes as a filter: read, and where it can be read, asked of an index."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from fuzz_frame import Target

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.store.filters import AllOf, AnyOf, Condition, Expression
from odqa.store.index import Index, IndexIdentity
from odqa.store.where import parse_where
from odqa.types import Document, Span

IDENTITY = IndexIdentity(EncoderIdentity("tiny", "r1", "c" * 64, 2), passage_tokens=384, title_tokens=32)
FIELDS = {"a": 1, "b": "x", "c": True, "d": None, "e f": 2.5, "é": "1"}
_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _index() -> Index:
    _folders.append(tempfile.TemporaryDirectory())
    index = Index.create(Path(_folders[-1].name) / "index", IDENTITY)
    for number in range(4):
        document = Document(f"f/d{number}", "T", "text", f"/f/d{number}", modified=1e8 * number, metadata=FIELDS)
        index.write([PreparedDocument(document, (Span(0, 4),), np.ones((1, 2), dtype=np.float32))])
    return index


def written(expression: Expression) -> str:
    if isinstance(expression, Condition):
        quoted = ['"' + str(value).replace('"', '""') + '"' for value in expression.values]
        value = f"({', '.join(quoted)})" if expression.operator == "in" else quoted[0]
        key = expression.key.replace('"', '""')
        return f'"{key}" {expression.operator} {value}'
    word = " and " if isinstance(expression, AllOf) else " or "
    return word.join(f"({written(part)})" for part in expression.parts)


def negated(expression: Expression) -> Expression | None:
    """Return what is true where the filter is false, for filters of = and != alone."""
    if isinstance(expression, Condition):
        other = {"=": "!=", "!=": "="}.get(expression.operator)
        return Condition(expression.key, other, expression.value) if other else None
    parts = [negated(part) for part in expression.parts]
    if any(part is None for part in parts):
        return None
    return (AnyOf if isinstance(expression, AllOf) else AllOf)(tuple(part for part in parts if part is not None))


def check(data: bytes) -> None:
    """A filter or a ValueError; read, written and read again it is the same; and it is true or false of a document."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        expression = parse_where(text)
    except ValueError as error:
        assert str(error).startswith("not a filter: "), error
        return
    assert parse_where(written(expression)) == expression
    try:
        found = _index().allowed(expression)
    except ValueError as error:
        assert "no document of the index has a field" in str(error) or "conditions at most" in str(error), error
        return
    assert found is not None
    assert set(found.tolist()) <= {1, 2, 3, 4}
    other = negated(expression)
    if other is not None:
        opposite = _index().allowed(other)
        assert opposite is not None
        assert sorted([*found.tolist(), *opposite.tolist()]) == [1, 2, 3, 4], text


TARGET = Target(
    "where",
    check,
    lambda: [
        b"a>=1 and (b=x or c!=true) and modified<2026-01-31",
        b"'e f' in (2.5, \"x\", '') or path^=f/ and title prefix T",
        "é=1 AND suffix IN (pdf, .md) and metadata.d=null".encode(),
    ],
    tokens=(
        *b"and or in prefix AND ( ) , = != < <= > >= ^= ' \" '' \"\" a b c d".split(),
        *"é doc_id title path source suffix modified metadata.".encode().split(),
        *(b" ", b"\0", b"\xff", b"1", b"1e3", b"9" * 30, b"1e999", b"2026", b"2026-01", b"0000", b"9999-12"),
        *(b"(" * 60, b"true", b"%", b"\\", b"$.", b"a=1 or " * 210),
    ),
    max_bytes=3000,
)
