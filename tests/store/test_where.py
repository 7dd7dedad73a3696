"""The language of filters: what every form means, that mistakes are marked, and that all filters can be written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.store.filters import OPERATORS, AllOf, AnyOf, Condition, Expression
from odqa.store.where import MOST_NESTED, parse_where, read_where

A, B, C = (Condition(key, "=", "1") for key in "abc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year>=2020", Condition("year", ">=", "2020")),
        ("  year  >  2020 ", Condition("year", ">", "2020")),
        ("source^=/a/b", Condition("source", "^=", "/a/b")),
        ("path prefix sea/", Condition("path", "^=", "sea/")),
        ("path PREFIX 'the sea/'", Condition("path", "^=", "the sea/")),
        ("language!=en", Condition("language", "!=", "en")),
        ("formula=a=b", Condition("formula", "=", "a=b")),
        ("url=https://x.org/?a=b&c=d!", Condition("url", "=", "https://x.org/?a=b&c=d!")),
        ("author=O'Brien".replace("'", "’"), Condition("author", "=", "O’Brien")),
        ('author="O\'Brien"', Condition("author", "=", "O'Brien")),
        ('said="so ""loudly"" he"', Condition("said", "=", 'so "loudly" he')),
        (r'path="C:\data\new"', Condition("path", "=", r"C:\data\new")),
        ("empty=''", Condition("empty", "=", "")),
        ("a.b-c_d<=x", Condition("a.b-c_d", "<=", "x")),
        ("año=1", Condition("año", "=", "1")),
        ('"a b"=1', Condition("a b", "=", "1")),
        ("'or'=1", Condition("or", "=", "1")),
        ("ordinal=1", Condition("ordinal", "=", "1")),
        ("x=or-2.txt", Condition("x", "=", "or-2.txt")),
        ("x=Android", Condition("x", "=", "Android")),
        ("metadata.title=x", Condition("metadata.title", "=", "x")),
        ("suffix in (.pdf, .docx)", Condition("suffix", "in", (".pdf", ".docx"))),
        ("year IN(1,'2 3',-4.5e6)", Condition("year", "in", ("1", "2 3", "-4.5e6"))),
        ("modified<2026-01-31T12:00:00+02:00", Condition("modified", "<", "2026-01-31T12:00:00+02:00")),
        ("a=1 and b=1", AllOf((A, B))),
        ("a=1 AND b=1 and c=1", AllOf((A, B, C))),
        ("a=1 or b=1 and c=1", AnyOf((A, AllOf((B, C))))),
        ("a=1 and b=1 or c=1", AnyOf((AllOf((A, B)), C))),
        ("a=1 and(b=1 or c=1)", AllOf((A, AnyOf((B, C))))),
        ("(a=1)or(b=1)", AnyOf((A, B))),
        ("((a=1))", A),
        ("a='1'and b='1'", AllOf((A, B))),
    ],
)
def test_filters_are_read(text: str, expected: Expression) -> None:
    assert parse_where(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a key was expected, as in year>=2020: <-- HERE"),
        ("   ", "a key was expected, as in year>=2020: <-- HERE"),
        ("year", "an operator was expected after 'year': = != < <= > >= ^= in: year <-- HERE"),
        ("year ~ 3", "an operator was expected after 'year': = != < <= > >= ^= in: year <-- HERE ~ 3"),
        ("year 3", "an operator was expected after 'year': = != < <= > >= ^= in: year <-- HERE 3"),
        ("=x", "a key was expected, as in year>=2020: <-- HERE =x"),
        ("1a=x", "a key was expected, as in year>=2020: <-- HERE 1a=x"),
        ("and=x", "a key was expected, as in year>=2020: <-- HERE and=x"),
        ("''=x", "a key was expected, as in year>=2020: <-- HERE ''=x"),
        ("' '=x", "the key of a condition is empty: ' '=x <-- HERE"),
        ("year>=", "a value was expected after '>='; the empty text is \"\": year>= <-- HERE"),
        ("year>= and x=1", "a value was expected after '>='; the empty text is \"\": year>= <-- HERE and x=1"),
        ("year=>2", "a value was expected after '='; put one with signs in quotes: year= <-- HERE >2"),
        ("year==2", "a value was expected after '='; put one with signs in quotes: year= <-- HERE =2"),
        (
            "title=War and Peace",
            "an operator was expected after 'Peace': = != < <= > >= ^= in: title=War and Peace <-- HERE",
        ),
        (
            "title=Harbour rules",
            "'and', 'or' or the end was expected; put a value with blanks or signs in quotes: "
            "title=Harbour <-- HERE rules",
        ),
        (
            "year>=2020 title=x",
            "'and', 'or' or the end was expected; put a value with blanks or signs in quotes: "
            "year>=2020 <-- HERE title=x",
        ),
        ("x=a,b", "'and', 'or' or the end was expected; put a value with blanks or signs in quotes: x=a <-- HERE ,b"),
        ("x=1)", "this ')' closes nothing: x=1 <-- HERE )"),
        ("(x=1", "'and', 'or' or ')' was expected; put a value with blanks or signs in quotes: (x=1 <-- HERE"),
        ("()", "a key was expected, as in year>=2020: ( <-- HERE )"),
        ("x=1 and", "a key was expected, as in year>=2020: x=1 and <-- HERE"),
        ("x=1 or or y=1", "a key was expected, as in year>=2020: x=1 or <-- HERE or y=1"),
        ("x in 1", "'(' was expected, as in suffix in (pdf, docx): x in <-- HERE 1"),
        ("x in ()", "a value was expected after '('; the empty text is \"\": x in ( <-- HERE )"),
        ("x in (1,)", "a value was expected after ','; the empty text is \"\": x in (1, <-- HERE )"),
        ("x in (1 2)", "',' or ')' was expected; put a value with blanks or signs in quotes: x in (1 <-- HERE 2)"),
        ("x='abc", "this ' is not closed: x= <-- HERE 'abc"),
        ('x="abc"" and y=1', 'this " is not closed: x= <-- HERE "abc"" and y=1'),
        ("modified>yesterday", "not a time: 'yesterday'"),
        ("modified>2026-13", "not a time: '2026-13'"),
        ("modified>2026-02-30", "not a time: '2026-02-30'"),
        ("modified=true", "not a time: 'true'"),
        ("modified^=2026", "'modified' is a time: '^=' does not apply"),
        ("x=a\0b", "holds characters that no document can hold"),
        ("x=\ud800", "holds characters that no document can hold"),
        ("(" * (MOST_NESTED + 1) + "x=1", f"more than {MOST_NESTED} parentheses within each other"),
        ("(" * 100_000, f"more than {MOST_NESTED} parentheses within each other"),
    ],
)
def test_mistakes_are_marked(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_where(text)
    assert str(caught.value).startswith("not a filter: ")
    assert len(str(caught.value)) < 300


def test_what_callers_give_is_joined() -> None:
    assert read_where(()) is None
    assert read_where("a=1 or b=1") == AnyOf((A, B))
    assert read_where(A) == read_where([A]) == A
    assert read_where(["a=1", B]) == AllOf((A, B))
    assert read_where([AnyOf(())]) == AnyOf(())  # nothing may be found; that is a filter too
    made = [A & B | C, A & (B | C), A & B & C, A | B | C]
    assert made == [AnyOf((AllOf((A, B)), C)), AllOf((A, AnyOf((B, C)))), AllOf((A, B, C)), AnyOf((A, B, C))]
    for wrong in ([1], [None], [["a=1"]]):
        with pytest.raises(ValueError, match="not a filter"):
            read_where(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "operator", "value", "message"),
    [
        ("a", "LIKE", "b", "not an operator: 'LIKE'"),
        ("a", "in", "b", "'in' takes several values"),
        ("a", "=", ("b",), "'in' takes several values"),
        (" ", "=", "b", "key of a condition is empty"),
    ],
)
def test_conditions_built_by_hand_are_checked(key: str, operator: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Condition(key, operator, value)  # type: ignore[arg-type]


def test_a_list_of_values_becomes_a_tuple() -> None:
    assert Condition("a", "in", ["x", 1]).value == ("x", 1)  # type: ignore[arg-type]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
keys = texts.filter(lambda key: key.strip() and key != "modified")
conditions = st.one_of(
    st.builds(Condition, keys, st.sampled_from([o for o in OPERATORS if o != "in"]), texts),
    st.builds(Condition, keys, st.just("in"), st.lists(texts, min_size=1, max_size=3).map(tuple)),
)
expressions = st.recursive(
    conditions,
    lambda inner: st.builds(
        lambda kind, parts: kind(tuple(parts)),
        st.sampled_from([AllOf, AnyOf]),
        st.lists(inner, min_size=2, max_size=3),
    ),
    max_leaves=8,
)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "'" in text else f"'{text}'"


def written(expression: Expression) -> str:
    if isinstance(expression, Condition):
        value = expression.value
        shown = f"({', '.join(map(quoted, value))})" if isinstance(value, tuple) else quoted(str(value))
        return f"{quoted(expression.key)} {expression.operator} {shown}"
    word = " and " if isinstance(expression, AllOf) else " or "
    return word.join(f"({written(part)})" for part in expression.parts)


@given(expressions)
def test_every_filter_can_be_written_and_read_back(expression: Expression) -> None:
    assert parse_where(written(expression)) == expression


pieces = st.sampled_from([*"ab=!<>^()'\", \t\0é1.-_&|", " and ", " or ", " in ", "modified"])


@given(st.lists(pieces, max_size=30))
def test_any_text_is_a_filter_or_a_value_error(text: list[str]) -> None:
    try:
        parse_where("".join(text))
    except ValueError as error:
        assert str(error).startswith("not a filter: ")
