from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.reader.focus import focus
from odqa.types import Span

BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n\s*\n")
FILLER = "Nothing much of any interest to anybody happened there on that long and rainy day."
ANSWER = "The lighthouse of Skarn was built by Olaf Brenne."


def passage_with(place: int, *, sentences: int = 21) -> str:
    return " ".join(ANSWER if at == place else FILLER for at in range(sentences))


@pytest.mark.parametrize("place", [0, 1, 10, 19, 20])
def test_the_part_holds_the_sentence_that_says_what_the_question_says(place: int) -> None:
    text = passage_with(place)
    part = focus("Who built the lighthouse of Skarn?", text, characters=400)
    assert ANSWER in part.of(text)
    assert len(part) <= 400


def test_the_sentence_has_neighbours_on_both_sides() -> None:
    text = passage_with(10)
    before, after = focus("Who built the lighthouse of Skarn?", text, characters=400).of(text).split(ANSWER)
    assert before.count(FILLER) == after.count(FILLER) == 2


def test_words_together_say_more_than_the_same_words_apart() -> None:
    apart = [f"There was a {word} in the region." for word in ("lighthouse", "builder", "Skarn")]
    text = " ".join([*apart, *[FILLER] * 15, ANSWER])
    assert ANSWER in focus("Who built the lighthouse of Skarn?", text, characters=300).of(text)


def test_rare_words_say_more_than_those_of_every_sentence() -> None:
    often = "The lighthouse stood there and the lighthouse was white."
    text = " ".join([*[often] * 12, "Brenne was paid in herring.", *[often] * 12])
    assert "herring" in focus("What was Brenne of the lighthouse paid in?", text, characters=300).of(text)


@pytest.mark.parametrize(
    ("question", "text", "characters"),
    [
        ("Who built the lighthouse?", ANSWER, 1000),
        ("Who built the lighthouse?", passage_with(3), len(passage_with(3))),
        ("How expensive are bananas?", passage_with(3), 100),
        ("?", passage_with(3), 100),
        ("anything", "", 10),
    ],
    ids=["short", "exactly as long", "no word of the question", "no words", "empty"],
)
def test_the_whole_passage(question: str, text: str, characters: int) -> None:
    assert focus(question, text, characters=characters) == Span(0, len(text))


def test_a_sentence_that_is_too_long_is_cut_and_a_table_is_cut_by_words() -> None:
    letters = "lighthouse" * 100
    assert focus("lighthouse" * 100, letters, characters=300) == Span(0, 300)
    rows = " ".join(f"row{n}" for n in range(400))
    text = f"{rows} Skarn 1871 {rows}"
    part = focus("When was Skarn?", text, characters=900)
    assert "Skarn 1871" in part.of(text)
    assert len(part) <= 900


def test_sentences_without_spaces_between_them() -> None:
    text = "何もなかった。" * 60 + "スカルン の 灯台。" + "何もなかった。" * 60
    assert "灯台" in focus("スカルン", text, characters=100).of(text)


def test_blanks_before_a_sentence_are_not_its_beginning() -> None:
    text = f"{FILLER}\n\n{' ' * 300}{ANSWER} {FILLER}"
    assert focus("Who built the lighthouse of Skarn?", text, characters=60).of(text) == ANSWER


@given(
    st.lists(st.sampled_from([FILLER, ANSWER, "Skarn?", "a. b. c.", "\n\n", " ", "x" * 70]), max_size=40).map(" ".join),
    st.sampled_from(["Who built the lighthouse of Skarn?", "x", "b", "...", "Skarn Skarn"]),
    st.integers(1, 800),
)
def test_a_part_is_a_run_of_whole_sentences_no_longer_than_asked(text: str, question: str, characters: int) -> None:
    part = focus(question, text, characters=characters)
    assert 0 <= part.start <= part.end <= len(text)
    if part == Span(0, len(text)):
        return
    assert 0 < len(part) <= characters
    gaps = [gap.span() for gap in BETWEEN_SENTENCES.finditer(text)]
    starts = {len(text) - len(text[at:].lstrip()) for at in (0, *(after for _, after in gaps))}
    ends = {len(text), *(before for before, _ in gaps)}
    assert part.start in starts
    assert part.end in ends or len(part) == characters
    assert re.search(r"\w", part.of(text))
    assert focus(question, text, characters=characters) == part
