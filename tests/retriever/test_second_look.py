from __future__ import annotations

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.retriever.second_look import Evidence, Look
from odqa.words import stem, telling, words_of


def evidence(question: str, passages: list[str]) -> list[Evidence]:
    look = Look(question, passages)
    return [look.evidence(at) for at in range(len(look))]


QUESTION = "Who designed the tower?"  # telling: designed, tower; pairs: who designed, designed the, the tower


def test_words_weigh_more_the_fewer_passages_hold_them() -> None:
    passages = ["A tower stood there.", "The tower was designed late.", "The sea."]
    tower, designed = math.log(4 / 2.5), math.log(4 / 1.5)
    pairs = (designed + 0.1) * 2 + (tower + 0.1)
    first, second, third = evidence(QUESTION, passages)
    assert first == pytest.approx((tower / (tower + designed), 0.0))
    assert second == pytest.approx((1.0, (tower + 0.1) / pairs))
    assert third == (0.0, 0.0)


def test_words_count_within_one_sentence() -> None:
    apart, together = evidence(QUESTION, ["It was designed. A tower fell.", "They designed a tower."])
    assert apart.coverage == pytest.approx(0.5)
    assert together.coverage == 1.0


@pytest.mark.parametrize(
    ("between", "separate"),
    [
        (". ", True),
        ("! ", True),
        ("?\n", True),
        ("。", True),
        ("\n \n", True),
        ("\n", False),
        (", ", False),
        (".5 ", False),
    ],
)
def test_where_sentences_end(between: str, separate: bool) -> None:
    (found,) = evidence(QUESTION, [f"designed{between}tower"])
    assert found.coverage == pytest.approx(0.5 if separate else 1.0)


def test_a_text_without_sentences_is_cut() -> None:
    near, far = evidence(QUESTION, ["designed " + "x " * 48 + "tower", "designed " + "x " * 49 + "tower"])
    assert near.coverage == 1.0
    assert far.coverage == pytest.approx(0.5)


def test_forms_of_a_word_meet() -> None:
    (found,) = evidence("Which towers were designed?", ["The tower is a good design: designing it took years."])
    assert found.coverage == 1.0


def test_a_question_of_one_word_has_no_pairs() -> None:
    assert evidence("Tower", ["The tower.", "The sea."]) == [(1.0, 1.0), (0.0, 0.0)]


def test_stop_words_count_where_there_are_no_others() -> None:
    assert evidence("Who is it?", ["Who is it?", "The sea."]) == [(1.0, 1.0), (0.0, 0.0)]


@pytest.mark.parametrize("passages", [[], ["x"], ["", " ", "?"]])
def test_nothing_to_see(passages: list[str]) -> None:
    assert evidence(QUESTION, passages) == [Evidence(0.0, 0.0)] * len(passages)
    assert evidence("?", passages) == [Evidence(0.0, 0.0)] * len(passages)


WORDS = st.text(alphabet=string.ascii_lowercase[:4] + " .A\n的", max_size=60)


@given(question=WORDS, passages=st.lists(WORDS, max_size=5))
def test_evidence_lies_between_none_and_all(question: str, passages: list[str]) -> None:
    found = evidence(question, passages)
    assert len(found) == len(passages)
    assert all(0.0 <= value <= 1.0 for one in found for value in one)
    assert evidence(question, passages[::-1]) == found[::-1]


@given(question=WORDS, passages=st.lists(WORDS, max_size=5))
def test_a_passage_says_no_more_than_its_words_let_it(question: str, passages: list[str]) -> None:
    look = Look(question, passages)
    for at in range(len(look)):
        assert all(least <= most for least, most in zip(look.evidence(at), look.most(at), strict=True))


def test_the_most_that_a_passage_can_say() -> None:
    look = Look(QUESTION, ["It was designed. A tower fell.", "They saw the tower.", "The sea."])
    assert look.most(0) == (1.0, 1.0)
    assert look.evidence(0).coverage < 1.0
    assert look.most(1).coverage == look.evidence(1).coverage
    assert look.most(2) == (0.0, 0.0)


@given(question=WORDS)
def test_the_question_itself_holds_all_its_words(question: str) -> None:
    flat = " ".join(words_of(question)[:50])
    (found,) = evidence(flat, [flat])
    assert found == (pytest.approx((1.0, 1.0)) if flat else (0.0, 0.0))


def test_words() -> None:
    assert words_of("Don't STOP, É_2!") == ["don", "t", "stop", "é_2"]
    assert telling(["the", "sea", "of", "sea"]) == ["sea"]
    assert telling(["who", "is", "who"]) == ["who", "is"]
    forms = ("sea", "seas", "tower", "towers", "design", "designing", "nations")
    assert [stem(word) for word in forms] == ["sea", "seas", "towe", "towe", "desi", "design", "natio"]
