from __future__ import annotations

import time
from pathlib import Path

import pytest
import small_networks
from hypothesis import given
from hypothesis import strategies as st

from odqa import settings
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.reader.tables import LEAST_ROWS, LONGEST_CELL, as_sentences

PLANS = """# Price list

| Plan | Users | Price |
|---|:-:|---|
| Starter | 3 | 9 EUR |
| Team | 15 | 39 EUR |

Without VAT."""
PLANS_READ = """# Price list

Plan, Users, Price:
Plan Starter has Users 3, Price 9 EUR.
Plan Team has Users 15, Price 39 EUR.


Without VAT."""


def read(text: str) -> str | None:
    """Return what is read in the place of a text, having seen that what is said to be copied is."""
    reading = as_sentences(text)
    if reading is None:
        return None
    for start, place, length in reading.copied:
        assert length > 0
        assert reading.text[start : start + length] == text[place : place + length]
    ends = [(start + length, place + length) for start, place, length in reading.copied]
    for (end, behind), (start, place, _) in zip(ends, reading.copied[1:], strict=False):
        assert end <= start and behind <= place
    return reading.text


def test_rows_become_sentences_that_name_their_columns() -> None:
    assert read(PLANS) == PLANS_READ


def test_rows_of_cells_are_read_alike() -> None:
    """As HTML and DOCX are indexed: without bars at the ends, and without a rule."""
    plain = "\n".join(line.strip("| ") for line in PLANS.split("\n") if "--" not in line)
    assert read(plain) == PLANS_READ


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Weight | 3 kg\nHeight | 4 m\nColour | red", "Weight is 3 kg.\nHeight is 4 m.\nColour is red.\n"),
        ("a | b\n--- | ---\nc | d", "a, b:\na c has b d.\n"),
        ("x\na | b | c\nd | e | f\n", "x\na, b, c:\na d has b e, c f.\n\n"),  # the beginning is in sight
        ("a | b | c\nd | 5 | f", "a, b, c:\na d has b 5, c f.\n"),  # it is not, but words stand above numbers
        ("a | 4 | c\nd | 5 | f\ng | 6 | i", "a is 4, c.\nd is 5, f.\ng is 6, i.\n"),
        ("|  |  |\n|---|---|\n| Born | 1871 |", ", :\nBorn is 1871.\n"),
        ("| a | b | c |\n|---|---|---|\n| d |  | f |\n|  | e |  |", "a, b, c:\na d has c f.\na  has b e.\n"),
        ("|a | b|\n|--|--|\n|c | d|", "a, b:\na c has b d.\n"),
    ],
)
def test_forms_of_tables(text: str, expected: str) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "No table.",
        "cat words | sort\nuniq -c | head",  # commands
        "a || b\nc || d\ne || f",
        "a | b\n\nc | d\n\ne | f",  # lines apart
        "a | b | c\nd | e\nf | g | h",
        "\n".join(["x " * LONGEST_CELL + "| y"] * LEAST_ROWS),  # text in columns
        "| a long name of a column | and another one |\n|---|---|\n" + "| 1 | 2 |\n" * 40,  # three times as long
        "|---|\n|---|",
        "|",
        "",
    ],
)
def test_what_is_no_table_is_read_as_it_stands(text: str) -> None:
    assert as_sentences(text) is None


CELLS = st.text(st.sampled_from("ab1 .:-é"), max_size=8)


@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "x\n", "x\n\n"]),
    st.sampled_from(["", "\n\nx", "\nx | y"]),
)
def test_nothing_of_a_text_is_lost(rows: list[list[str]], bars: bool, rule: bool, before: str, after: str) -> None:
    lines = [" | ".join(row) for row in rows]
    if bars:
        lines = [f"| {line} |" for line in lines]
    if rule:
        lines.insert(1, "|---|---|")
    text = before + "\n".join(lines) + after
    reading = as_sentences(text)
    if reading is None:
        return
    read(text)
    left = list(text)
    for _, place, length in reading.copied:
        left[place : place + length] = " " * length
    assert all(set(line) <= set("|:- \n") for line in "".join(left).split("\n"))


def test_tokens_of_cells_stand_where_the_cells_do() -> None:
    reading = as_sentences(PLANS)
    assert reading is not None
    offsets = [(i, i + 1) for i in range(len(reading.text))]
    places, put_in = reading.placed(offsets)
    assert places == sorted(places)
    for (start, end), (first, last), new in zip(offsets, places, put_in.tolist(), strict=True):
        assert new or reading.text[start:end] == PLANS[first:last]
    assert {PLANS[start:end] for (start, end), new in zip(places, put_in.tolist(), strict=True) if new} == {""}
    copied = "".join(PLANS[start:end] for start, end in places)
    assert copied.split() == ["#", "Price", "list", "PlanUsersPriceStarter39", "EURTeam1539", "EUR", "Without", "VAT."]


@pytest.mark.parametrize(
    "piece", ["a | b | c\n", "|", "| ", "-", "|---|\n", " ", "|\n", "a | 1 | c\n\n", "\na | b\n---|---\nc | d\n"]
)
@pytest.mark.parametrize("end", ["", "|"])
def test_long_texts_take_a_moment(piece: str, end: str) -> None:
    text = piece * (60_000 // len(piece)) + end
    began = time.thread_time()
    as_sentences(text)
    assert time.thread_time() - began < 5  # tenths of a second


# ---- with readers --------------------------------------------------------------------------------------------------


def test_answers_stand_in_one_cell_and_are_no_words_that_were_put_in(tmp_path: Path) -> None:
    reader = ExtractiveReader(small_networks.reader_spec(tmp_path), environment={"ODQA_MODELS_DIR": str(tmp_path)})
    text = "sat:\n\n| the | cat on |\n|---|---|\n| mat | paris tower |\n| who | where |\n\nthe end"
    found = [c.span for c in reader.read("who", [text], n_best=999)]
    cells = {"the", "cat on", "cat", "on", "mat", "paris tower", "paris", "tower", "who", "where"}
    prose = {"sat", "sat:", ":", "the end", "end"}
    assert {span.of(text) for span in found} == cells | prose
    assert len(found) == len(set(found)) == len(cells | prose) + 1  # "the" stands there twice
    omz = reader.read_as_omz(["who"], [[text]])[0]  # as the reference reads it, which knows no tables
    assert all(span.span.end <= len(text) for span in omz)


@pytest.fixture(scope="module")
def bundled() -> ExtractiveReader:
    return load_reader(settings.DEFAULT_READER)


BIRDS = """Seabirds

Species | Wingspan | Eggs | Weight
Herring gull | 138 to 155 cm | 2 to 4 | 800 to 1,250 g
Puffin | 47 to 63 cm | 1 | 320 to 480 g
Kittiwake | 91 to 105 cm | 1 to 3 | 305 to 525 g"""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the wingspan of the puffin?", "47 to 63 cm"),
        ("How many eggs does a herring gull lay?", "2 to 4"),
        ("What is the wingspan of a herring gull?", "138 to 155 cm"),
        ("How much does a puffin weigh?", "320 to 480 g"),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
def test_a_cell_is_found_by_its_row_and_column(
    bundled: ExtractiveReader, question: str, answer: str, marked: bool
) -> None:
    text = BIRDS
    if marked:
        title, blank, first, *others = BIRDS.split("\n")
        text = "\n".join([title, blank, f"| {first} |", "|---|---|---|---|", *(f"| {row} |" for row in others)])
    assert bundled.read(question, [text], n_best=1)[0].span.of(text) == answer
