"""Frequent words of a question are left out of a search among many passages, and only there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from odqa import settings
from odqa.retriever.frequent import near_pairs, rarest
from odqa.retriever.hybrid import text_expression
from odqa.store.index import Index

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from store_cases import IDENTITY, prepared

# "sea" stands in 40 passages, "whale" in 12, "krill" in 3, "orca" in one.
TEXTS = ["sea" + " whale" * (n < 12) + " krill" * (n < 3) + (" orca" if n == 20 else f" filler{n}") for n in range(40)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:  # type: ignore[misc]
    with Index.create(tmp_path_factory.mktemp("frequent") / "index", IDENTITY) as made:
        made.write([prepared(f"d{n}", text, size=100) for n, text in enumerate(TEXTS)])
        yield made


@pytest.mark.parametrize(
    ("counts", "most", "kept"),
    [
        ([1, 2, 3], 10, {"a", "b", "c"}),
        ([1, 2, 3], 3, {"a", "b"}),
        ([5, 2, 1], 3, {"b", "c"}),
        ([5, 1, 5], 5, {"b"}),  # 5 stands for "5 and more"
        ([9, 9, 9], 9, {"a"}),
        ([0, 9, 0], 9, {"a", "c"}),
        ([], 9, set()),
    ],
)
def test_the_rarest_words_are_kept(counts: list[int], most: int, kept: set[str]) -> None:
    assert rarest("abc"[: len(counts)], counts, most=most) == kept


def test_a_pair_stays_while_one_of_its_words_does() -> None:
    assert near_pairs(['"a"', '"b"', '"c"', '"d"'], {'"a"'}) == ['NEAR("a" "b", 5)']
    assert near_pairs(['"a"', '"b"', '"c"'], {'"b"'}) == ['NEAR("a" "b", 5)', 'NEAR("b" "c", 5)']


def test_matches_are_counted_up_to_a_limit(index: Index) -> None:
    words = ['"sea"', '"whale"', '"krill"', '"orca"', '"nobody"', '"whales" OR "orca"']
    assert index.count_matches(words, most=39) == [39, 12, 3, 1, 0, 13]
    assert index.count_matches(words, most=10) == [10, 10, 3, 1, 0, 10]
    assert index.count_matches(words, most=40) is None  # there are no more passages than that
    with pytest.raises(ValueError, match="not an FTS5 query"):
        index.count_matches(['"open'], most=1)


def test_a_hybrid_search_of_a_large_index_leaves_frequent_words_out(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "Which whale of the sea eats krill?"
    whole = '"whale" OR "sea" OR "eats" OR "krill"'
    pairs = ['NEAR("whale" "sea", 5)', 'NEAR("sea" "eats", 5)', 'NEAR("eats" "krill", 5)']
    assert text_expression(question, near=True, index=index) == " OR ".join([whole, *pairs])
    monkeypatch.setattr(settings, "TEXT_MATCHES", 14)
    assert text_expression(question, near=True, index=index) == " OR ".join(['"eats" OR "krill"', *pairs[1:]])
    monkeypatch.setattr(settings, "TEXT_MATCHES", 15)
    assert text_expression(question, near=True, index=index) == " OR ".join(['"whale" OR "eats" OR "krill"', *pairs])
    assert text_expression(question, index=index) == whole  # full text alone is given all words
