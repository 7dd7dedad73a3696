import hashlib
import os
import sys
from pathlib import Path

import pytest
from ingest_files import load_file, pdf_bytes, reason_of, write_file

from odqa.errors import IngestError
from odqa.ingest.loaders import Record, read_records
from odqa.types import Document, SkippedFile


def test_a_text_file_stays_as_it_is(tmp_path: Path) -> None:
    content = "First line.\r\nSecond:\tline.\r\n\r\nEnd\n"
    source = write_file(tmp_path, "corpus/my_first-note.TXT", content)
    [record] = read_records(source)
    assert isinstance(record, Record)
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert (record.source, record.record, record.content_hash) == (source, "", digest)
    assert record.load() == Document(
        doc_id="corpus/my_first-note.TXT",
        title="my first note",
        text=content,
        source=(tmp_path / "corpus" / "my_first-note.TXT").resolve().as_posix(),
        suffix=".txt",
        modified=source.modified,
        content_hash=digest,
    )


def test_parsing_waits_for_load_and_parses_the_bytes_that_were_hashed(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.txt", b"\0 not text")
    [record] = read_records(source)
    assert isinstance(record, Record)
    with pytest.raises(IngestError, match="NUL"):
        record.load()
    source = write_file(tmp_path, "b.txt", b"before")
    [record] = read_records(source)
    source.path.write_bytes(b"after")
    assert isinstance(record, Record)
    assert record.load().text == "before"
    assert record.content_hash == hashlib.sha256(b"before").hexdigest()


@pytest.mark.parametrize("suffix", [".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml"])
def test_blank_files_hold_no_text(tmp_path: Path, suffix: str) -> None:
    assert reason_of(tmp_path, f"blank{suffix}", " \n\t\u00a0\n") == "no text"


def test_a_file_that_vanished_is_reported(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jsonl"):
        source = write_file(tmp_path, name, "text")
        source.path.unlink()
        location = source.location
        assert list(read_records(source)) == [
            SkippedFile(source=location, reason="cannot be read: no such file or directory")
        ]


def test_a_file_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.txt", "text")
    source.path.unlink()
    os.mkfifo(source.path)
    assert list(read_records(source)) == [
        SkippedFile(source=source.location, reason="cannot be read: not a regular file")
    ]


def test_an_unknown_suffix_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.txt", "text")
    with pytest.raises(ValueError, match=r"no parser for the suffix '\.exe'"):
        list(read_records(type(source)(source.path, source.root, "", "a.exe", ".exe", 4, 0.0)))


@pytest.mark.parametrize(
    ("name", "module", "wanted"),
    [
        ("a.pdf", "pypdfium2", "PDF needs the extra: pip install 'odqa[files]'"),
        ("a.docx", "docx", "DOCX needs the extra: pip install 'odqa[files]'"),
        ("a.html", "lxml", "HTML needs the extra: pip install 'odqa[files]'"),
    ],
)
def test_a_missing_parser_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, wanted: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert reason_of(tmp_path, name, "anything") == wanted


def test_pdf_pages_are_sections(tmp_path: Path) -> None:
    data = pdf_bytes(
        [["The first page", "has two lines."], [], ["The third page."]], info={"Title": "A report on   pages"}
    )
    document = load_file(tmp_path, "report.pdf", data)
    assert document.title == "A report on pages"
    assert document.text == "The first page\nhas two lines.\n\nThe third page."
    assert [(section.page, section.heading, section.span.of(document.text)) for section in document.sections] == [
        (1, None, "The first page\nhas two lines."),
        (3, None, "The third page."),
    ]
    assert document.metadata == {}


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Untitled", "my report"),
        ("Microsoft Word - draft3.doc", "my report"),
        ("Microsoft Word - The Real Title", "The Real Title"),
        ("Document1", "my report"),
        ("Document management for beginners", "Document management for beginners"),
        ("Paper Title \\(use style: paper title\\)", "my report"),
        ("", "my report"),
    ],
)
def test_pdf_titles_that_are_fillers_give_way_to_the_name(tmp_path: Path, title: str, wanted: str) -> None:
    assert load_file(tmp_path, "my_report.pdf", pdf_bytes([["Text."]], info={"Title": title})).title == wanted


def test_pdf_reasons(tmp_path: Path) -> None:
    assert reason_of(tmp_path, "scan.pdf", pdf_bytes([[], []])) == "no text: the pages are blank"
    assert reason_of(tmp_path, "damaged.pdf", b"%PDF-1.4\nnonsense").startswith("damaged PDF: ")
    lock = f" /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> /U <{'22' * 32}> >> /ID [<00> <00>]"
    assert (
        reason_of(tmp_path, "locked.pdf", pdf_bytes([["x"]], trailer=lock)) == "encrypted: save it without a password"
    )


def test_a_file_that_grew_beyond_the_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_file(tmp_path, "a.txt", b"x" * 10)
    monkeypatch.setattr("odqa.settings.MAX_FILE_BYTES", 10)
    [record] = read_records(source)
    assert isinstance(record, Record)
    source.path.write_bytes(b"x" * 11)
    reason = "too large: it grew beyond 10 bytes after it was found"
    assert list(read_records(source)) == [SkippedFile(source=source.location, reason=reason)]
