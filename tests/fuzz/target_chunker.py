"""Any text, with sections and a title, through the chunker with the tokenizer of the bundled models."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from fuzz_frame import Target

from odqa import settings
from odqa.ingest.chunker import SPECIAL_TOKENS, PassageChunker
from odqa.models import registry
from odqa.models.runtime import Tokenizer
from odqa.types import Section, Span

PROSE = (
    "Dr. Ada wrote it in 1843. The engine was never built! Why?\n\n# Whales\n\n- one\n- two\r\n東京は日本の首都です。"
    "\u2028A long line with words " + "word " * 30 + "\f" + "x" * 70 + "\n\n\n" + "القاهرة e\u0301te\u0301 🙂 "
)


@cache
def tokenizer() -> Tokenizer:
    spec = registry.find(settings.DEFAULT_ENCODER)
    [name] = [file.name for file in spec.files if file.role == "vocabulary"]
    return Tokenizer(registry.folder(spec) / name, lower_case=spec.lower_case)


def check(data: bytes) -> None:
    """Take the limits from the first bytes, the sections from the next, the text from the rest."""
    head, text = data[:8].ljust(8, b"\0"), data[8:].decode("utf-8", "replace")
    title_tokens = head[0] % 8
    max_tokens = title_tokens + 10 + head[1] % 60
    starts = sorted({byte * len(text) // 256 for byte in head[2:6]})
    sections = [Section(Span(a, b), heading="h") for a, b in pairwise([*starts, len(text)]) if a < b]
    title = text[: head[6] % 40]
    chunker = PassageChunker(tokenizer(), max_tokens=max_tokens, title_tokens=title_tokens)
    passages = chunker.cut(text, title=title, sections=sections)
    spans = [passage.span for passage in passages]
    room = max_tokens - SPECIAL_TOKENS - min(title_tokens, len(tokenizer().encode(title).ids) if title else 0)
    covered = bytearray(len(text))
    for span, ids in ((passage.span, passage.ids.tolist()) for passage in passages):
        passage = span.of(text)
        assert passage == passage.strip() != ""
        assert ids == tokenizer().encode(passage).ids
        assert len(ids) <= room or len(passage) == 1
        covered[span.start : span.end] = b"\1" * len(span)
    assert all(one.start < other.start and one.end < other.end for one, other in pairwise(spans))
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


TARGET = Target(
    "chunker",
    check,
    lambda: [b"\x03\x20\x10\x20\x30\x40\x05\0" + PROSE.encode(), b"\0" * 8 + PROSE.encode(), b"\xff" * 8 + b"a" * 500],
    tokens=(
        *(b". ", b"! ", b"\n", b"\n\n", b"\r\n", b"\f", b" ", b"\t", b"- ", b"# ", b"e.g. "),
        *(
            text.encode()
            for text in ("。", "東", "\u2028", "\u00a0", "\u3000", "\u200b", "e\u0301", "🙂", "İ", "ﬃ", "\ufeff")
        ),
    ),
)
