from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import settings
from odqa.models.registry import Calibration
from odqa.protocols import SpanCandidate
from odqa.reader import stages
from odqa.reader.merge import answers
from odqa.reader.stages import read_answers, read_in_stages
from odqa.types import Passage, RetrievedPassage, Span

WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty".split()


class TableReader:
    """Gives each text the scores that a table holds for it, at its words in turn; remembers what it was given."""

    name = "table"

    def __init__(self, scores: dict[str, Sequence[float]]) -> None:
        self.scores = scores
        self.calls: list[list[tuple[str, list[str]]]] = []

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        found = []
        for number, text in enumerate(passages):
            spans, at = [], 0
            for word, score in zip(text.split(), self.scores[text], strict=True):
                spans.append(SpanCandidate(number, Span(at, at + len(word)), score))
                at += len(word) + 1
            found += sorted(spans, key=lambda c: (-c.score, c.span))[:n_best]
        return sorted(found, key=lambda c: (-c.score, c.passage, c.span))

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        self.calls.append([(question, list(texts)) for question, texts in zip(questions, passages, strict=True)])
        return [self.read(q, p, n_best=n_best) for q, p in zip(questions, passages, strict=True)]

    def read_texts(self) -> list[str]:
        return [text for call in self.calls for _, texts in call for text in texts]


def passages_of(retrieval: Sequence[float], texts: Sequence[str] = WORDS) -> tuple[RetrievedPassage, ...]:
    return tuple(
        RetrievedPassage(Passage(n + 1, f"{n}.txt", "", text, Span(0, len(text)), f"/{n}.txt"), score, n + 1)
        for n, (text, score) in enumerate(zip(texts, retrieval, strict=False))
    )


def reader_of(scores: Sequence[float]) -> TableReader:
    return TableReader({word: [score] for word, score in zip(WORDS, scores, strict=False)})


PLAIN = Calibration(retrieval_weight=10.0)
STAGED = Calibration(retrieval_weight=10.0, unread_above=(12.0, 4.0))


def test_a_sure_answer_leaves_the_other_passages_unread() -> None:
    # To beat 11.0 from 0.2 below, the second passage would need 13.0, and the third more.
    reader = reader_of([11.0, 0.0, 0.0, 0.0, 0.0])
    (found,) = read_in_stages(reader, ["q"], [passages_of([1.0, 0.8, 0.7, 0.6, 0.5])], calibration=STAGED, n_best=3)
    assert reader.calls == [[("q", ["amber"])]]
    assert found == [SpanCandidate(0, Span(0, 5), 11.0)]


def test_each_passage_is_judged_by_its_own_place() -> None:
    # Needed: 8 + 1 = 9 by the second (read), 8 + 5 = 13 by the third (not read); then 8 + 6 and 8 + 7, above 4.
    reader = reader_of([8.0, 3.0, 20.0, 20.0, 20.0])
    (found,) = read_in_stages(reader, ["q"], [passages_of([1.0, 0.9, 0.5, 0.4, 0.3])], calibration=STAGED, n_best=3)
    assert reader.calls == [[("q", ["amber"])], [("q", ["birch"])]]
    assert [(c.passage, c.score) for c in found] == [(0, 8.0), (1, 3.0)]


def test_a_score_that_is_just_needed_is_read() -> None:
    reader = reader_of([11.0, 0.0])
    read_in_stages(reader, ["q"], [passages_of([1.0, 0.9])], calibration=STAGED, n_best=1)
    assert reader.read_texts() == ["amber", "birch"]  # 11 + 1 is 12, not above it


def test_an_unsure_question_has_every_passage_read_and_those_behind_the_last_stage() -> None:
    scores = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    reader = reader_of(scores)
    (found,) = read_in_stages(reader, ["q"], [passages_of([1.0] * 7)], calibration=STAGED, n_best=1)
    one_by_one = [[[word]] for word in WORDS[:4]]
    assert [[texts for _, texts in call] for call in reader.calls] == [*one_by_one, [WORDS[4:7]]]
    assert [(c.passage, c.score) for c in found] == [(n, scores[n]) for n in (6, 5, 4, 3, 2, 1, 0)]


def test_questions_share_a_stage_and_go_their_own_ways() -> None:
    reader = reader_of([20.0, -5.0, 1.0, 2.0])
    sure, unsure, nothing = passages_of([1.0, 1.0]), passages_of([1.0, 1.0], WORDS[1:]), ()
    found = read_in_stages(reader, ["a", "b", "c"], [sure, unsure, nothing], calibration=STAGED, n_best=2)
    assert reader.calls == [[("a", ["amber"]), ("b", ["birch"])], [("b", ["cedar"])]]
    assert [[(c.passage, c.score) for c in of_question] for of_question in found] == [
        [(0, 20.0)],
        [(1, 1.0), (0, -5.0)],
        [],
    ]


@pytest.mark.parametrize(("calibration", "read_all"), [(STAGED, True), (PLAIN, False), (PLAIN, True)])
def test_every_passage_is_read_in_one_go_when_asked_for_or_nothing_was_fitted(
    calibration: Calibration, read_all: bool
) -> None:
    reader = reader_of([30.0, 0.0, 0.0, 0.0, 0.0])
    row = passages_of([1.0, 0.5, 0.4, 0.3, 0.2])
    read_in_stages(reader, ["q"], [row], calibration=calibration, n_best=1, read_all=read_all)
    assert reader.calls == [[("q", WORDS[:5])]]


def test_no_questions_and_no_passages() -> None:
    reader = reader_of([])
    assert read_in_stages(reader, [], [], calibration=STAGED, n_best=1) == []
    assert read_in_stages(reader, ["q"], [()], calibration=STAGED, n_best=1) == [[]]
    assert reader.read_texts() == []


@given(
    rows=st.lists(
        st.lists(st.tuples(st.floats(0, 1), st.floats(-12, 12)), min_size=1, max_size=8), min_size=1, max_size=3
    ),
    weight=st.floats(0, 20),
    reader_weight=st.floats(0.1, 2),
)
def test_where_no_score_is_above_the_limit_the_best_answer_is_that_of_reading_everything(
    rows: list[list[tuple[float, float]]], weight: float, reader_weight: float
) -> None:
    staged = Calibration(reader_weight=reader_weight, retrieval_weight=weight, unread_above=(12.0,))
    questions, retrieved, scores = [], [], {}
    for number, row in enumerate(rows):
        ordered = sorted(row, key=lambda pair: -pair[0])
        texts = [f"{word}{number}" for word in WORDS[: len(row)]]
        scores |= {text: [score] for text, (_, score) in zip(texts, ordered, strict=True)}
        questions.append(str(number))
        retrieved.append(passages_of([retrieval for retrieval, _ in ordered], texts))
    all_read = [
        answers(
            TableReader(scores).read("", [one.passage.text for one in row], n_best=20),
            row,
            calibration=staged,
            n_best=1,
        )
        for row in retrieved
    ]
    found = read_answers(TableReader(scores), questions, retrieved, calibration=staged, n_best=1)
    # Where two scores are equal up to rounding, either may be first.
    assert [best.score for (best,) in found] == pytest.approx([best.score for (best,) in all_read])


def test_more_of_long_passages_are_read() -> None:
    word = "a" * settings.LONG_CHARACTERS
    staged = Calibration(unread_above=(4.0,), unread_above_long=(6.0,))
    for texts, read in (([word, word + "b"], 2), ([word, word[1:]], 1), (["ant", "bee"], 1)):
        reader = TableReader({texts[0]: [5.0], texts[1]: [1.0]})
        read_in_stages(reader, ["q"], [passages_of([0.9, 0.9], texts)], calibration=staged, n_best=1)
        assert len(reader.read_texts()) == read


def test_passages_that_are_not_read_count_for_the_lead() -> None:
    reader = TableReader({"ant": [3.0], "bee": [9.0]})
    retrieved = [passages_of([0.9, 0.5], ["ant", "bee"])]
    calibration = Calibration(score_coefficient=0.0, lead_coefficient=2.0)
    ((best,),) = read_answers(reader, ["q"], retrieved, calibration=calibration, n_best=5, top_k=1)
    assert (best.text, reader.read_texts()) == ("ant", ["ant"])
    assert best.probability == pytest.approx(1 / (1 + math.exp(-0.8)))


LONG = " ".join(["Nothing of interest happened there on that long day."] * 30)
TELLING = "The lighthouse of Skarn was built by Olaf."


class OlafReader:
    """Finds Olaf, the surer the earlier the passage; remembers what it was given."""

    name = "olaf"

    def __init__(self) -> None:
        self.given: list[str] = []

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        self.given += passages
        places = [(n, text.find("Olaf")) for n, text in enumerate(passages)]
        return [SpanCandidate(n, Span(at, at + 4), -1.0 - n) for n, at in places if at >= 0]

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        return [self.read(q, p, n_best=n_best) for q, p in zip(questions, passages, strict=True)]


def test_later_passages_are_read_in_part_and_spans_count_from_their_start() -> None:
    reader, text = OlafReader(), f"{LONG} {TELLING} {LONG}"
    question, row = "Who built the lighthouse of Skarn?", passages_of([1.0, 0.9, 0.8, 0.7], [text, "Olaf.", text, text])
    (found,) = read_in_stages(reader, [question], [row], calibration=STAGED, n_best=1)
    at = text.index("Olaf")
    assert found == [
        SpanCandidate(0, Span(at, at + 4), -1.0),
        SpanCandidate(1, Span(0, 4), -1.0),
        SpanCandidate(2, Span(at, at + 4), -1.0),
        SpanCandidate(3, Span(at, at + 4), -1.0),
    ]
    whole, short, *parts = reader.given
    assert (whole, short) == (text, "Olaf.")
    assert len(parts) == 2
    for part in parts:
        assert TELLING in part
        assert len(part) <= min(settings.FOCUS_MOST_CHARACTERS, settings.FOCUS_SHARE * len(text))


def test_less_is_read_of_the_last_passages_and_more_of_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def focus(_question: str, text: str, *, characters: int) -> Span:
        asked.append(characters)
        return Span(0, min(characters, len(text)))

    monkeypatch.setattr(stages, "focus", focus)
    monkeypatch.setattr(settings, "FOCUS_CHARACTERS", (500, 400))
    monkeypatch.setattr(settings, "FOCUS_SHARE", 0.75)
    monkeypatch.setattr(settings, "FOCUS_MOST_CHARACTERS", 1000)
    texts = ["a" * length for length in (9, 600, 1200, 500, 4000)]
    row = passages_of([1.0, 0.99, 0.98, 0.97, 0.96], texts)
    reader = OlafReader()
    read_in_stages(reader, ["q"], [row], calibration=STAGED, n_best=1)
    assert asked == [500, 900, 400, 1000]
    assert [len(text) for text in reader.given] == [9, 500, 900, 400, 1000]


def test_with_read_all_every_passage_is_read_whole() -> None:
    reader, text = OlafReader(), f"{LONG} {TELLING} {LONG}"
    row = passages_of([1.0, 0.9], [text, text])
    read_in_stages(reader, ["Who built Skarn?"], [row], calibration=STAGED, n_best=1, read_all=True)
    assert reader.given == [text, text]
