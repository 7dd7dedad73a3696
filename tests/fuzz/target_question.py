"""Bytes as a question, given to the full-text index."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from fuzz_frame import Target

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.retriever.hybrid import has_words, text_expression
from odqa.store.index import Index, IndexIdentity
from odqa.types import Document, Span

TEXTS = (
    "the whale sings near and not",
    "an orca or a seal",
    "title text rowid rank",
    'whale* "quoted" NEAR(x)',
    "é 東京 x",
)
IDENTITY = IndexIdentity(EncoderIdentity("tiny", "r1", "c" * 64, 2), passage_tokens=384, title_tokens=32)
# Words in quotes, OR-ed, and pairs of them that only score.
SHAPE = r'("[^"\s]+"( OR "[^"\s]+")*( OR NEAR\("[^"\s]+" "[^"\s]+", \d+\))*)?'
_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _index() -> Index:
    _folders.append(tempfile.TemporaryDirectory())
    index = Index.create(Path(_folders[-1].name) / "index", IDENTITY)
    for number, text in enumerate(TEXTS):
        document = Document(f"d{number}", "heading", text, f"/d{number}")
        index.write([PreparedDocument(document, (Span(0, len(text)),), np.ones((1, 2), dtype=np.float32))])
    return index


@cache
def _holding(word: str) -> frozenset[int]:
    return frozenset(i for i, _ in _index().search_text(f'"{word}"', top_k=99))


def check(data: bytes) -> None:
    """No sign of a question has a meaning for FTS5: it finds what its words find one by one."""
    question = data.decode("utf-8", "surrogateescape")
    for near in (False, True):
        expression = text_expression(question, near=near)
        assert re.fullmatch(SHAPE, expression), expression
        assert expression or not has_words(question)
        found = {i for i, _ in _index().search_text(expression, top_k=99)}
        expected = {i for word in re.findall(r'"([^"]+)"', expression) for i in _holding(word)}
        assert found == expected, (expression, found, expected)


TARGET = Target(
    "question",
    check,
    lambda: [b"Where does the whale sing?", b'"orca" AND NOT seal*', "Ǆ 東京 é \u0301 İ".encode()],
    tokens=(
        *b"AND OR NOT NEAR( , 2) ^ * - + { } : title: text: rowid ( ) ' ; -- /* whale orca".split(),
        *(
            b'"',
            b'""',
            b" ",
            b"\0",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xe2\x80\xae",
            b"\xcc\x81",
            b"\xf0\x9f\x90\x8b",
            b"\xdf\xbc",
        ),
    ),
    max_bytes=400,
)
