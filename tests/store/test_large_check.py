"""A check of an index of a useful size: it takes less than a minute, and finds as much as in a small one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.store.index import Index, IndexIdentity
from odqa.types import CheckReport, Document, Span

PASSAGES = 100_000
PASSAGES_EACH = 20  # of a document
CODE_POINTS = 1_500  # of a passage
WIDTH = 1024
SECONDS = 60.0
IDENTITY = IndexIdentity(EncoderIdentity("made", "r1", "c" * 64, WIDTH), passage_tokens=384, title_tokens=32)


def documents(count: int) -> Iterator[PreparedDocument]:
    """Texts of 30,000 made words that are about as common as those of a language, and vectors of length 1."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, size=size)) for size in rng.integers(2, 12, size=30_000)])
    common = 1.0 / np.arange(10, 10 + len(words))
    common /= common.sum()
    for number in range(count):
        drawn = " ".join(rng.choice(words, size=PASSAGES_EACH * CODE_POINTS // 4, p=common))
        text = drawn[: PASSAGES_EACH * CODE_POINTS]
        spans = tuple(Span(at, at + CODE_POINTS) for at in range(0, len(text), CODE_POINTS))
        vectors = rng.standard_normal((len(spans), WIDTH), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        document = Document(doc_id=f"d{number}", title=f"Title {number}", text=text, source=f"/made/{number}.txt")
        yield PreparedDocument(document, spans, vectors)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "index"
    with Index.create(folder, IDENTITY) as index:
        batch: list[PreparedDocument] = []
        for document in documents(PASSAGES // PASSAGES_EACH):
            batch.append(document)
            if len(batch) == 200:
                index.write(batch)
                batch = []
        assert not batch
        index.write_snapshot()
    return folder


def timed(folder: Path, told: Callable[[str, object], None], name: str) -> CheckReport:
    """Check, and say how long it took; only the time of the processor is limited, for other things may run beside."""
    began, computed = time.monotonic(), time.process_time()
    report = Index.check(folder)
    computed = time.process_time() - computed
    told(name, f"{computed:.1f} s of the processor, {time.monotonic() - began:.1f} s on the clock")
    assert report.passages == PASSAGES
    assert computed < SECONDS
    return report


@pytest.mark.slow
def test_a_check_of_a_hundred_thousand_passages(
    large: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def tell(name: str, value: object) -> None:
        record_property(name, value)
        told.append(f"{name}: {value}")

    assert timed(large, tell, "sound").problems == ()
    (snapshot,) = large.glob("vectors-*.faiss")
    sizes = {path.name: path.stat().st_size // 1_000_000 for path in (large / "odqa.sqlite", snapshot)}
    connection = sqlite3.connect(large / "odqa.sqlite")
    connection.execute("UPDATE document_blocks SET text = substr(text, 2) WHERE document_pk = 70")
    connection.execute("DELETE FROM vectors WHERE passage_id = 50000")
    connection.execute("UPDATE vectors SET vector = x'00' WHERE passage_id = 99999")
    connection.execute("UPDATE documents SET sections = '[[' WHERE doc_id = 'd4000'")
    connection.execute("DELETE FROM passages_fts_docsize WHERE id = 1000")
    connection.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'passages'")
    connection.commit()
    connection.close()
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    problems = timed(large, tell, "damaged").problems
    assert {problem.kind for problem in problems} >= {
        *("text-damaged", "passage-without-vector", "vector-of-wrong-length", "fields-damaged", "counter-behind"),
        "snapshot-checksum",
    }
    assert any(problem.kind.startswith("full-text") for problem in problems)
    details = " ".join(problem.detail for problem in problems)
    assert "d69" in details and "d4000" in details and snapshot.name in details
    with capsys.disabled():
        print(f"\n{sizes} MB", *told, sep="\n")  # noqa: T201
