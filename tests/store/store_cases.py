"""Documents with known text and vectors, and a brute-force oracle, shared by the tests of the store."""

from __future__ import annotations

import hashlib

import numpy as np

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.store.index import IndexIdentity
from odqa.types import Document, Section, Span

WIDTH = 8
IDENTITY = IndexIdentity(EncoderIdentity("tiny", "r1", "c" * 64, WIDTH), passage_tokens=384, title_tokens=32)


def vectors_of(texts: list[str], *, width: int = WIDTH) -> np.ndarray:
    """A pure function of the texts: small whole numbers, so that ties happen and float16 is exact."""
    rows = [[byte % 7 - 3 for byte in hashlib.sha256(text.encode()).digest()[:width]] for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), width)


def prepared(
    doc_id: str,
    text: str,
    *,
    source: str | None = None,
    record: str = "",
    size: int = 24,
    title: str = "",
    metadata: dict[str, str | int | float | bool | None] | None = None,
    sections: tuple[Section, ...] = (),
    suffix: str = ".txt",
    modified: float = 0.0,
) -> PreparedDocument:
    """A document cut into passages of `size` code points."""
    spans = tuple(Span(start, min(start + size, len(text))) for start in range(0, len(text), size))
    document = Document(
        doc_id=doc_id,
        title=title,
        text=text,
        source=f"/docs/{doc_id}" if source is None else source,
        record=record,
        suffix=suffix,
        modified=modified,
        content_hash=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        sections=sections,
        metadata=metadata or {},
    )
    return PreparedDocument(document, spans, vectors_of([repr(span.of(text)) for span in spans]))


def brute_force(
    vectors: dict[int, np.ndarray], query: np.ndarray, *, top_k: int, allowed: set[int] | None = None
) -> tuple[list[float], list[int]]:
    """Squared L2 over the float16 values, ties by id, padded with inf and -1."""
    scored = sorted(
        (float(((vector.astype(np.float16).astype(np.float64) - query) ** 2).sum()), passage_id)
        for passage_id, vector in vectors.items()
        if allowed is None or passage_id in allowed
    )[:top_k]
    missing = top_k - len(scored)
    return [d for d, _ in scored] + [np.inf] * missing, [i for _, i in scored] + [-1] * missing
