"""Texts that are nothing but one sign, mark or tag: whatever reads them needs no more than a moment for each."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from test_chunker import PieceTokenizer

from odqa.errors import IngestError
from odqa.ingest import parsers
from odqa.ingest.chunker import PassageChunker
from odqa.types import Section, Span

SIZE = 60_000
SECONDS = 2.0  # a tenth is enough; what grows with the square of the size takes more

TEXTS = [
    *(".", ". ", '.)"', "\n", "a\n", "a\n\n", "word ", "x", "東", "東。", "\x01", "\u0301", " ", "a\f", "e.g. ", "A. "),
    *("- a\n", "a\u2028", "a\r\n\r\n", "." * 1000 + " ", ")" * 1000 + ".", "a" + " " * 500, "İ", "\ufeff"),
]
MARKDOWN = [
    *(
        "---\n",
        "---\na\n",
        "# a\n",
        "a\n---\n",
        "```\n",
        "`" * 1000 + "a\n",
        "~~~\n",
        "[",
        "[a](",
        "a\n" * 1000 + "===\n",
    ),
    *(
        "# " + "#" * 1000 + " x\n",
        " " * 1000 + "\n",
        "\r",
        "*a",
        "---\ntitle: " + "x" * 1000 + "\n",
        "- " * 1000 + "\n",
    ),
]
PAGES = [
    *("<", "<a ", "<p /", "<!--", "<!DOCTYPE [", "<pre>a</pre>", "<table><tr><td>a</td></tr></table>", "<h1>a</h1>"),
    *(
        "<h1> </h1>",
        "<article>a</article>",
        "<main>a</main>",
        "<nav>a</nav>",
        "<li>a",
        "&amp;",
        "<p style='a'>",
        "<br>",
    ),
    *("<td>a", "<tr><td>a</td></tr>", "<a>#</a>", "<script>", "<p hidden>a</p>"),
]
BYTES = [
    b"caf\xe9 ",
    bytes(range(128, 256)),
    b"\xc3\xa9\xff",
    b"\x1b$B",
    b"a\0",
    "слово ".encode("cp1251"),
    b"\x81\x40",
]


def short(piece: str | bytes) -> str:
    return ascii(piece[:12])


@cache
def warmed() -> None:
    for suffix in (".txt", ".html"):
        parsers.parse(suffix, "<p>é 東".encode())


def filled(piece: str) -> str:
    return piece * (SIZE // len(piece))


def seconds_of(do: Callable[[], object]) -> float:
    """Seconds of the processor. On a busy machine they may be several times as many, so what is slow is tried again.

    Without the counting of coverage, which takes up to five times as long as what it counts.
    """
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        with contextlib.suppress(IngestError), untraced():
            do()
        least = min(least, time.process_time() - began)
        if least < SECONDS:
            break
    return least


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def seconds_to_parse(suffix: str, data: bytes) -> float:
    warmed()
    return seconds_of(lambda: parsers.parse(suffix, data))


@pytest.mark.parametrize("piece", TEXTS, ids=short)
def test_the_chunker(piece: str) -> None:
    text = filled(piece)
    assert seconds_of(lambda: PassageChunker(PieceTokenizer()).split(text, title="", sections=[])) < SECONDS


def test_the_chunker_with_a_section_for_each_character() -> None:
    text = filled("a b ")
    sections = [Section(Span(start, start + 1), heading="x") for start in range(len(text))]
    assert seconds_of(lambda: PassageChunker(PieceTokenizer()).split(text, title="", sections=sections)) < SECONDS


@pytest.mark.parametrize("piece", MARKDOWN, ids=short)
def test_markdown(piece: str) -> None:
    assert seconds_to_parse(".md", filled(piece).encode()) < SECONDS


@pytest.mark.parametrize("piece", PAGES, ids=short)
@pytest.mark.parametrize("head", ["<table>", '<html xmlns="http://www.w3.org/1999/xhtml">'], ids=["html", "xhtml"])
def test_pages(piece: str, head: str) -> None:
    assert seconds_to_parse(".html", (head + filled(piece)).encode()) < SECONDS


@pytest.mark.parametrize("piece", BYTES, ids=short)
@pytest.mark.parametrize("end", [b"", b"\xff"], ids=["", "bad end"])
def test_encodings(piece: bytes, end: bytes) -> None:
    assert seconds_to_parse(".txt", piece * (SIZE // len(piece)) + end) < SECONDS
