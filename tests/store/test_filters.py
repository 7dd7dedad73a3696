"""Conditions: how they are written, and which documents they hold for, beside a plain Python reading of the rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_cases import IDENTITY, prepared

from odqa.store.filters import Condition, parse_condition
from odqa.store.index import Index


@pytest.mark.parametrize(
    "text, expected",
    [
        ("year>=2020", ("year", ">=", "2020")),
        ("year > 2020", ("year", ">", "2020")),
        ("source^=/a/b", ("source", "^=", "/a/b")),
        ("language!=en", ("language", "!=", "en")),
        ("formula=a=b", ("formula", "=", "a=b")),
        ("empty=", ("empty", "=", "")),
        ("a.b-c_d<=x", ("a.b-c_d", "<=", "x")),
    ],
)
def test_conditions_are_parsed(text: str, expected: tuple[str, str, str]) -> None:
    condition = parse_condition(text)
    assert (condition.key, condition.operator, condition.value) == expected


@pytest.mark.parametrize("text", ["", "year", "=x", "1a=x", "a b=c", 'a"=1', "modified>yesterday", "modified^=1"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_condition(text)


def test_operator_is_checked_when_built_by_hand() -> None:
    with pytest.raises(ValueError, match="not an operator"):
        Condition("a", "LIKE", "b")


FIELDS = {
    "a": {"year": 2019, "language": "en", "draft": True},
    "b": {"year": 2020.5, "language": "de", "draft": False},
    "c": {"year": "2021", "language": None},
    "d": {"a.b": "x", "big": 2**53 + 1, "quote": 'it\'s "so" 100%_'},
}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "i", IDENTITY) as index:
        index.write(
            [
                prepared(
                    name, f"text of {name}", metadata=fields, modified=1000.0 * n, suffix=".md", title=name.upper()
                )
                for n, (name, fields) in enumerate(FIELDS.items())
            ]
        )
        yield index


@pytest.mark.parametrize(
    "texts, expected",
    [
        (["year=2019"], "a"),
        (["year=2019.0"], "a"),
        (["year>=2020"], "bc"),  # c's year is text and compares as text
        (["year<10000"], "ab"),  # the text "2021" lies behind the text "10000"
        (["year!=2019"], "bc"),
        (["year^=20"], "abc"),
        (["language=en"], "a"),
        (["language!=en"], "b"),  # null and missing satisfy nothing
        (["draft=true"], "a"),
        (["draft=1"], ""),
        (["a.b=x"], "d"),
        ([f"big={2**53 + 1}"], "d"),
        ([f"big={2**53}"], ""),
        (['quote=it\'s "so" 100%_'], "d"),
        (['quote^=it\'s "so" 100_'], ""),
        (["doc_id=b"], "b"),
        (["title=C"], "c"),
        (["source^=/docs/"], "abcd"),
        (["path=/docs/a"], "a"),
        (["suffix=.md"], "abcd"),
        (["modified>=1970-01-01T00:16:40"], "bcd"),
        (["modified<1000"], "a"),
        (["modified>=1000", "year<2021"], "b"),
        (["unknown=1"], ""),
        (["unknown!=1"], ""),
    ],
)
def test_conditions_choose_passages(index: Index, texts: list[str], expected: str) -> None:
    allowed = index.allowed([parse_condition(text) for text in texts])
    chosen = {passage.doc_id for passage in index.passages(allowed.tolist()).values()}
    assert chosen == set(expected)
    assert allowed.tolist() == sorted(allowed.tolist())
    assert set(index.search_dense(np.zeros((1, 8), dtype=np.float32), top_k=9, allowed=allowed)[1][0].tolist()) - {
        -1
    } == set(allowed.tolist())
    assert {i for i, _ in index.search_text("text", top_k=9, allowed=allowed)} == set(allowed.tolist())


def test_numbers_given_as_numbers(index: Index) -> None:
    assert len(index.allowed([Condition("year", "=", 2019)])) == 1
    assert len(index.allowed([Condition("draft", "=", True)])) == 1
    assert len(index.allowed([Condition("modified", "=", 1000)])) == 1


def test_no_condition_is_no_filter(index: Index) -> None:
    assert index.allowed([]) is None
