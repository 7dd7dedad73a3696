import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.printable import flat, to_json, visible
from odqa.types import CheckReport, Problem, Section, Span


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Łódź, 東京, 🙂", "plain text, Łódź, 東京, 🙂"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\tb\r\nc\x00\x7f", r"a\tb\r\nc\x00\x7f"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2066x\u2069\u2028", r"\u2066x\u2069\u2028"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_visible_writes_what_steers_a_terminal_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_visible_lets_no_control_character_through(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_flat_joins_lines() -> None:
    assert flat("a \n\n\tb\r\nc\u00a0d") == "a b c\u00a0d"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_reads_back_whole_and_is_safe_to_show(text: str) -> None:
    line = to_json({"text": text})
    assert json.loads(line) == {"text": text}
    assert visible(line) == line
    line.encode("utf-8")


def test_json_keeps_characters_and_names_fields() -> None:
    section = Section(Span(2, 5), heading="Über")
    assert to_json((section, None)) == '[{"span": {"start": 2, "end": 5}, "page": null, "heading": "Über"}, null]'


def test_json_has_no_nan() -> None:
    assert to_json([float("nan"), float("inf"), 0.5]) == "[null, null, 0.5]"


def test_json_of_a_check_says_whether_it_is_clean() -> None:
    report = CheckReport((Problem("vectors", "one is lost"),), documents=2, passages=3)
    assert json.loads(to_json(report)) == {
        "clean": False,
        "problems": [{"kind": "vectors", "detail": "one is lost", "mended": False}],
        "documents": 2,
        "passages": 3,
        "lost": [],
        "notices": [],
    }
