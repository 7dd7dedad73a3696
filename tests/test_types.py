from __future__ import annotations

import dataclasses

import pytest

from odqa.types import Answer, CheckReport, Passage, Place, Problem, Section, Span

TEXT = "Ab\u0301 中文 🙂 end"


def test_a_span_counts_code_points() -> None:
    span = Span(4, 6)
    assert span.of(TEXT) == "中文"
    assert len(span) == 2
    assert Span(7, 8).of(TEXT) == "🙂"
    assert Span(0, len(TEXT)).of(TEXT) == TEXT
    assert Span(3, 3).of(TEXT) == ""


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (-3, -1)])
def test_a_span_that_cannot_be_cut_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=rf"not a span: \[{start}, {end}\)"):
        Span(start, end)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [((0, 3), (2, 5), True), ((0, 3), (3, 5), False), ((1, 4), (2, 3), True), ((2, 2), (0, 5), True)],
)
def test_overlap(one: tuple[int, int], other: tuple[int, int], shared: bool) -> None:
    assert Span(*one).overlaps(Span(*other)) is shared
    assert Span(*other).overlaps(Span(*one)) is shared


def test_spans_are_in_the_order_of_the_text() -> None:
    assert sorted([Span(5, 6), Span(0, 9), Span(0, 2)]) == [Span(0, 2), Span(0, 9), Span(5, 6)]


def passage() -> Passage:
    sections = (Section(Span(10, 20), heading="One"), Section(Span(20, 40), page=3, heading="Two"))
    return Passage(1, "doc", "Title", "x" * 32, Span(8, 40), "/doc.md", sections)


@pytest.mark.parametrize(
    ("position", "heading", "page"), [(9, None, None), (10, "One", None), (19, "One", None), (20, "Two", 3)]
)
def test_a_place_knows_its_page_and_heading(position: int, heading: str | None, page: int | None) -> None:
    place = Place(passage(), Span(position, position + 1))
    assert (place.heading, place.page) == (heading, page)
    answer = Answer("x", place.span, place.passage, score=1.0, probability=0.5, places=(place,))
    assert (answer.heading, answer.page) == (heading, page)


def test_a_position_after_the_last_section_is_in_none() -> None:
    assert passage().section_at(40) is None


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        passage().text = "y"  # type: ignore[misc]


@pytest.mark.parametrize(("mended", "clean"), [((), True), ((True, True), True), ((True, False), False)])
def test_a_report_is_clean_when_all_is_mended(mended: tuple[bool, ...], clean: bool) -> None:
    report = CheckReport(tuple(Problem("kind", "detail", mended=one) for one in mended), documents=1, passages=2)
    assert report.clean is clean
