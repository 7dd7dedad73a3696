"""Large files and many files: found to their end, in time in proportion."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fake_models
import numpy as np
import pytest
from ingest_runs import index

from odqa import pipeline
from odqa.ingest.sources import discover

pytestmark = pytest.mark.usefixtures("_fake_models")


@pytest.fixture
def _quick_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode a passage by one hash of it, where there are very many."""

    def encode_passages(_: object, passages: Sequence[str], **_more: object) -> np.ndarray:
        digests = b"".join(hashlib.sha256(passage.encode()).digest()[:16] for passage in passages)
        vectors = np.frombuffer(digests, np.uint8).reshape(len(passages), 16).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(fake_models.BagEncoder, "encode_passages", encode_passages)


@pytest.mark.usefixtures("_quick_encoder")
@pytest.mark.parametrize("words", [100_000, pytest.param(1_300_000, marks=pytest.mark.slow)])
def test_one_long_line_is_found_to_its_end(docs: Path, words: int) -> None:
    line = " ".join(f"w{number}" for number in range(words))
    assert len(line) > 7 * words - 200_000
    report = index(docs, {"line.txt": line.encode(), "word.txt": b"x" * 2 * words})
    assert len(report.added) == 2
    with pipeline.open(docs.parent / "index") as qa:
        for word in ("w0", f"w{words // 2}", f"w{words - 1}"):
            found = qa.search(word, mode="text", top_k=1)[0].passage
            assert word in found.text.split()
            assert found.span.of(line) == found.text


def _walked(folder: Path, count: int) -> float:
    """Make so many tiny files, and return the seconds of the processor for walking and indexing them."""
    docs = folder / "docs"
    for number in range(count):
        path = docs / f"{number // 500}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"The gull %d steals." % number)
    began = time.process_time()
    with pipeline.open(folder / "index", create=True) as qa:
        report = qa.index([docs])
    assert len(report.added) == count
    return time.process_time() - began


def least_growth(seconds_for: Callable[[str, int], float], small: int, large: int, *, enough: float) -> float:
    """How many times as long the large one takes: the least of three tries, for a busy machine slows one or the other.

    `seconds_for` is given a name for the try, and the size.
    """
    least = float("inf")
    for number in range(3):
        name = f"try{number}"
        least = min(least, seconds_for(name, large) / seconds_for(name, small))
        if least < enough:
            break
    return least


@pytest.mark.usefixtures("_quick_encoder")
def test_two_thousand_tiny_files_take_time_in_proportion(tmp_path: Path) -> None:
    _walked(tmp_path / "warm", 50)
    # 4 times as many; 16 would be quadratic
    assert least_growth(lambda name, count: _walked(tmp_path / f"{name}-{count}", count), 500, 2000, enough=8) < 8


@pytest.mark.slow
@pytest.mark.usefixtures("_quick_encoder")
def test_a_hundred_thousand_tiny_files(tmp_path: Path) -> None:
    small, large = _walked(tmp_path / "small", 10_000), _walked(tmp_path / "large", 100_000)
    assert large < 20 * small


def test_many_links_are_walked_in_proportion(docs: Path) -> None:
    def walked(name: str, count: int) -> float:
        root = docs / name / f"{count}"
        for number in range(count):
            (root / f"{number}").mkdir(parents=True)
            (root / f"{number}" / "next").symlink_to(root / f"{(number + 1) % count}")
        began = time.process_time()
        assert list(discover([root])) == []
        return time.process_time() - began

    walked("warm", 20)
    assert least_growth(walked, 300, 1200, enough=8) < 8


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["", "🙂"], ids=["one byte a character", "four"])
def test_a_hundred_megabytes_of_text_in_one_file(docs: Path, sign: str) -> None:
    """Memory is bounded by the largest file that is taken; one wide character makes its text four times as large."""
    with (docs / "large.txt").open("w", encoding="utf-8") as stream:
        for number in range(1_020_000):
            stream.write(
                f"The gull {number} of Skarn steals chips from the harbour, while the keeper of the light looks on.\n"
            )
        stream.write(sign)
    assert (docs / "large.txt").stat().st_size > 97_000_000
    words = [sys.executable, str(Path(__file__).with_name("large_child.py")), str(docs), str(docs.parent / "index")]
    figures = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert figures["added"] == ["docs/large.txt"]
    assert figures["peak"] < 2_500_000_000
