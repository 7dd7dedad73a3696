from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.models.runtime import Tokenizer
from odqa.reader import bounds as module
from odqa.reader.bounds import closed, in_one_block, joined
from odqa.reader.spans import word_bounds
from odqa.types import Span


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    signs = [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *signs]
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return Tokenizer(path, lower_case=True)


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the pieces of a text that an answer must not cut."""
    encoding = tokenizer.encode(text)
    continues = tokenizer.continues[encoding.ids]
    before = continues.copy()
    first, last = word_bounds(joined(text, encoding.offsets, continues))
    assert (continues == before).all()
    bounds = dict.fromkeys(zip(first, last, strict=True))
    return [text[encoding.offsets[a][0] : encoding.offsets[b][1]] for a, b in bounds]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the Cargo.toml file.", ["the", "Cargo.toml", "file", "."]),
        ("run train.py, then x.tar.gz", ["run", "train.py", ",", "then", "x.tar.gz"]),
        ("3.5 or 1,000 or 12,345,678", ["3.5", "or", "1,000", "or", "12,345,678"]),
        ("at 10:30 (John 3:16)", ["at", "10:30", "(", "John", "3:16", ")"]),
        ("use std::io::Read now", ["use", "std::io::Read", "now"]),
        ("src/main or km/h", ["src/main", "or", "km/h"]),
        (r"in C\Users\me", ["in", r"C\Users\me"]),
        ("mail me.too@x.org, AT&T", ["mail", "me.too@x.org", ",", "AT&T"]),
        ("__init__ of foo_bar and _x", ["__init__", "of", "foo_bar", "and", "_x"]),
        ("`--read-all` or -j 4", ["`", "--read", "-", "all", "`", "or", "-j", "4"]),
        ("C++, C# and F#", ["C++", ",", "C#", "and", "F#"]),
        ("5% of $5.20 (#12)", ["5%", "of", "$5.20", "(", "#12", ")"]),
        ("a .gitignore or .5", ["a", ".gitignore", "or", ".5"]),
        ("the U.S. Army at 5 p.m.", ["the", "U.S.", "Army", "at", "5", "p.m."]),
        ("see https://a-b.org/c-d/?e=f#g.", ["see", "https://a-b.org/c-d/?e=f#g", "."]),
        ("(https://x.org/)", ["(", "https://x.org/", ")"]),
    ],
)
def test_names_and_numbers_with_signs_are_one_word(tokenizer: Tokenizer, text: str, expected: list[str]) -> None:
    assert words(tokenizer, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the end.Next one", ["the", "end", ".", "Next", "one"]),  # a space is missing
        ("a well-known 49-day tour", ["a", "well", "-", "known", "49", "-", "day", "tour"]),
        ("Darwin's dog", ["Darwin", "'", "s", "dog"]),
        ("one, two: three; four...five", ["one", ",", "two", ":", "three", ";", "four", ".", ".", ".", "five"]),
        ("in 1,2 or 3,0000", ["in", "1", ",", "2", "or", "3", ",", "0000"]),
        ("x - y -- z, a--b", ["x", "-", "y", "-", "-", "z", ",", "a", "-", "-", "b"]),
        ("50 % # 5 a . b", ["50", "%", "#", "5", "a", ".", "b"]),
        ("", []),
    ],
)
def test_other_signs_stand_alone(tokenizer: Tokenizer, text: str, expected: list[str]) -> None:
    assert words(tokenizer, text) == expected


def test_what_is_very_long_may_be_cut(tokenizer: Tokenizer) -> None:
    parts = ["ab"] * ((module.LONGEST + 1) // 3)
    whole, longer = "/".join(parts), "/".join([*parts, "ab"])
    assert len(whole) <= module.LONGEST < len(longer)
    assert words(tokenizer, f"x.y {whole}") == ["x.y", whole]
    assert words(tokenizer, f"x.y {longer}") == ["x.y", *longer.replace("/", " / ").split()]


def place_of(cut: str, text: str) -> Span:
    return Span(text.index(cut), text.index(cut) + len(cut))


@pytest.mark.parametrize(
    ("text", "cut", "expected"),
    [
        ("the cat (sat) on", "cat (sat", "cat (sat)"),
        ("the (cat) sat on", "cat) sat", "(cat) sat"),
        ('the cat "sat" on', 'cat "sat', 'cat "sat"'),
        ('the "cat" sat on', 'cat" sat', '"cat" sat'),
        ("the “cat” sat on", "cat” sat", "“cat” sat"),
        ('a cat ("the sat") on', 'cat ("the sat', 'cat ("the sat")'),
        ("a [b {c}] d", "b {c", "b {c}"),
        ("<a@x.org>", "<a@x.org", "<a@x.org>"),
        ("now run `a b` twice", "run `a b", "run `a b`"),
        ("the cat (sat on) mat", "cat (sat", "cat (sat"),  # the other one is not next to it
        ("the cat (sat) on", "sat", "sat"),
        ("a) b", "a) b", "a) b"),
        ('a " b', '" b', '" b'),
    ],
)
def test_a_pair_is_whole_where_its_other_half_is_next_to_the_answer(text: str, cut: str, expected: str) -> None:
    assert closed(text, place_of(cut, text)).of(text) == expected


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a cat\n\nsat", "cat\n\nsat"),
        ("a cat\n \t\nsat", "cat\n \t\nsat"),
        ("| the cat | sat |", "cat | sat"),
        ("| the cat | sat |", "cat |"),
        ("  | the cat | sat |", "| the cat"),
        ("the | cat\nsat | on", "the | cat"),
        ("on | mat\nthe cat | sat", "cat | sat"),
        ("on | mat\nthe cat | sat", "mat\nthe cat |"),
        ("the cat |\nsat | on", "cat |\nsat"),
    ],
)
def test_an_answer_stands_in_one_block(text: str, cut: str) -> None:
    assert not in_one_block(text, place_of(cut, text))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a cat\nsat", "cat\nsat"),
        ("run ls | wc -l now\nand then", "ls | wc -l"),
        ("x|y is z\nx|y is z", "x|y is"),
        ("| the cat | sat |\n| on | mat |", "the cat"),
        ("the | cat\nsat | on", "cat\nsat"),
    ],
)
def test_a_line_end_or_a_bar_alone_is_no_border(text: str, cut: str) -> None:
    assert in_one_block(text, place_of(cut, text))


SIGNS_AND_LETTERS = st.text('ab1A .,:_-/\\@&%$#+()[]<>"“”|\n', max_size=60)


@given(SIGNS_AND_LETTERS)
def test_words_with_signs_hold_no_white_space_and_cut_no_word(tokenizer: Tokenizer, text: str) -> None:
    found = words(tokenizer, text)
    assert not [word for word in found if word.split() != [word]]
    assert "".join(found) == "".join(text.split())


@given(SIGNS_AND_LETTERS, st.data())
def test_what_is_taken_in_is_next_to_the_answer_and_taken_once(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    wider = closed(text, Span(start, end))
    assert 0 <= wider.start <= start <= end <= wider.end <= len(text)
    assert closed(text, wider) == wider
    added = text[wider.start : start] + text[end : wider.end]
    assert not added.strip('()[]<>"“”')
    assert in_one_block(text, wider) in (True, False)
