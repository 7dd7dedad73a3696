"""The sample corpus: every file can be read, every gold answer stands where it is said to, and the files rebuild."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from odqa.ingest.loaders import Record, read_records
from odqa.ingest.sources import SourceFile, discover
from odqa.types import Document

DATA = Path(__file__).resolve().parent.parent / "data"
CORPUS = DATA / "corpus"
KEYS = {"id", "question", "answers", "doc", "record", "page", "heading"}


@dataclass(frozen=True)
class Gold:
    """A line of questions.jsonl."""

    id: str
    question: str
    answers: tuple[str, ...]
    doc: str = ""
    record: str = ""
    page: int | None = None
    heading: str | None = None


def read_gold() -> list[Gold]:
    lines = (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        assert set(row) <= KEYS, row
    return [Gold(**{**row, "answers": tuple(row["answers"])}) for row in rows]


GOLD = read_gold()
ANSWERED = [gold for gold in GOLD if gold.answers]


@pytest.fixture(scope="module")
def documents() -> dict[tuple[str, str], Document]:
    """Every document of the corpus, by (path below the corpus, record); nothing may be skipped."""
    found = {}
    for source in discover([CORPUS]):
        assert isinstance(source, SourceFile), source
        for record in read_records(source):
            assert isinstance(record, Record), record
            document = record.load()
            found[source.relative, document.record] = document
    return found


@pytest.fixture(scope="module")
def make_corpus() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_corpus", DATA / "make_corpus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


def test_corpus_has_enough_documents_in_all_six_formats(documents: dict[tuple[str, str], Document]) -> None:
    files = {path for path, _ in documents}
    assert len(files) >= 20
    suffixes = {path.partition(".jsonl.gz")[1] or Path(path).suffix for path in files}
    assert suffixes == {".txt", ".md", ".html", ".pdf", ".docx", ".jsonl", ".jsonl.gz"}
    assert files == {path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file()}


def test_no_word_of_any_encoding_is_lost(documents: dict[tuple[str, str], Document]) -> None:
    expected = {
        "town/lantern-festival.txt": ("René Béchard", "“Zur goldenen Möwe” in the Große Gasse", "Søren Ålund", "4 €"),
        "town/twin-towns.txt": ("«Кто спас одного, спас весь берег»", "水崎市", "森本健二", "「海はひとつ」"),
        "people/eleni-kouri.txt": ("Ελένη Κουρή", "«Η θάλασσα δεν βιάζεται»"),
        "people/lucja-wronska.md": ("Łucja Wrońska", "Łódź"),
        "sea/skarn-rock-lighthouse.html": ("Matthias Groß", "Tessøy"),
        "sea/merran-ferries.pdf": ("Edvard and Nils Aaløv", "Tessøy"),
        "guides/orrel-cheese.docx": ("Gustav Ødegaard",),
    }
    for path, words in expected.items():
        text = documents[path, ""].text
        assert [word for word in words if word not in text] == [], path


def test_titles_and_metadata_are_read(documents: dict[tuple[str, str], Document]) -> None:
    assert documents["sea/merran-ferries.pdf", ""].title == "Merran Ferries: handbook for passengers"
    assert documents["guides/orrel-cheese.docx", ""].title == "Cheeses of the Orrel Plateau"
    assert documents["people/ingrid-saether.html", ""].title == "Ingrid Sæther"
    assert documents["company/tidewatch-4.1.md", ""].title == "Tidewatch 4.1: release notes"
    halcyon = documents["archive/shipwrecks.jsonl.gz", "halcyon"]
    assert halcyon.title == "Halcyon, tea clipper"
    assert (halcyon.metadata["year"], halcyon.metadata["category"]) == (1869, "sail")


def test_questions_are_enough_and_their_ids_unique() -> None:
    assert len(ANSWERED) >= 60
    assert len(GOLD) - len(ANSWERED) >= 10
    for counted in (Counter(gold.id for gold in GOLD), Counter(gold.question.lower() for gold in GOLD)):
        assert [key for key, count in counted.items() if count > 1] == []
    assert all(gold.question.strip() == gold.question != "" for gold in GOLD)


def test_unanswered_questions_name_no_place() -> None:
    for gold in GOLD:
        if not gold.answers:
            assert (gold.doc, gold.record, gold.page, gold.heading) == ("", "", None, None), gold


def test_every_document_file_is_asked_about(documents: dict[tuple[str, str], Document]) -> None:
    assert {path for path, _ in documents} == {gold.doc for gold in ANSWERED}


@pytest.mark.parametrize("gold", ANSWERED, ids=lambda gold: gold.id)
def test_gold_answers_stand_in_their_document(gold: Gold, documents: dict[tuple[str, str], Document]) -> None:
    document = documents[gold.doc, gold.record]
    assert len(set(gold.answers)) == len(gold.answers)
    for answer in gold.answers:
        assert answer.strip() == answer != ""
        assert answer in document.text
    if document.sections:
        assert gold.page is not None or gold.heading is not None, "the document has sections: name page or heading"
        named = [
            s.span.of(document.text) for s in document.sections if (s.page, s.heading) == (gold.page, gold.heading)
        ]
        assert len(named) == 1
        assert [answer for answer in gold.answers if answer not in named[0]] == []
    else:
        assert (gold.page, gold.heading) == (None, None)


def test_rebuilding_gives_the_same_bytes(make_corpus: ModuleType) -> None:
    built = make_corpus.build()
    assert len(built) == len(make_corpus.TARGETS)
    assert [target for target, content in built.items() if (CORPUS / target).read_bytes() != content] == []


def test_every_file_that_is_not_plain_utf8_has_a_source(make_corpus: ModuleType) -> None:
    targets = {target for target, _ in make_corpus.TARGETS.values()}
    sources = {path.relative_to(make_corpus.SOURCES).as_posix() for path in make_corpus.SOURCES.rglob("*.*")}
    assert sources == set(make_corpus.TARGETS)
    for path in CORPUS.rglob("*.*"):
        name = path.relative_to(CORPUS).as_posix()
        if name not in targets:
            content = path.read_bytes()
            assert b"\r" not in content and b"\0" not in content, name
            content.decode("utf-8")


def test_pdf_sources_refuse_what_cannot_be_set(make_corpus: ModuleType) -> None:
    with pytest.raises(ValueError, match="does not begin with a title"):
        make_corpus.make_pdf("Only words.")
    with pytest.raises(ValueError, match="a table cannot be set"):
        make_corpus.make_pdf("# Title\n\n| a | b |")
    with pytest.raises(ValueError, match="page 1 is too full"):
        make_corpus.make_pdf("# Title\n\n" + "word " * 3000)
    with pytest.raises(UnicodeEncodeError):
        make_corpus.make_pdf("# Łódź")
