"""A filter comes before the search: the best passages are the best of those that it lets through, in every mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import fake_models
import numpy as np
import pytest

from odqa import settings
from odqa.protocols import PreparedDocument
from odqa.retriever.hybrid import HybridRetriever
from odqa.store.index import Index
from odqa.store.vector_index import GATHERED_ROWS
from odqa.store.where import read_where
from odqa.types import Document, Passage, Span

WORDS = ["whale", "seal", "orca", "krill", "harbour", "light", "storm", "tide", "gull", "rope"]
QUESTIONS = ["Where does the whale sing?", "storm tide gull", "nothing of the kind: zebra"]
COUNT = 3000


_rng = np.random.default_rng(0)
TEXTS = [" ".join(_rng.choice(WORDS, size=int(size)).tolist()) for size in _rng.integers(1, 9, size=COUNT)]
VECTORS = fake_models.BagEncoder().encode_passages(TEXTS, titles=[""] * COUNT)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """3,000 documents of one passage; the snapshot lacks the last 500 of them, and 300 are deleted after it."""
    made = [
        PreparedDocument(
            Document(
                f"docs/d{number}",
                "",
                text,
                f"/docs/d{number}",
                metadata={"number": number, "parity": "odd" if number % 2 else "even"},
            ),
            (Span(0, len(text)),),
            VECTORS[number : number + 1],
        )
        for number, text in enumerate(TEXTS)
    ]
    with Index.create(tmp_path_factory.mktemp("filtered") / "index", fake_models.identity()) as index:
        index.write(made[:2500])
        index.write_snapshot()
        index.write(made[2500:])
        index.delete([f"docs/d{number}" for number in range(0, COUNT, 10)])
        yield index


# filter -> which numbers it lets through
FILTERS = {
    "number=7": lambda n: n == 7,
    "number in (7, 11, 2999, 10)": lambda n: n in (7, 11, 2999),
    "number>=2400 and number<2600": lambda n: 2400 <= n < 2600,
    "parity=odd": lambda n: n % 2 == 1,
    "parity!=odd or number<1000": lambda n: n % 2 == 0 or n < 1000,
    "number>=0": lambda n: n >= 0,
    "number<0": lambda n: n < 0,
    "path^=d29 and (parity=odd or number=2902)": lambda n: str(n).startswith("29") and (n % 2 == 1 or n == 2902),
}


def numbers_allowed(where: str) -> set[int]:
    return {number for number in range(COUNT) if number % 10 and FILTERS[where](number)}


def test_the_filters_cover_both_ways_of_scanning(index: Index) -> None:
    sizes = [len(numbers_allowed(where)) for where in FILTERS]
    assert (
        0 in sizes and any(0 < size <= GATHERED_ROWS for size in sizes) and any(size > GATHERED_ROWS for size in sizes)
    )
    for where in FILTERS:
        allowed = index.allowed(read_where(where))
        found = {int(passage.doc_id[6:]) for passage in index.passages(allowed.tolist()).values()}
        assert found == numbers_allowed(where)


class BruteForce:
    """The same passages, searched by numpy and by leaving out what a filter keeps away from a whole ranking."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.vectors = VECTORS.astype(np.float16).astype(np.float64)

    def search_dense(
        self, vectors: np.ndarray, *, top_k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        assert allowed is not None
        kept = np.sort(allowed)
        found = ((self.vectors[kept - 1] - vectors[0].astype(np.float64)) ** 2).sum(axis=1).astype(np.float32)
        best = np.lexsort((kept, found))[:top_k]
        return found[None, best], kept[None, best]

    def search_text(self, expression: str, *, top_k: int, allowed: np.ndarray | None = None) -> list[tuple[int, float]]:
        assert allowed is not None
        kept = set(allowed.tolist())
        return [pair for pair in self.index.search_text(expression, top_k=COUNT) if pair[0] in kept][:top_k]

    def count_matches(self, expressions: Sequence[str], *, most: int) -> list[int] | None:
        return self.index.count_matches(expressions, most=most)

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        return self.index.passages(ids)


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_best_of_a_filtered_search_are_those_of_brute_force(index: Index, question: str, where: str) -> None:
    numbers = numbers_allowed(where)
    encoder = fake_models.BagEncoder()
    for mode in settings.MODES:
        allowed = index.allowed(read_where(where))
        [found] = HybridRetriever(index, encoder).retrieve([question], top_k=20, mode=mode, allowed=allowed)
        ids = np.array([number + 1 for number in sorted(numbers)], dtype=np.int64)
        [expected] = HybridRetriever(BruteForce(index), encoder).retrieve([question], top_k=20, mode=mode, allowed=ids)
        assert len(found) == len(expected) == (min(20, len(numbers)) if mode != "text" else len(expected))
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
        last = expected[-1].score + 1e-4 if expected else 0.0
        for ours, theirs in ((found, expected), (expected, found)):  # who shares the last place is left open
            surely = {one.passage.passage_id for one in ours if one.score > last}
            assert surely <= {one.passage.passage_id for one in theirs}
        assert {int(one.passage.doc_id[6:]) for one in found} <= numbers
