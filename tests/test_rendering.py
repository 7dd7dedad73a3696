import io
from dataclasses import replace
from pathlib import Path

import pytest

from odqa import rendering
from odqa.rendering import Screen
from odqa.types import (
    Answer,
    IndexProgress,
    IndexReport,
    Passage,
    Place,
    QueryResult,
    RetrievedPassage,
    Section,
    SkippedFile,
    Span,
)

TEXT = "The Town Hall was built in 1868.\nIt was designed by Odile Marchetti, \x1b[31man architect."
HALL = Passage(
    passage_id=7,
    doc_id="town/hall.md",
    title="Town Hall",
    text=TEXT,
    span=Span(100, 100 + len(TEXT)),
    source="/data/town/hall.md",
    sections=(Section(Span(90, 500), heading="Buildings"),),
)
GULL = Passage(8, "birds.jsonl#gull", "Gull", "Gulls of 1868.", Span(0, 14), "/data/birds.jsonl")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)


def answer(passage: Passage, text: str, probability: float, *others: Place) -> Answer:
    start = passage.span.start + passage.text.index(text)
    span = Span(start, start + len(text))
    return Answer(text, span, passage, 1.0, probability, (Place(passage, span), *others))


def result(*, found: bool, answers: tuple[Answer, ...]) -> QueryResult:
    passages = (RetrievedPassage(HALL, 0.5, 1), RetrievedPassage(GULL, 0.4, 2))
    return QueryResult("Who?", answers[0] if found else None, answers, passages, 0.1)


ANSWERS = (answer(HALL, "Odile Marchetti", 0.934), answer(GULL, "1868", 0.02))


def test_answer_with_its_place_and_passage() -> None:
    out = io.StringIO()
    rendering.show_query(result(found=True, answers=ANSWERS), Screen(out))
    assert out.getvalue().splitlines() == [
        "Odile Marchetti",
        '  /data/town/hall.md, under "Buildings", characters [152, 167), probability 0.93',
        "",
        "  The Town Hall was built in 1868. It was designed by >>Odile Marchetti<<, \\x1b[31man architect.",
        "",
        "Other answers",
        "  1868  probability 0.02",
        "    /data/birds.jsonl, characters [9, 13), document birds.jsonl#gull",
    ]


def test_no_answer_gives_the_nearest_candidate() -> None:
    out = io.StringIO()
    rendering.show_query(result(found=False, answers=ANSWERS), Screen(out))
    lines = out.getvalue().splitlines()
    assert lines[0] == "No answer: the documents do not say."
    assert lines[1] == "Nearest candidate, not probable enough: Odile Marchetti"
    assert "Other answers" not in lines


def test_no_passage_says_so() -> None:
    out = io.StringIO()
    rendering.show_query(QueryResult("Who?", None, (), (), 0.1), Screen(out))
    assert out.getvalue().startswith("No answer: the documents do not say.\nNo passage was found")


def test_further_places_are_listed_and_shortened() -> None:
    places = tuple(Place(GULL, Span(at, at + 1)) for at in range(5))
    out = io.StringIO()
    rendering.show_query(result(found=True, answers=(answer(HALL, "1868", 0.9, *places),)), Screen(out))
    lines = out.getvalue().splitlines()
    at = lines.index("  Also found at")
    assert lines[at + 1] == "    /data/birds.jsonl, characters [0, 1), document birds.jsonl#gull"
    assert lines[at + 4 :] == ["    … and 2 more places (--json lists all)"]


def test_a_long_passage_is_cut_at_blanks_around_the_answer() -> None:
    words = " ".join(f"word{n}" for n in range(200))
    passage = Passage(1, "a.txt", "A", words, Span(0, len(words)), "/a.txt")
    out = io.StringIO()
    rendering.show_query(result(found=True, answers=(answer(passage, "word100", 0.9),)), Screen(out))
    shown = out.getvalue().splitlines()[3].strip()
    before, found, after = shown.partition(">>word100<<")
    assert found
    assert before.startswith("… ")
    assert after.endswith(" …")
    assert set(before.split()) - {"…"} <= set(words.split())
    assert set(after.split()) - {"…"} <= set(words.split())
    assert 200 < len(before) <= rendering.WINDOW + 2
    assert 200 < len(after) <= rendering.WINDOW + 2


def test_a_terminal_gets_colours_and_wrapped_lines_but_no_foreign_escapes() -> None:
    out = Terminal()
    rendering.show_query(result(found=True, answers=ANSWERS), Screen(out))
    shown = out.getvalue()
    assert "\x1b[1;32mOdile Marchetti\x1b[0m" in shown
    assert ">>" not in shown
    assert "\x1b[31m" not in shown
    assert "\\x1b[31m" in shown.replace("\n", "")
    plain = shown.replace("\x1b[1;32m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")
    assert max(map(len, plain.splitlines())) <= 60


def test_no_color_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    rendering.show_query(result(found=True, answers=ANSWERS), Screen(out))
    assert "\x1b[1mOdile Marchetti\x1b[0m" in out.getvalue()
    assert "32m" not in out.getvalue()
    out = Terminal()
    monkeypatch.setenv("TERM", "dumb")
    rendering.show_query(result(found=True, answers=ANSWERS), Screen(out))
    assert "\x1b" not in out.getvalue()
    assert ">>Odile Marchetti<<" in out.getvalue()


def test_markup_in_documents_is_only_text() -> None:
    out = Terminal()
    Screen(out).line("[bold]a[/bold] :smile: [link=x]", ("[red]", "bold"))
    assert "[bold]a[/bold] :smile: [link=x]" in out.getvalue()
    assert "[red]" in out.getvalue()


def test_page_and_relative_path(tmp_path: Path) -> None:
    source = (tmp_path / "manual.pdf").as_posix()
    passage = Passage(1, "manual.pdf", "M", "abc", Span(5, 8), source, (Section(Span(0, 9), page=3),))
    assert rendering.place_text(passage, 5, 8) == "manual.pdf, page 3, characters [5, 8)"


def report(count: int) -> IndexReport:
    skipped = tuple(SkippedFile(f"/in/{n}.png", "unsupported\nfile type") for n in range(count))
    return IndexReport(("a", "b"), ("c",), 4, ("gone.txt",), (), skipped, 50, 2.5)


def test_report_lists_everything_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    rendering.show_report(report(12), Screen(out), index_dir=Path("ix"))
    lines = out.getvalue().splitlines()
    assert lines[:5] == [
        "Documents: 2 added, 1 updated, 4 unchanged, 1 vanished, 0 pruned, 12 skipped",
        "Passages: 50 in 2.5 s (20.0 passages/s)",
        "Index: ix",
        "Vanished; still in the index, --prune removes them:",
        "  gone.txt",
    ]
    assert lines[5:] == ["Skipped:", *(f"  /in/{n}.png: unsupported file type" for n in range(12))]


def test_files_that_were_read_in_part_are_named() -> None:
    out = io.StringIO()
    halves = (SkippedFile("/in/a.pdf", "page 2 cannot be\nread\x1b[2J"),)
    rendering.show_report(replace(report(0), partial=halves), Screen(out), index_dir=Path("ix"))
    assert out.getvalue().splitlines()[-2:] == ["Read in part:", r"  /in/a.pdf: page 2 cannot be read\x1b[2J"]


def test_report_is_shortened_on_a_terminal() -> None:
    out = Terminal()
    rendering.show_report(report(12), Screen(out), index_dir=Path("ix"))
    assert "/in/9.png" in out.getvalue()
    assert "/in/10.png" not in out.getvalue()
    assert "… and 2 more (--json lists all)" in out.getvalue()


def test_progress_text() -> None:
    shown = rendering.progress_text(IndexProgress(3, 120, 250, 1000, "/in/a.txt"), 60.0)
    assert shown == "3 documents, 120 passages (2.0/s), 0:03:00 left, a.txt"
    assert (
        rendering.progress_text(IndexProgress(0, 0, 0, 0, "/in/a.txt"), 0.0) == "0 documents, 0 passages (0.0/s), a.txt"
    )


def test_progress_without_a_terminal_is_a_line_every_ten_seconds() -> None:
    now = [0.0]
    out = io.StringIO()
    with rendering.index_progress(out, clock=lambda: now[0]) as progress:
        for count, seconds in enumerate((3.0, 9.9, 10.0, 15.0, 20.1)):
            now[0] = seconds
            progress(IndexProgress(count, 10, 50, 100, "/in/\x1b[2Ja.txt"))
    assert out.getvalue().splitlines() == [
        "odqa: 2 documents, 10 passages (1.0/s), 0:00:10 left, \\x1b[2Ja.txt",
        "odqa: 4 documents, 10 passages (0.5/s), 0:00:20 left, \\x1b[2Ja.txt",
    ]


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    with rendering.index_progress(out) as progress:
        progress(IndexProgress(1, 10, 50, 100, "/in/[red]\x1b[31ma.txt"))
    assert "50 %" in out.getvalue()
    assert "1 documents, 10 passages" in out.getvalue()
    assert "[red]\\x1b[31ma.txt" in out.getvalue()
    assert "\x1b[31ma" not in out.getvalue()


@pytest.mark.parametrize(("size", "shown"), [(999, "999 bytes"), (1000, "1.0 kB"), (23_938_467, "23.9 MB")])
def test_size_text(size: int, shown: str) -> None:
    assert rendering.size_text(size) == shown
