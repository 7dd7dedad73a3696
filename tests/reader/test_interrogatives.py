from __future__ import annotations

import re
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import settings
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.reader.interrogatives import LESS, MUCH_LESS, Interrogatives, asking, interrogatives
from odqa.types import Span

FAQ = """# Questions of our customers

How long is the warranty?

Three years for lamps, two for all others.

**Can I cancel my subscription?** Yes, at any time.

Where are you? What are the opening hours?

In Bremen, from 9 to 5."""


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def taken(question: str, text: str) -> dict[str, tuple[float, float]]:
    """Return what is taken from an answer that begins and ends with a word, for words that stand there once."""
    found = interrogatives(question, text, words(text))
    assert found is not None
    cut = [text[start:end] for start, end in words(text)]
    both = zip(cut, zip(found.start.tolist(), found.end.tolist(), strict=True), strict=True)
    return {word: loss for word, loss in both if cut.count(word) == 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nobody asks.", []),
        ("Who is it? Ann. Why?", ["Who is it?", "Why?"]),
        ("It rains. Who is it?! Ann!", ["Who is it?!"]),
        ("See:\nWho is it?\nAnn.", ["Who is it?"]),
        ("He came late. And who\nis it? Ann.", ["And who\nis it?"]),  # a wrapped line
        ("[10:30] Ann: When is it?\n[10:31] Bo: At 5.", ["[10:30] Ann: When is it?"]),
        ("**Who is it?** Ann. _Why?_ So.", ["**Who is it?", "_Why?"]),
        ("- [Who is it?](#who)\n- <b>Why?</b>", ["- [Who is it?", "- <b>Why?"]),
        ("| Who is it? | Ann |", ["| Who is it?"]),
        ("Wer?Was? ??", ["Wer?Was?"]),
        ("谁？ Ann。", ["谁？"]),
        ('The show "Who wants it?" ended in 1999.', []),  # the sentence goes on
        ("In 1999[when?] or 2000 (or later?) it ended.", []),
        ('Ann wrote, "Why her? She sings." Bo said "so"?', ["Why her?", 'Bo said "so"?']),
        ("Who wants it? is a show. Who wants it? I do.", ["Who wants it?"]),
        ("See https://x.org/a?b=c and d?e.", []),
        ("? 12? - ?", []),
        ("It rains.\n\n \n  who is it?", ["who is it?"]),
        ("It rains\n\nwho is it???", ["who is it???"]),
        ("", []),
    ],
)
def test_sentences_that_ask(text: str, expected: list[str]) -> None:
    assert [one.of(text) for one in asking(text)] == expected


def test_what_asks_nothing_takes_nothing() -> None:
    text = "The lamp burned oil."
    assert interrogatives("What did the lamp burn?", text, words(text)) is None


def test_the_answer_follows_the_question() -> None:
    found = taken("How long is the warranty?", FAQ)
    inside, elsewhere = (-np.inf, -np.inf), (-MUCH_LESS, 0)
    assert found["How"] == found["warranty?"] == inside
    assert found["Three"] == found["lamps,"] == found["others."] == (0, 0)
    assert found["#"] == found["customers"] == found["Yes,"] == found["Bremen,"] == elsewhere
    assert found["**Can"] == found["subscription?**"] == (-LESS / 2, -LESS / 2)  # may be asked for: "What do they ask?"


def test_questions_in_a_row_are_answered_behind_the_last() -> None:
    for question in ("Where are you?", "What are your opening hours?"):
        found = taken(question, FAQ)
        assert found["In"] == found["9"] == (0, 0)
        assert found["Three"] == found["Yes,"] == (-MUCH_LESS, 0)


@pytest.mark.parametrize(
    ("question", "alike"),
    [
        ("how long is the warranty", True),
        ("How long is your warranty on lamps?", True),
        ("Do you know how long the warranty is?", True),
        ("Who gives the warranty?", False),
        ("Why is the warranty so short?", False),
        ("What do lamps cost?", False),
    ],
)
def test_likeness_is_that_of_the_telling_words_and_of_the_kind(question: str, alike: bool) -> None:
    text = "Some lamps are old. How long is the warranty? Two years."
    found = taken(question, text)
    assert -MUCH_LESS <= found["Some"][0] <= -LESS if alike else found["Some"][0] == 0
    assert found["How"] == ((-np.inf, -np.inf) if alike else (-LESS / 2, -LESS / 2))
    assert found["Two"] == (0, 0)


def test_a_question_that_nothing_follows_leaves_the_rest_as_it_is() -> None:
    text = "The warranty is two years. How long is it for lamps?"
    found = taken("How long is it for lamps?", text)
    assert found["two"] == (0, 0)
    assert found["lamps?"] == (-np.inf, -np.inf)


def test_exercises_before_their_text() -> None:
    text = "1. How old is Ann?\n2. Where is Bo?\n3. Why?\n\nText: She says that she's 9."
    for question in ("How old is Ann?", "Where is Bo?"):
        assert taken(question, text)["9."] == (0, 0)


def test_who_speaks_is_no_answer_where_both_are_named() -> None:
    text = "[9:01] Ann: Where is the key?\n[9:02] Bo: Under the mat.\nEve: No."
    found = taken("Where is the key?", text)
    assert found["Ann:"] == (-np.inf, -np.inf)
    assert found["[9:02]"] == found["Bo:"] == (-MUCH_LESS, 0)
    assert found["Under"] == (0, 0)
    unlabelled = taken("Where is the key?", "Where is the key?\nPlace: here.")
    assert unlabelled["Place:"] == unlabelled["here."] == (0, 0)


@pytest.mark.parametrize(
    ("cut", "crosses"),
    [
        ("Three years", False),
        ("long is", False),
        ("How long is the warranty?", False),
        ("warranty?\n\nThree", True),
        ("customers\n\nHow long is the warranty?", True),
        ("customers\n\nHow", True),
    ],
)
def test_no_answer_joins_a_question_and_what_stands_beside_it(cut: str, crosses: bool) -> None:
    found = interrogatives("Anything?", FAQ, words(FAQ))
    assert found is not None
    at = FAQ.index(cut)
    assert found.are_crossed_by(Span(at, at + len(cut))) is crosses


@given(
    st.lists(st.sampled_from(["who", "is", "Ann", "?", "? ", ". ", "\n", "\n\n", ": ", "9", " ", "**", "born", '"']))
    .map("".join)
    .filter(str.strip)
)
def test_properties(text: str) -> None:
    places = asking(text)
    for one in places:
        cut = one.of(text)
        assert cut.rstrip("!")[-1] == "?" and any(letter.isalpha() for letter in cut)
    assert all(one.end <= other.start for one, other in pairwise(places))
    found = interrogatives("who is born", text, words(text))
    if not places:
        assert found is None
        return
    assert isinstance(found, Interrogatives)
    assert {*found.end.tolist()} <= {0.0, -LESS / 2, -np.inf}
    assert all(loss in (0, -LESS / 2, -np.inf) or -MUCH_LESS <= loss <= -LESS for loss in found.start.tolist())
    assert ((found.end == 0) | (found.start == found.end)).all()  # ends lose nothing but within questions


@pytest.mark.parametrize(
    "piece", ["\n ", "\n", "?", "!?", " ", ".*", "a? ", ' "', ' "a', "a:", " a: ", "? ", "*", "\u3000", "Who is it? "]
)
@pytest.mark.parametrize("end", ["", "a?"])
def test_long_texts_take_a_moment(piece: str, end: str) -> None:
    text = piece * (60_000 // len(piece)) + end
    began = time.thread_time()
    interrogatives("a b", text, [(0, 1)])
    assert time.thread_time() - began < 5  # hundredths of a second; what grows with the square takes twenty and more


# ---- with the bundled reader ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> ExtractiveReader:
    return load_reader(settings.DEFAULT_READER)


CHAT = """[09:12] Maria: Does anybody know who designed the new logo?
[09:13] Piotr: I think that was the agency from Ghent, Studio Vermeulen.
[09:15] Maria: And how much did they charge for it?
[09:16] Piotr: 3,400 euros if I remember correctly.
[09:20] Sven: When is the summer party this year?
[09:21] Maria: 12 July, in the garden of the old brewery."""
INTERVIEW = """**How many people work here?** Eleven, four of them apprentices.

**Who taught you to bake?** My grandmother, on the island of Öland. She baked for the whole village."""


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        ("How long is the warranty for lamps?", FAQ, "Three years"),
        ("Can I cancel my subscription?", FAQ, "at any time"),
        ("Who designed the new logo?", CHAT, "Studio Vermeulen"),
        ("How much did they charge for the logo?", CHAT, "3,400 euros"),
        ("When is the summer party?", CHAT, "12 July"),
        ("Who taught you to bake?", INTERVIEW, "My grandmother"),
        ("How many people work here?", INTERVIEW, "Eleven"),
    ],
)
def test_answers_out_of_lists_of_questions_chats_and_interviews(
    reader: ExtractiveReader, question: str, passage: str, answer: str
) -> None:
    best = reader.read(question, [passage], n_best=1)[0].span.of(passage)
    assert answer in best
    assert "?" not in best
    assert len(best) <= len(answer) + 40


def test_a_passage_that_only_asks_has_no_answer(reader: ExtractiveReader) -> None:
    question = "Who designed the new logo?"
    assert reader.read(question, [question], n_best=3) == []
    assert reader.best_by_window([question], [question]) == [[]]
