"""Which documents a filter holds for, beside a plain Python reading of the rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from store_cases import IDENTITY, prepared

from odqa.store.filters import MOST_CONDITIONS, AllOf, AnyOf, Condition, Expression
from odqa.store.index import Index
from odqa.store.where import parse_where, read_where
from odqa.types import Document

FIELDS = {
    "a": {"year": 2019, "language": "en", "draft": True},
    "b": {"year": 2020.5, "language": "de", "draft": False},
    "c": {"year": "2021", "language": None},
    "d": {"a.b": "x", "big": 2**53 + 1, "quote": 'it\'s "so" 100%_', "title": "inner", "odd key\n\"é'": "yes"},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index.create(tmp_path_factory.mktemp("filters") / "i", IDENTITY) as index:
        index.write(
            [
                prepared(
                    name, f"text of {name}", metadata=fields, modified=1000.0 * n, suffix=".md", title=name.upper()
                )
                for n, (name, fields) in enumerate(FIELDS.items())
            ]
        )
        yield index


def chosen(index: Index, where: str | Expression) -> str:
    allowed = index.allowed(read_where(where))
    assert allowed is not None
    assert allowed.tolist() == sorted(allowed.tolist())
    return "".join(sorted(passage.doc_id for passage in index.passages(allowed.tolist()).values()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year=2019", "a"),
        ("year=2019.0", "a"),
        ("year=2.019e3", "a"),
        ("year>=2020", "bc"),  # c's year is text and compares as text
        ("year<10000", "ab"),  # the text "2021" lies behind the text "10000"
        ("year<banana", "c"),  # a number is neither before nor behind a text
        ("year>' '", "c"),
        ("year!=2019", "bcd"),
        ("year^=20", "abc"),
        ("year in (2019, 2021, x)", "ac"),
        ("year in (2020.50)", "b"),
        ("language=en", "a"),
        ("language!=en", "bcd"),  # what has no language is not in English
        ("language!=en and language>=''", "b"),
        ("language<zz", "ab"),  # null and missing are neither before nor behind anything
        ("language=null", ""),
        ("draft=true", "a"),
        ("draft=false", "b"),
        ("draft=1", ""),
        ("draft!=true", "bcd"),
        ("draft in (true, 7)", "a"),
        ("a.b=x", "d"),
        ("metadata.a.b=x", "d"),
        (f"big={2**53 + 1}", "d"),
        (f"big={2**53}", ""),
        (f"big>{2**53}", "d"),
        (f"big in ({2**53}, {2**53 + 1})", "d"),
        ('quote="it\'s ""so"" 100%_"', "d"),
        ('quote^="it\'s ""so"" 100_"', ""),
        ("quote prefix it", "d"),
        ("quote^=''", "d"),
        ('"odd key\n""é\'"=yes', "d"),
        ("doc_id=b", "b"),
        ("doc_id in (b, d, zz)", "bd"),
        ("doc_id!=b", "acd"),
        ("title=C", "c"),
        ("title=c", ""),
        ("metadata.title=inner", "d"),
        ("source^=/docs/", "abcd"),
        ("source=/docs/a", "a"),
        ("source in (/docs/a, /docs/b)", "ab"),
        ("suffix=.md", "abcd"),
        ("suffix=md", "abcd"),
        ("suffix=.MD", "abcd"),
        ("suffix in (pdf, md)", "abcd"),
        ("suffix!=md", ""),
        ("suffix^=.m", "abcd"),
        ("modified>=1970-01-01T00:16:40", "bcd"),
        ("modified>=1970-01-01T02:16:40+02:00", "bcd"),
        ("modified<999.5", "a"),
        ("modified=1970-01-01", "abcd"),
        ("modified=1970", "abcd"),
        ("modified in (1970-02, 1970-01-02)", ""),
        ("modified in (1970-02, 1970-01)", "abcd"),
        ("modified<=1970-01-01 and modified>=1970-01-01", "abcd"),
        ("modified>1970-01-01 or modified<1970", ""),
        ("modified!=1970-01-01", ""),
        ("modified<1971", "abcd"),
        ("modified>1969-12-31", "abcd"),
        ("modified=2000.0", "c"),
        ("modified!=2000.0", "abd"),
        ("modified>=999.5 and year<2021", "b"),
        ("doc_id=a or doc_id=b and year=1", "a"),
        ("(doc_id=a or doc_id=b) and year=2020.5", "b"),
        ("doc_id=a and doc_id=b", ""),
    ],
)
def test_filters_choose_passages(index: Index, text: str, expected: str) -> None:
    assert chosen(index, text) == expected
    allowed = index.allowed(parse_where(text))
    found = index.search_dense(np.zeros((1, 8), dtype=np.float32), top_k=9, allowed=allowed)[1][0].tolist()
    assert set(found) - {-1} == set(allowed.tolist())
    assert {i for i, _ in index.search_text("text", top_k=9, allowed=allowed)} == set(allowed.tolist())


def test_values_given_as_python_values(index: Index) -> None:
    assert chosen(index, Condition("year", "=", 2019)) == "a"
    assert chosen(index, Condition("year", "in", (2019, 2020.5))) == "ab"
    assert chosen(index, Condition("draft", "=", True)) == "a"
    assert chosen(index, Condition("modified", "=", 1000)) == "b"
    assert chosen(index, Condition("modified", "=", 1970)) == ""  # a number is seconds; only a text is a year
    assert chosen(index, Condition("year", "=", float("inf"))) == ""
    assert chosen(index, Condition("year", "<", 10**400)) == ""  # no number that is stored, and no text


def test_no_filter_is_all_and_nothing_is_nothing(index: Index) -> None:
    assert index.allowed(None) is None
    assert chosen(index, AllOf(())) == "abcd"
    assert chosen(index, AnyOf(())) == ""
    assert chosen(index, Condition("doc_id", "in", ())) == ""
    assert chosen(index, Condition("year", "in", ())) == ""
    assert chosen(index, Condition("modified", "in", ())) == ""


def test_paths_in_four_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.create(tmp_path / "i", IDENTITY) as index:
        places = {"one": "corpus/sea/a.txt", "two": "corpus/land/b.jsonl#sea/x", "three": "sea/c.txt"}
        for name, doc_id in places.items():
            path, _, record = doc_id.partition("#")
            index.write([prepared(doc_id, name, source=f"/data/{path}", record=record)])
        index.write([prepared("corpus/sea/a.txt", "four", source="/srv/corpus/sea/a.txt")])

        def found(where: str) -> list[str]:
            allowed = index.allowed(parse_where(where))
            return sorted(passage.text for passage in index.passages(allowed.tolist()).values())

        assert found("path^=sea/") == ["four", "one", "three"]
        assert found("path prefix corpus/sea/") == ["four", "one"]
        assert found("path=sea/a.txt") == found("path=corpus/sea/a.txt") == ["four", "one"]
        assert found("path=/srv/corpus/sea/a.txt") == ["four"]
        assert found("path^=/data/") == ["one", "three", "two"]
        assert found("path=land/b.jsonl") == ["two"]
        assert found("path!=sea/a.txt") == ["three", "two"]
        assert found("path in (sea/c.txt, land/b.jsonl)") == ["three", "two"]
        assert found("path^=ea/") == []
        elsewhere = tmp_path.as_posix()
        index.write([prepared("docs/x.txt", "here", source=f"{elsewhere}/desk/docs/x.txt")])
        (tmp_path / "desk").mkdir()
        monkeypatch.chdir(tmp_path / "desk")  # as the command line shows it
        assert found("path=docs/x.txt") == found("path in (docs/x.txt)") == ["here"]
        monkeypatch.chdir(tmp_path)
        assert found("path=desk/docs/x.txt") == found("path^=./desk/docs/") == found("path^=desk/do") == ["here"]
        assert found("path^=desk/d/") == found("path=''") == []
        assert "here" not in found("path!=desk/docs/x.txt")
        # A document keeps its name when it is written again, and so its path.
        index.write([prepared("elsewhere/c.txt", "new", source="/data/sea/c.txt")])
        assert found("path=sea/c.txt") == ["new"]


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("yaer>2000", r"has a field 'yaer': did you mean 'year'\? The fields are 'a.b', 'big'"),
        ("titel=x", "did you mean 'title'"),
        ("year=1 or (language=en and nothing=1)", "no document of the index has a field 'nothing': The fields are"),
        ("metadata.path=x", "no document of the index has a field 'path'"),
        ("nothing!=1", "no document of the index has a field 'nothing'"),
        ("'year\"=0'>1", "no document of the index has a field"),
    ],
)
def test_unknown_fields_are_errors(index: Index, where: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        index.allowed(parse_where(where))


def test_long_filters(index: Index) -> None:
    """SQLite takes expressions of limited depth and number of parameters; ours stay below, or say so."""
    for kind in (AnyOf, AllOf):
        parts = tuple(Condition("year", "!=" if kind is AllOf else "=", n) for n in range(MOST_CONDITIONS))
        assert chosen(index, kind(parts)) == ("" if kind is AnyOf else "abcd")
        with pytest.raises(ValueError, match="200 conditions at most, this one has 201: use 'in'"):
            index.allowed(kind((*parts, Condition("year", "=", 2019))))
    many = tuple(f"x{n}" for n in range(50_000))
    assert chosen(index, Condition("doc_id", "in", (*many, "c"))) == "c"
    assert chosen(index, Condition("language", "in", (*many, "de"))) == "b"
    nested: Expression = Condition("doc_id", "=", "a")
    for _ in range(45):
        nested = AllOf((AnyOf((nested,)),))
    assert chosen(index, nested) == "a"


# ---- beside a plain reading of the rules ---------------------------------------------------------------------------

NUMBERS = [0, 1, -1, 2, 10, 2.5, 1e3, 2**40]
WORDS = ["", "1", "2.5", "10", "a", "ab", "é", "true", "1e3", "it's", '"', "%", "0"]
values = st.sampled_from([*NUMBERS, *WORDS, True, False])
field_conditions = st.one_of(
    st.builds(
        Condition,
        st.sampled_from(["k", "l m", "ñ", "title"]),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "^="]),
        values,
    ),
    st.builds(Condition, st.sampled_from(["k", "l m"]), st.just("in"), st.lists(values, max_size=3).map(tuple)),
    st.builds(
        Condition,
        st.just("modified"),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(["1970-01-01", "1970-01-02", "1970-01", "1970-01-02T00:00:00", 86_400, "86399.5"]),
    ),
)
filters = st.recursive(
    field_conditions,
    lambda inner: st.builds(
        lambda kind, parts: kind(tuple(parts)), st.sampled_from([AllOf, AnyOf]), st.lists(inner, max_size=3)
    ),
    max_leaves=5,
)


def compare(left: object, operator: str, right: object) -> bool:
    if operator == "^=":
        return str(left).startswith(str(right))
    return {
        "=": left == right,
        "<": left < right,  # type: ignore[operator]
        "<=": left <= right,  # type: ignore[operator]
        ">": left > right,  # type: ignore[operator]
        ">=": left >= right,  # type: ignore[operator]
    }[operator]


def number_of(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except ValueError:
        return None


def text_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def days(value: object) -> tuple[float, float]:
    ends = {"1970-01-01": (0, 86_400), "1970-01-02": (86_400, 172_800), "1970-01": (0, 31 * 86_400)}
    if value in ends:
        return ends[value]  # type: ignore[index]
    instant = datetime(1970, 1, 2, tzinfo=UTC).timestamp() if "T" in str(value) else float(value)  # type: ignore[arg-type]
    return instant, instant


def holds(expression: Expression, document: Document) -> bool:
    if isinstance(expression, AllOf):
        return all(holds(part, document) for part in expression.parts)
    if isinstance(expression, AnyOf):
        return any(holds(part, document) for part in expression.parts)
    if expression.operator == "!=":
        return not holds(Condition(expression.key, "=", expression.value), document)
    if expression.operator == "in":
        return any(holds(Condition(expression.key, "=", value), document) for value in expression.values)
    value = expression.value
    if expression.key == "modified":
        first, end = days(value)
        if expression.operator == "=":
            return document.modified == first if first == end else first <= document.modified < end
        edge = first if expression.operator in ("<", ">=") or first == end else end
        if first != end:
            return document.modified < edge if expression.operator in ("<", "<=") else document.modified >= edge
        return compare(document.modified, expression.operator, edge)
    stored = document.title if expression.key == "title" else document.metadata.get(expression.key)
    if stored is None:
        return False
    if isinstance(stored, bool | str) or expression.operator == "^=":
        return compare(text_of(stored), expression.operator, text_of(value))
    number = number_of(value)
    return number is not None and compare(stored, expression.operator, number)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, list[Document]]]:
    """Every value in every field beside every time, and documents with other fields, or none."""
    held = [{"k": value, "l m": other} for value in (*NUMBERS, *WORDS, True, False, None) for other in (1, "a", None)]
    held += [{"l m": value, "ñ": value} for value in (*NUMBERS, *WORDS)] + [{}]
    times = (0.0, 86_399.5, 86_400.0, 5e6)
    made = [
        prepared(f"d{n}", "t", metadata=fields, modified=times[n % 4], title=text_of(fields.get("k", "")))
        for n, fields in enumerate(held)
    ]
    with Index.create(tmp_path_factory.mktemp("plain") / "i", IDENTITY) as index:
        index.write(made)
        yield index, [one.document for one in made]


@given(filters)
def test_filters_agree_with_a_plain_reading(many: tuple[Index, list[Document]], where: Expression) -> None:
    index, documents = many
    allowed = index.allowed(where)
    found = {passage.doc_id for passage in index.passages(allowed.tolist()).values()}
    assert found == {document.doc_id for document in documents if holds(where, document)}


def test_nothing_of_a_filter_becomes_sql(index: Index) -> None:
    """Values and keys that would be SQL: the text of every statement holds nothing of them."""
    statements: list[str] = []
    evil = "zqx') OR 1=1; DROP TABLE documents; --"
    with Index.open(index.folder) as reader:

        @sqlalchemy.event.listens_for(reader._store._engine, "before_cursor_execute")
        def _keep(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        for key in ("title", "path", "suffix", "doc_id", "year"):
            assert chosen(reader, Condition(key, "=", evil)) == chosen(reader, Condition(key, "^=", evil)) == ""
            assert chosen(reader, Condition(key, "!=", evil)) == "abcd"
            chosen(reader, Condition(key, "<", evil))
        with pytest.raises(ValueError, match="no document of the index has a field"):
            chosen(reader, Condition(evil, "=", evil))
        assert chosen(reader, Condition("year", "in", (evil, 2019))) == "a"
        assert len(statements) > 20
        assert not any("zqx" in statement for statement in statements)
        assert len(reader) == 4
