"""One step of the memory benchmark, in a process of its own: `memory_child.py index|search FOLDER …`.

The encoder is a pure function of the text that holds nothing, so that what grows is what odqa holds.
"""

from __future__ import annotations

import json
import random
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from odqa.indexing import Indexer
from odqa.ingest.chunker import PassageChunker
from odqa.protocols import EncoderIdentity, Encoding, PassageIds, TokenIds
from odqa.store.codes import CODE, Codes
from odqa.store.index import Index, IndexIdentity
from odqa.store.snapshot import open_snapshot, snapshot_paths, write_snapshot_file
from odqa.store.vector_index import SegmentedVectorIndex

WIDTH = 1024
PASSAGE_TOKENS, TITLE_TOKENS = 384, 32
WORDS_PER_DOCUMENT = 320
UUID_OF_MADE = UUID(int=1)
BLOCK_ROWS = 4096


class Words:
    """A tokenizer that takes words and signs as they come."""

    def encode(self, text: str) -> Encoding:
        """Tokenise one text."""
        offsets = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
        return Encoding([1] * len(offsets), offsets)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise several texts."""
        return [self.encode(text) for text in texts]


class MadeEncoder:
    """Vectors of length 1 that depend on the checksum of the text alone."""

    identity = EncoderIdentity("made", "1", "0" * 64, WIDTH)
    tokenizer = Words()

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> np.ndarray:  # noqa: ARG002
        """Questions -> float32 [n, width]."""
        rows = np.empty((len(questions), WIDTH), dtype=np.float32)
        for row, text in zip(rows, questions, strict=True):
            row[:] = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(WIDTH, dtype=np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def encode_passages(
        self,
        passages: Sequence[str],
        *,
        titles: Sequence[str],
        ids: Sequence[TokenIds] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Passages with their titles -> float32 [n, width]."""
        return self.encode_questions([f"{title} {text}" for title, text in zip(titles, passages, strict=True)])


def make_corpus(path: Path, documents: int, *, files: bool) -> int:
    """Write made documents, as one file of JSON lines or as so many files; return the bytes of text."""
    rng = random.Random(0)
    words = [f"{first}{second}" for first in "abcdefghkl" for second in ("ar", "en", "im", "ol", "ur", "anta", "elfo")]
    total = 0
    path.mkdir(parents=True)
    with (path / "made.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(documents):
            text = f"Document {number}. " + " ".join(rng.choices(words, k=WORDS_PER_DOCUMENT)) + "."
            total += len(text)
            if files:
                folder = path / f"{number // 1000:04}"
                folder.mkdir(exist_ok=True)
                (folder / f"{number:07}.txt").write_text(text, encoding="utf-8")
            else:
                record = {"id": f"made-{number:07}", "title": f"Title {number}", "text": text, "number": number}
                lines.write(json.dumps(record) + "\n")
    if files:
        (path / "made.jsonl").unlink()
    return total


def index(folder: Path, corpus: Path) -> dict[str, int]:
    """Index a corpus, into a new index or the one that is there."""
    identity = IndexIdentity(MadeEncoder.identity, PASSAGE_TOKENS, TITLE_TOKENS)
    encoder = MadeEncoder()
    exists = (folder / "odqa.sqlite").exists()
    with Index.open(folder, writable=True) if exists else Index.create(folder, identity) as opened:
        indexer = Indexer(opened, encoder=encoder, chunker=PassageChunker(encoder.tokenizer))
        report = indexer.run([corpus], prune=True)
    return {"added": len(report.added), "unchanged": report.unchanged, "passages": report.passages}


def make_snapshot(folder: Path, vectors: int) -> None:
    """Write a snapshot of made vectors, in the memory of one block."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    block = rng.standard_normal((BLOCK_ROWS, WIDTH), dtype=np.float32) / np.sqrt(np.float32(WIDTH))

    def batches() -> Iterator[tuple[PassageIds, Codes]]:
        for start in range(0, vectors, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, vectors - start)
            signs = np.where(rng.random(WIDTH) < 0.5, -1, 1).astype(np.float32)
            yield np.arange(start + 1, start + rows + 1, dtype=np.int64), (block[:rows] * signs).astype(CODE)

    write_snapshot_file(folder, uuid=UUID_OF_MADE, generation=1, width=WIDTH, batches=batches())


def search(folder: Path) -> dict[str, int]:
    """Map a snapshot, compare its checksum and search it; return what the process holds, in bytes."""
    before = _held()
    [(_, path)] = snapshot_paths(folder)
    snapshot = open_snapshot(path, uuid=UUID_OF_MADE, width=WIDTH)
    vectors = SegmentedVectorIndex(WIDTH)
    vectors.add_codes(snapshot.ids, snapshot.codes, mapped=True)
    vectors.remove(snapshot.ids[:100])
    rng = np.random.default_rng(1)
    for allowed in (None, snapshot.ids[::3].copy()):
        vectors.search(rng.standard_normal((1, WIDTH), dtype=np.float32), top_k=100, allowed=allowed)
    after = _held()
    return {
        "vectors": len(snapshot.ids),
        "snapshot_bytes": path.stat().st_size,
        "own_bytes": after["RssAnon"] - before["RssAnon"],
        "mapped_bytes": after["RssFile"] - before["RssFile"],
    }


def _held() -> dict[str, int]:
    """Return the memory of this process (Linux): its own, and mapped from files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


if __name__ == "__main__":
    step, place, *more = sys.argv[1:]
    done = index(Path(place), Path(more[0])) if step == "index" else search(Path(place))
    print(json.dumps(done))
