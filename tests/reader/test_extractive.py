from __future__ import annotations

from pathlib import Path

import pytest
import small_networks
from small_networks import expected_logits

from odqa import settings
from odqa.errors import ModelError, UnknownModelError
from odqa.models.runtime import Row
from odqa.protocols import Reader, SpanCandidate
from odqa.reader import extractive
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.types import Span

LONG = "the cat sat on mat " * 30 + "paris tower 2000x7 cafe\u0301s 中中 " + "where the mat sat " * 60
PASSAGES = ["The cats sat. ", "", "paris [SEP] tower!", LONG, " \n", "The cats sat. "]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ExtractiveReader:
    root = tmp_path_factory.mktemp("models")
    return ExtractiveReader(small_networks.reader_spec(root), environment={"ODQA_MODELS_DIR": str(root)})


def test_warming_up_changes_nothing(reader: ExtractiveReader) -> None:
    asked = ("Who keeps the lamp?", ["Mara keeps the lamp. Olaf sleeps."])
    before = reader.read(*asked, n_best=3)
    reader.warm_up()
    assert reader.read(*asked, n_best=3) == before != []


def by_definition(reader: ExtractiveReader, question: str, passage: str) -> dict[Span, float]:
    """Return every span of whole words with its best score over all windows, found without the code under test."""
    tokenizer = reader._tokenizer
    asked, encoding = tokenizer.encode(question).ids[:8], tokenizer.encode(passage)
    room = 160 - len(asked) - 3
    best: dict[Span, float] = {}
    tokens = len(encoding.ids)
    first = 0
    while tokens:
        part = encoding.ids[first : first + room]
        head = [tokenizer.cls_id, *asked, tokenizer.sep_id]
        start, end = expected_logits([*head, *part, tokenizer.sep_id], [0] * len(head) + [1] * (len(part) + 1))
        for i in range(first, first + len(part)):
            for j in range(i, min(i + settings.ANSWER_TOKENS, first + len(part))):
                left, right = i, j
                while left and tokenizer.continues[encoding.ids[left]]:
                    left -= 1
                while right + 1 < tokens and tokenizer.continues[encoding.ids[right + 1]]:
                    right += 1
                at_start, at_end = len(head) + i - first, len(head) + j - first
                score = float(start[at_start]) + float(end[at_end]) - float(start[0]) - float(end[0])
                span = Span(encoding.offsets[left][0], encoding.offsets[right][1])
                if span.of(passage).count("[") != span.of(passage).count("]"):  # whole brackets, if they are next to it
                    opens, closes = passage[: span.start].endswith("["), passage[span.end :].startswith("]")
                    span = Span(span.start - opens, span.end + closes)
                best[span] = max(score, best.get(span, score))
        if first + room >= tokens:
            break
        first += room - settings.DOC_STRIDE_TOKENS
    return best


@pytest.mark.parametrize("question", ["who", "Where? " * 20])
@pytest.mark.parametrize("n_best", [1, 7, 40])
def test_candidates_are_those_of_the_definition(reader: ExtractiveReader, question: str, n_best: int) -> None:
    found = reader.read(question, PASSAGES, n_best=n_best)
    assert found == sorted(found, key=lambda c: (-c.score, c.passage, c.span))
    for number, text in enumerate(PASSAGES):
        mine = [c for c in found if c.passage == number]
        wanted = by_definition(reader, question, text)
        scores = sorted(wanted.values(), reverse=True)[:n_best]
        assert len({c.span for c in mine}) == len(mine)
        assert [c.score for c in mine] == pytest.approx(scores, abs=1e-5)
        assert all(c.score == pytest.approx(wanted[c.span], abs=1e-5) for c in mine)
        for candidate in mine:
            cut = candidate.span.of(text)
            assert cut
            assert cut == cut.strip()
    assert not [c for c in found if not PASSAGES[c.passage].strip()]


def test_spans_never_cut_words(reader: ExtractiveReader) -> None:
    found = {c.span.of(LONG) for c in reader.read("who", [LONG], n_best=20_000) if c.passage == 0}
    assert {"2000x7", "cafe\u0301s", "中", "中中", "2000x7 cafe\u0301s"} <= found
    assert not {"2000", "2000x", "cafe\u0301", "cafe", "x7"} & found


def test_spans_never_cut_names_and_numbers_with_signs(reader: ExtractiveReader) -> None:
    text = "paris.cat sat on 2,000 mat/tower"
    found = {c.span.of(text) for c in reader.read("who", [text], n_best=99)}
    assert {"paris.cat", "2,000", "mat/tower", "on 2,000 mat/tower"} <= found
    assert not {one for one in found if one.startswith((".", "cat", ",", "000", "/", "tower"))}
    assert not {one for one in found if one.endswith((".", "paris", ",", " 2", "/", "mat"))}


@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\n \t\n"])
def test_no_answer_crosses_a_blank_line(reader: ExtractiveReader, gap: str) -> None:
    found = {c.span.of(f"the cat{gap}sat on\nmat") for c in reader.read("who", [f"the cat{gap}sat on\nmat"], n_best=99)}
    assert found == {"the", "the cat", "cat", "sat", "sat on", "sat on\nmat", "on", "on\nmat", "mat"}


def every_span(reader: ExtractiveReader, text: str) -> set[str]:
    return {c.span.of(text) for c in reader.read("who", [text], n_best=999)}


def test_an_answer_keeps_to_its_cell_and_to_its_brackets(reader: ExtractiveReader) -> None:
    """The rules are those of `odqa.reader.bounds`, with tests of their own."""
    found = every_span(reader, "the | cat\nsat | on")
    assert {"the", "cat", "sat", "on"} <= found
    assert not {one for one in found if "|" in one}
    assert "cat the | sat on" in every_span(reader, "cat the | sat on")
    found = every_span(reader, "the cat (sat) on")
    assert {"cat (sat)", "the", "cat", "sat"} <= found
    assert "cat (sat" not in found
    assert {"the cat (sat", "on) mat"} <= every_span(reader, "the cat (sat on) mat")


def test_several_questions_at_once_are_each_as_alone(reader: ExtractiveReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractive, "SLICE_QUESTIONS", 2)
    questions = ["who", "where", "the cat?", "who", "on mat"]
    passages = [PASSAGES[i:] for i in range(4)] + [[]]
    found = reader.read_many(questions, passages, n_best=3)
    assert found == [reader.read(q, p, n_best=3) for q, p in zip(questions, passages, strict=True)]
    assert found[4] == []
    assert reader.read_many([], [], n_best=1) == []


def test_equal_passages_give_equal_candidates(reader: ExtractiveReader) -> None:
    found = reader.read("who", PASSAGES, n_best=4)
    one, two = ([SpanCandidate(0, c.span, c.score) for c in found if c.passage == n] for n in (0, 5))
    assert one == two


def test_wrong_arguments(reader: ExtractiveReader) -> None:
    for question in ("", "  ", "\u200b"):
        with pytest.raises(ValueError, match="has no words"):
            reader.read(question, ["the cat"], n_best=1)
    with pytest.raises(ValueError, match="lone surrogate"):
        reader.read("who \ud800", ["the cat"], n_best=1)
    with pytest.raises(ValueError, match="n_best"):
        reader.read("who", ["the cat"], n_best=0)
    with pytest.raises(ValueError, match="2 for 1"):
        reader.read_many(["who"], [["a"], ["b"]], n_best=1)


def test_name_entry_and_protocol(reader: ExtractiveReader) -> None:
    held: Reader = reader
    assert held.name == "small-reader"
    assert reader.spec.calibration.threshold == 0.5


def test_windows_of_all_passages_share_batches(reader: ExtractiveReader, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[Row]] = []
    real = reader._network.logits
    monkeypatch.setattr(reader._network, "logits", lambda rows: calls.append(rows) or real(rows))
    reader.read_many(["who", "where"], [PASSAGES, PASSAGES], n_best=1)
    assert len(calls) == 1


def test_models_that_cannot_be_loaded() -> None:
    with pytest.raises(UnknownModelError, match="no model is named"):
        load_reader("bart")
    with pytest.raises(ModelError, match="is an encoder"):
        load_reader(settings.DEFAULT_ENCODER)


def test_a_reader_from_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_networks.reader_spec(tmp_path)
    monkeypatch.setenv("ODQA_MODELS_DIR", str(tmp_path))
    assert ExtractiveReader(spec).read("who", ["the cat"], n_best=1)
