"""A process that writes an index and may be killed at a fault point: `python crash_child.py FOLDER [repair]`.

Every step is idempotent, so that running the script again after a crash ends in the state of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.store.folder import IndexIdentity
from odqa.store.index import Index
from odqa.types import Document, Span

WIDTH = 16
IDENTITY = IndexIdentity(EncoderIdentity("tiny", "r1", "0" * 64, WIDTH), passage_tokens=384, title_tokens=32)


def prepared(doc_id: str, text: str) -> PreparedDocument:
    spans = tuple(Span(start, min(start + 20, len(text))) for start in range(0, len(text), 20))
    rows = [list(hashlib.sha256(span.of(text).encode()).digest()[:WIDTH]) for span in spans]
    document = Document(doc_id, doc_id.upper(), text, f"/docs/{doc_id}", content_hash=text[:16])
    return PreparedDocument(document, spans, np.array(rows, dtype=np.float32).reshape(-1, WIDTH))


def states() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each step with the documents that the index holds after it."""
    first = {"a": "alpha whale " * 9, "b": "beta seal " * 9}
    yield "write", first
    yield "snapshot", first
    second = {**first, "a": "alpha walrus " * 11, "c": "gamma orca " * 150}
    yield "write", second
    third = {key: text for key, text in second.items() if key != "b"}
    yield "delete b", third
    yield "snapshot", third
    yield "compact", third
    fourth = {**third, "d": "delta krill " * 3}
    yield "write", fourth
    yield "snapshot", fourth


def run(folder: Path) -> None:
    exists = (folder / "odqa.sqlite").exists()
    with Index.open(folder, writable=True, expected=IDENTITY) if exists else Index.create(folder, IDENTITY) as index:
        start = max((n for n, (_, state) in enumerate(states()) if state == contents(index)), default=-1)
        for number, (step, state) in enumerate(states()):
            if step == "write" and number > start:
                held = contents(index)
                index.write([prepared(key, text) for key, text in state.items() if held.get(key) != text])
            elif step.startswith("delete") and number > start:
                index.delete([step.split()[1]])
            elif step == "snapshot" and number >= start:
                index.write_snapshot()
            elif step == "compact":
                index.compact()


def contents(index: Index) -> dict[str, str]:
    found = ((doc_id, index.document(doc_id)) for doc_id in index.doc_ids())
    return {doc_id: document.text for doc_id, document in found if document is not None}


if __name__ == "__main__":
    if sys.argv[2:] == ["repair"]:
        Index.check(Path(sys.argv[1]), repair=True)
    else:
        run(Path(sys.argv[1]))
