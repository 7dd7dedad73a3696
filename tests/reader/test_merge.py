from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import settings
from odqa.protocols import SpanCandidate
from odqa.reader.merge import Calibration, accepted, answers, lead, probability
from odqa.types import Passage, Place, RetrievedPassage, Span

PLAIN = Calibration()
DOCUMENTS = {"one": "Ada wrote the first program. Ada Lovelace was a writer.", "two": "It was Ada! The Ada of 1843."}


def retrieved(*pieces: tuple[str, int, int]) -> list[RetrievedPassage]:
    """Make passages out of (document, start, end), ranked from 1."""
    found = []
    for rank, (doc_id, start, end) in enumerate(pieces, 1):
        span = Span(start, end)
        passage = Passage(rank, doc_id, "", span.of(DOCUMENTS[doc_id]), span, f"/{doc_id}.txt")
        found.append(RetrievedPassage(passage, score=1.0 / rank, rank=rank))
    return found


def candidate(passage: int, held: list[RetrievedPassage], text: str, score: float, *, after: int = 0) -> SpanCandidate:
    start = held[passage].passage.text.index(text, after)
    return SpanCandidate(passage, Span(start, start + len(text)), score)


ALL = retrieved(("one", 0, 55), ("two", 0, 28), ("one", 20, 55))


def test_equal_answers_become_one_with_its_places() -> None:
    found = answers(
        [
            candidate(0, ALL, "Ada", 2.0),
            candidate(1, ALL, "The Ada", 3.0),
            candidate(1, ALL, "Ada!", 1.0),
            candidate(0, ALL, "a writer", 0.5),
        ],
        ALL,
        calibration=replace(PLAIN, support_weight=0.5),
        n_best=5,
    )
    assert [answer.text for answer in found] == ["The Ada", "a writer"]
    best = found[0]
    assert best.span == Span(12, 19)
    assert best.places == (
        Place(ALL[1].passage, Span(12, 19)),
        Place(ALL[0].passage, Span(0, 3)),
        Place(ALL[1].passage, Span(7, 11)),
    )
    assert best.score == pytest.approx(3 + 0.5 * 1.0986123)  # the logarithm of 3 places
    assert found[1].score == 0.5
    for answer in found:
        for place in answer.places:
            assert place.span.of(DOCUMENTS[place.passage.doc_id])
        assert answer.span.of(DOCUMENTS[answer.passage.doc_id]) == answer.text


@pytest.mark.parametrize(("weight", "score"), [(0.0, 1.0), (1.0, 1.6931472), (3.0, 3.0794415)])
def test_support_of_two_equal_places(weight: float, score: float) -> None:
    held = [candidate(0, ALL, "Ada", 1.0), candidate(1, ALL, "Ada", -9.0)]  # however the other one scores
    (found,) = answers(held, ALL, calibration=replace(PLAIN, support_weight=weight), n_best=3)
    assert found.score == pytest.approx(score)
    assert found.passage is ALL[0].passage


def test_support_can_make_another_answer_the_best() -> None:
    held = [candidate(0, ALL, "writer", 2.5), candidate(0, ALL, "Ada", 1.0), candidate(1, ALL, "Ada", 0.0)]
    for weight, best in ((0.0, "writer"), (2.0, "writer"), (3.0, "Ada")):  # 1 + 2 log 2 = 2.39, 1 + 3 log 2 = 3.08
        assert answers(held, ALL, calibration=replace(PLAIN, support_weight=weight), n_best=1)[0].text == best


def test_more_candidates_of_a_passage_than_are_counted_change_no_score() -> None:
    text = " ".join(["Ada", *(f"w{i}" for i in range(30)), "Ada"])
    passage = RetrievedPassage(Passage(1, "d", "", text, Span(0, len(text)), "/d.txt"), score=1.0, rank=1)
    starts = [0, *(text.index(f"w{i}") for i in range(30)), len(text) - 3]
    ends = [text.find(" ", start) if " " in text[start:] else len(text) for start in starts]
    held = [
        SpanCandidate(0, Span(start, end), -float(at)) for at, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    weights = replace(PLAIN, support_weight=3.0)
    few = answers(held[: settings.SPAN_CANDIDATES], [passage], calibration=weights, n_best=5)
    many = answers(held, [passage], calibration=weights, n_best=5)
    assert [(a.text, a.score, a.probability) for a in many] == [(a.text, a.score, a.probability) for a in few]
    assert [len(a.places) for a in (few[0], many[0])] == [1, 2]  # it is shown all the same


def test_overlapping_spans_are_one_even_through_overlapping_passages() -> None:
    held = [
        candidate(0, ALL, "Ada Lovelace", 2.0),
        candidate(0, ALL, "Lovelace", 1.5),
        candidate(2, ALL, "Ada Lovelace was", 2.5),
        candidate(2, ALL, "writer", 1.0),
        candidate(0, ALL, "writer", 0.5),
        candidate(0, ALL, "Ada", 0.1, after=5),
    ]
    found = answers(held, ALL, calibration=replace(PLAIN, support_weight=1.0), n_best=9)
    assert [(answer.text, answer.score, len(answer.places)) for answer in found] == [
        ("Ada Lovelace was", 2.5, 1),
        ("writer", 1.0, 1),
    ]
    assert found[0].span == Span(29, 45)
    assert found[0].passage is ALL[2].passage


def test_the_same_positions_of_two_documents_do_not_overlap() -> None:
    held = [candidate(0, ALL, "Ada wrote", 1.0), candidate(1, ALL, "It was", 1.0)]
    assert len(answers(held, ALL, calibration=PLAIN, n_best=5)) == 2


def test_weights_of_reader_and_retrieval() -> None:
    held = [candidate(0, ALL, "first", 1.0), candidate(1, ALL, "1843", 1.5)]
    weights = replace(PLAIN, reader_weight=2.0, retrieval_weight=3.0)
    found = answers(held, ALL, calibration=weights, n_best=5)
    assert [(answer.text, answer.score) for answer in found] == [
        ("first", 2.0),
        ("1843", pytest.approx(3.0 - 3.0 * (1.0 - 0.5))),
    ]
    assert [answer.text for answer in answers(held, ALL, calibration=PLAIN, n_best=5)] == ["1843", "first"]


def test_ties_go_to_the_better_rank_then_to_the_earlier_place() -> None:
    held = [candidate(1, ALL, "1843", 1.0), candidate(0, ALL, "writer", 1.0), candidate(0, ALL, "first", 1.0)]
    assert [a.text for a in answers(held, ALL, calibration=PLAIN, n_best=5)] == ["first", "writer", "1843"]


def test_probabilities_look_at_the_margin_to_the_best_other() -> None:
    held = [candidate(0, ALL, "first", 3.0), candidate(1, ALL, "1843", 1.0), candidate(0, ALL, "writer", -9.0)]
    weights = replace(
        PLAIN,
        score_coefficient=0.5,
        margin_coefficient=0.25,
        lead_coefficient=3.0,
        intercept=-1.0,
        margin_cap=5.0,
    )

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    # The retrieval scores of the three passages are 1, 1/2 and 1/3, so the lead of the best over the last is 2/3.
    wanted = [sigmoid(1.5 + 0.5 + 2 - 1), sigmoid(0.5 - 0.5 + 2 - 1), sigmoid(-2.5 - 1.25 + 2 - 1)]
    assert [a.probability for a in answers(held, ALL, calibration=weights, n_best=5)] == pytest.approx(wanted)
    # What is not returned still counts as the other answer; without any other the margin is its cap.
    assert answers(held, ALL, calibration=weights, n_best=1)[0].probability == pytest.approx(wanted[0])
    assert answers(held[:1], ALL, calibration=weights, n_best=1)[0].probability == pytest.approx(
        sigmoid(1.5 + 1.25 + 2 - 1)
    )


def test_the_lead_is_that_over_the_fifth_passage_or_the_last() -> None:
    held = [replace(ALL[0], score=score) for score in (0.9, 0.8, 0.7, 0.65, 0.6, 0.1)]
    assert lead(held) == lead(held[::-1]) == pytest.approx(0.3)
    assert lead(held[:2]) == pytest.approx(0.1)
    assert lead(held[:1]) == settings.LONE_LEAD


def test_probability_of_extreme_scores() -> None:
    steep = replace(PLAIN, score_coefficient=1e3)
    assert probability(1e6, 0.0, 0.0, calibration=steep) == 1.0
    assert probability(-1e6, 0.0, 0.0, calibration=steep) == 0.0
    # Beyond the cap a higher score adds nothing.
    assert probability(1e6, 0.0, 0.0, calibration=replace(PLAIN, margin_cap=2.0)) == 1 / (1 + math.exp(-2.0))
    assert probability(0.0, math.inf, 0.0, calibration=replace(PLAIN, margin_coefficient=0.1)) == pytest.approx(
        0.7310586
    )


def test_answers_of_articles_and_punctuation_equal_only_themselves() -> None:
    held = [candidate(0, ALL, "the", 2.0), candidate(0, ALL, ".", 1.0), candidate(1, ALL, "!", 0.5)]
    found = answers(held, ALL, calibration=PLAIN, n_best=5)
    assert [answer.text for answer in found] == ["the", ".", "!"]


def test_no_answer() -> None:
    assert answers([], ALL, calibration=PLAIN, n_best=1) == ()
    assert accepted((), threshold=0.0) is None
    found = answers([candidate(0, ALL, "first", 0.0)], ALL, calibration=PLAIN, n_best=1)
    assert found[0].probability == 0.5
    assert accepted(found, threshold=0.5) is found[0]
    assert accepted(found, threshold=0.51) is None


def test_wrong_arguments() -> None:
    good = candidate(0, ALL, "first", 1.0)
    with pytest.raises(ValueError, match="n_best"):
        answers([good], ALL, calibration=PLAIN, n_best=0)
    for wrong in (replace(good, passage=3), replace(good, passage=-1)):
        with pytest.raises(ValueError, match="of 3"):
            answers([wrong], ALL, calibration=PLAIN, n_best=1)
    for span in (Span(3, 3), Span(50, 60)):
        with pytest.raises(ValueError, match="empty or outside passage 1"):
            answers([replace(good, span=span)], ALL, calibration=PLAIN, n_best=1)
    with pytest.raises(ValueError, match="ranks count from 1"):
        answers([good], [replace(ALL[0], rank=0)], calibration=PLAIN, n_best=1)


@given(st.data())
def test_places_never_overlap_and_answers_differ(data: st.DataObject) -> None:
    held = []
    for _ in range(data.draw(st.integers(0, 12))):
        passage = data.draw(st.integers(0, 2))
        start = data.draw(st.integers(0, len(ALL[passage].passage.text) - 1))
        end = data.draw(st.integers(start + 1, min(start + 12, len(ALL[passage].passage.text))))
        held.append(SpanCandidate(passage, Span(start, end), data.draw(st.integers(-4, 4))))
    weights = replace(PLAIN, support_weight=0.5, retrieval_weight=0.2)
    found = answers(held, ALL, calibration=weights, n_best=50)
    places = [place for answer in found for place in answer.places]
    for i, one in enumerate(places):
        for two in places[i + 1 :]:
            assert one.passage.doc_id != two.passage.doc_id or not one.span.overlaps(two.span)
    assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)
    assert all(a.span.of(DOCUMENTS[a.passage.doc_id]) == a.text for a in found)
    assert bool(found) == bool(held)
    assert answers(held[::-1], ALL, calibration=weights, n_best=50) == found
