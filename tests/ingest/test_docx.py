import io
import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_files import docx_bytes, load_file, reason_of, repacked

from odqa.errors import IngestError
from odqa.ingest import docx as reader

W = nsdecls("w")


def small() -> docx.document.Document:
    document = docx.Document()
    document.core_properties.title = ""
    document.add_paragraph("Before.")
    document.add_heading("First heading", level=1)
    paragraph = document.add_paragraph("A ")
    paragraph.add_run("bold").bold = True
    paragraph.add_run(" word,\ta tab\nand the ﬁrst line.")
    document.add_paragraph("item one", style="List Bullet")
    document.add_paragraph("item two", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for cell, words in zip(
        [*table.rows[0].cells, *table.rows[1].cells], ["Name", "Age", "Ann\nLee", "37"], strict=True
    ):
        cell.text = words
    document.add_heading("Second", level=2)
    document.add_paragraph("End.")
    return document


def test_a_document(tmp_path: Path) -> None:
    document = load_file(tmp_path, "a_file.docx", docx_bytes(small()))
    assert document.text == (
        "Before.\n\nFirst heading\n\nA bold word,\ta tab\nand the first line.\n\nitem one\nitem two\n\n"
        "Name | Age\nAnn Lee | 37\n\nSecond\n\nEnd."
    )
    assert document.title == "First heading"
    assert [(section.heading, section.span.of(document.text)[:6]) for section in document.sections] == [
        ("First heading", "First "),
        ("Second", "Second"),
    ]


def test_titles(tmp_path: Path) -> None:
    document = small()
    document.add_paragraph("In the style", style="Title")
    assert load_file(tmp_path, "a.docx", docx_bytes(document)).title == "In the style"
    document.core_properties.title = "In the properties"
    assert load_file(tmp_path, "a.docx", docx_bytes(document)).title == "In the properties"
    plain = docx.Document()
    plain.core_properties.title = ""
    plain.add_paragraph("Text.")
    assert load_file(tmp_path, "a_b-c.docx", docx_bytes(plain)).title == "a b c"


def test_what_stands_inside_other_elements_is_read(tmp_path: Path) -> None:
    document = docx.Document()
    runs = (
        "<w:ins><w:r><w:t>inserted </w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        '<w:hyperlink><w:r><w:t>link </w:t></w:r></w:hyperlink><w:fldSimple w:instr="X"><w:r><w:t>field</w:t></w:r>'
        "</w:fldSimple><w:r><w:instrText>CODE</w:instrText></w:r>"
    )
    body = document.element.body
    body.insert(0, parse_xml(f"<w:p {W}>{runs}</w:p>"))
    block = "<w:sdtContent><w:p><w:r><w:t>In a control.</w:t></w:r></w:p></w:sdtContent>"
    body.insert(1, parse_xml(f"<w:sdt {W}><w:sdtPr/>{block}</w:sdt>"))
    box = "<w:txbxContent><w:p><w:r><w:t>In a box.</w:t></w:r></w:p></w:txbxContent>"
    body.insert(2, parse_xml(f"<w:p {W}><w:r><w:t>Beside a box.</w:t></w:r><w:r><w:pict>{box}</w:pict></w:r></w:p>"))
    text = load_file(tmp_path, "a.docx", docx_bytes(document)).text
    assert text == "inserted link field\n\nIn a control.\n\nBeside a box.\n\nIn a box."


def test_footnotes_follow_their_paragraph(tmp_path: Path) -> None:
    document = docx.Document()
    document.element.body.insert(
        0, parse_xml(f'<w:p {W}><w:r><w:t>Text.</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>')
    )
    document.add_paragraph("Next.")
    data = docx_bytes(document)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        relations = archive.read("word/_rels/document.xml.rels").decode()
        types = archive.read("[Content_Types].xml").decode()
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    relations = relations.replace("</Rel", f'<Relationship Id="rId99" Type="{kind}" Target="footnotes.xml"/></Rel', 1)
    content = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    types = types.replace("</Types>", f'<Override PartName="/word/footnotes.xml" ContentType="{content}"/></Types>')
    notes = (
        f'<w:footnotes {W}><w:footnote w:type="separator" w:id="0"><w:p><w:r><w:t>no</w:t></w:r></w:p></w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>The note.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    changes = {
        "word/_rels/document.xml.rels": relations.encode(),
        "[Content_Types].xml": types.encode(),
        "word/footnotes.xml": notes.encode(),
    }
    assert load_file(tmp_path, "a.docx", repacked(data, changes)).text == "Text.\n\nThe note.\n\nNext."


def test_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = docx_bytes(small())
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    assert reason_of(tmp_path, "a.docx", ole + "EncryptedPackage".encode("utf-16-le")) == (
        "encrypted: save it without a password"
    )
    assert reason_of(tmp_path, "a.docx", ole).startswith("an old Word file (.doc)")
    assert reason_of(tmp_path, "a.docx", data[:700]) == "damaged, or not a Word document: File is not a zip file"
    assert reason_of(tmp_path, "a.docx", repacked(data, {"word/document.xml": b"<w:document"})).startswith("damaged")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "text")
    assert reason_of(tmp_path, "a.docx", stream.getvalue()).startswith("damaged, or not a Word document")
    assert reason_of(tmp_path, "a.docx", docx_bytes(docx.Document())) == "no text"
    monkeypatch.setattr(reader, "MAX_UNPACKED_BYTES", 1000)
    assert "the limit is 1000" in reason_of(tmp_path, "a.docx", data)


def test_a_large_part_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_XML_BYTES", 10_000_000)
    bomb = repacked(docx_bytes(small()), {"word/document.xml": b" " * 10_000_001})
    assert len(bomb) < 100_000
    assert reason_of(tmp_path, "a.docx", bomb).startswith("its part word/document.xml unpacks to")


DATA = docx_bytes(small())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=8))
def test_no_damage_does_worse_than_an_ingest_error(place: int, patch: bytes) -> None:
    damaged = DATA[:place] + patch + DATA[place + len(patch) :]
    try:
        parsed = reader.parse(damaged)
    except IngestError:
        return
    assert "First heading" in parsed.text
