"""Files made to do harm, through the parser process as `odqa index` uses it."""

from __future__ import annotations

import gzip
import http.server
import io
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import bombs
import pytest
from ingest_files import docx_bytes, pdf_bytes, repacked
from test_docx import small

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest import jsonl
from odqa.ingest.isolation import ParserProcess

PART = "word/document.xml"
GOOD = docx_bytes(small())


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    with ParserProcess(settings.FileLimits(seconds=60.0, memory_mb=600)) as parser:
        yield parser


def reason(parser: ParserProcess, suffix: str, data: bytes) -> str:
    with pytest.raises(IngestError) as caught:
        parser.parse(suffix, data)
    return str(caught.value)


# ---- archives ------------------------------------------------------------------------------------------------------


def test_a_zip_bomb_is_refused_before_it_is_unpacked(parser: ParserProcess) -> None:
    bomb = bombs.with_entries(GOOD, [("word/media/zeros.bin", bytes(90_000_000))])
    assert len(bomb) < 200_000
    words = reason(parser, ".docx", bomb)
    assert words.startswith("unpacks to 90")
    assert words.endswith(" times its size; the limit is 67108864")


def test_a_large_picture_is_no_bomb(parser: ParserProcess) -> None:
    fits = bombs.with_entries(GOOD, [("word/media/zeros.bin", bytes(60_000_000))])
    assert parser.parse(".docx", fits).text.startswith("Before.")


def test_many_entries_that_share_their_bytes_are_refused(parser: ParserProcess) -> None:
    shared = bombs.overlapping(GOOD, copies=20)
    assert reason(parser, ".docx", shared).endswith("its parts overlap, as in a zip bomb")


def test_two_parts_of_one_name_are_refused(parser: ParserProcess) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = bombs.with_entries(GOOD, [(PART, bombs.word_xml(bombs.word_paragraph("Another text.")))])
    assert reason(parser, ".docx", doubled).endswith("it holds two parts of one name")


def test_an_archive_in_an_archive_is_not_looked_into(parser: ParserProcess) -> None:
    nested = bombs.with_entries(GOOD, [("word/embeddings/inner.docx", GOOD), ("inner.zip", GOOD)])
    assert parser.parse(".docx", nested) == parser.parse(".docx", GOOD)


def test_what_an_entry_announces_too_little_of_is_not_unpacked(parser: ParserProcess) -> None:
    """The directory says 1,000 bytes; the stream holds 50 million."""
    data = bytearray(repacked(GOOD, {PART: bombs.word_xml(bombs.word_paragraph("x" * 50_000_000))}))
    place = data.rindex(PART.encode()) - 46 + 24  # the size, in the last entry of the directory
    assert int.from_bytes(data[place : place + 4], "little") > 50_000_000
    data[place : place + 4] = (1000).to_bytes(4, "little")
    assert reason(parser, ".docx", bytes(data)).startswith("damaged, or not a Word document: ")


# ---- XML and HTML --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtd", [bombs.LAUGHS, bombs.QUADRATIC], ids=["billion laughs", "quadratic"])
def test_an_entity_bomb_in_a_word_document_is_refused(parser: ParserProcess, dtd: str) -> None:
    bomb = repacked(GOOD, {PART: bombs.word_xml(bombs.word_paragraph("x" + "&j;" * 10_000), dtd=dtd)})
    words = reason(parser, ".docx", bomb)
    assert "entit" in words


@pytest.mark.parametrize("suffix", [".html", ".xhtml"])
@pytest.mark.parametrize("dtd", [bombs.LAUGHS, bombs.QUADRATIC], ids=["billion laughs", "quadratic"])
def test_an_entity_bomb_in_a_page_is_not_expanded(parser: ParserProcess, suffix: str, dtd: str) -> None:
    page = f'{dtd}<html xmlns="http://www.w3.org/1999/xhtml"><body><p>before &j; after</p></body></html>'
    assert parser.parse(suffix, page.encode()).text == "before &j; after"


class _Server(http.server.ThreadingHTTPServer):
    asked: list[str]


@pytest.fixture
def server() -> Iterator[_Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            self.send_response_only(200)
            self.end_headers()

    server = _Server(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_nothing_is_fetched_or_read_for_a_document(parser: ParserProcess, server: _Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret of another file", encoding="utf-8")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/works") as answer:
        assert answer.status == 200
    assert server.asked == ["/works"]
    for url in (f"http://127.0.0.1:{server.server_port}/x", secret.as_uri(), str(secret)):
        dtd = bombs.external(url)
        word = repacked(GOOD, {PART: bombs.word_xml(bombs.word_paragraph("x&j;y"), dtd=dtd)})
        assert reason(parser, ".docx", word) == "not a Word document: its XML has a DTD, which may define entities"
        links = (
            f'<link rel="stylesheet" href="{url}"/><img src="{url}"/><iframe src="{url}"></iframe>'
            f'<object data="{url}"/><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{url}" parse="text"/>'
        )
        for head in ("", '<?xml version="1.0"?>'):
            page = f'{head}{dtd}<html xmlns="http://www.w3.org/1999/xhtml"><body><p>x&j;y</p>{links}<p>z</body></html>'
            parsed = parser.parse(".xhtml", page.encode())
            assert parsed.text.split() == ["x&j;y", "z"]
            assert "secret" not in parsed.text
    assert server.asked == ["/works"]


@pytest.mark.parametrize("depth", [10, 1000, 10_000, 200_000])
@pytest.mark.parametrize("tag", ["div", "b", "table><tr><td", "ul><li", "svg"])
def test_a_page_of_any_depth_is_read_or_reported(parser: ParserProcess, tag: str, depth: int) -> None:
    data = f"<{tag}>".encode() * depth + b"The gull steals."
    try:
        assert parser.parse(".html", data).text == ("" if tag == "svg" else "The gull steals.")
    except IngestError as error:
        too_deep = "damaged HTML: elements are nested too deeply"
        assert str(error) in {too_deep, "no text"} if tag == "svg" else depth >= 1000 and str(error) == too_deep


@pytest.mark.parametrize("depth", [20, 1000, 100_000])
def test_a_word_document_of_any_depth_is_read_or_reported(parser: ParserProcess, depth: int) -> None:
    controls = "<w:sdt><w:sdtContent>" * depth + bombs.word_paragraph("deep") + "</w:sdtContent></w:sdt>" * depth
    data = repacked(GOOD, {PART: bombs.word_xml(controls)})
    if depth == 20:
        assert parser.parse(".docx", data).text == "deep"
    else:
        assert "Excessive depth" in reason(parser, ".docx", data)


# ---- PDF -----------------------------------------------------------------------------------------------------------


def test_a_good_page_of_the_same_making_is_read(parser: ParserProcess) -> None:
    page = bombs.raw_pdf(bombs.one_page(bombs.stream_object(b"BT /F 9 Tf (x) Tj ET")))
    assert parser.parse(".pdf", page).text == "x"
    assert parser.parse(".pdf", bombs.flate_bomb(1000)).text == "x"
    assert parser.parse(".pdf", bombs.form_tree(2)).text == "x"


@pytest.mark.parametrize("make", [bombs.looping_tree, bombs.million_pages, bombs.looping_objects])
def test_a_pdf_that_loops_is_reported(parser: ParserProcess, make: object) -> None:
    words = reason(parser, ".pdf", make())  # type: ignore[operator]
    assert words.startswith(("no text: ", "damaged PDF: "))


@pytest.mark.slow
def test_a_pdf_that_unpacks_without_end_is_reported() -> None:
    with ParserProcess(settings.FileLimits(seconds=60.0, memory_mb=600)) as parser:
        for bomb in (bombs.form_tree(40), bombs.flate_bomb(2_000_000_000)):
            assert len(bomb) < 20_000
            words = reason(parser, ".pdf", bomb)
            assert words.startswith(("the parser crashed", "needs more than 600 MB", "took longer than"))
        assert parser.parse(".pdf", pdf_bytes([["After."]])).text == "After."


def test_what_a_pdf_without_text_shows_is_named(parser: ParserProcess) -> None:
    drawing = bombs.raw_pdf(bombs.one_page(bombs.stream_object(b"0 0 50 50 re f")))
    assert reason(parser, ".pdf", drawing) == "no text: the pages are pictures (scanned?)"
    assert reason(parser, ".pdf", pdf_bytes([[], []])) == "no text: the pages are blank"
    assert reason(parser, ".pdf", pdf_bytes([])).startswith("damaged PDF: ")  # one without pages


def test_pages_that_cannot_be_read_are_named() -> None:
    from odqa.ingest import pdf

    assert [pdf._ranges(numbers) for numbers in ([], [3], [3, 4], [1, 3, 4, 5, 9])] == ["", "3", "3-4", "1, 3-5, 9"]


def test_pages_that_are_pictures_are_named(parser: ParserProcess) -> None:
    picture = b"/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    objects = bombs.one_page(
        bombs.stream_object(b"BT /F 9 Tf 9 90 Td (Text.) Tj ET"),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 7 0 R /Resources << /XObject << /X 8 0 R >> >> >>",
        bombs.stream_object(b"/X Do"),
        bombs.stream_object(b"x", extra=picture),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>",
    )
    objects[1] = b"<< /Type /Pages /Kids [3 0 R 6 0 R 9 0 R 6 0 R] /Count 4 >>"
    parsed = parser.parse(".pdf", bombs.raw_pdf(objects))
    assert (parsed.text, parsed.missing) == ("Text.", "pages 2, 4 without text but with a picture")
    assert parsed.metadata == {}
    objects[1] = b"<< /Type /Pages /Kids [6 0 R] /Count 1 >>"
    assert reason(parser, ".pdf", bombs.raw_pdf(objects)) == "no text: the pages are pictures (scanned?)"


def test_a_page_in_a_font_without_characters_is_told_apart(parser: ParserProcess) -> None:
    data = pdf_bytes([["Good words."], ["\\001\\003\\004\\005\\006 \\001\\003\\004"], ["More words."]])
    parsed = parser.parse(".pdf", data)
    assert parsed.text == "Good words.\n\nMore words."
    assert parsed.metadata == {"unreadable_pages": "2"}
    assert parsed.missing == "page 2 cannot be read: damaged, or in a font that does not name its characters"


# ---- gzip ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"\n", b'{"text": "a"}\n', b"no JSON\n"])
def test_a_gzip_bomb_is_read_to_a_bound(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(settings, "UNPACK_ALLOWANCE_BYTES", 1_000_000)
    bomb = gzip.compress(line * (9_000_000 // len(line)))
    bound = max(1_000_000, settings.MAX_UNPACK_RATIO * len(bomb)) + len(line)
    assert bound < 6_000_000
    *good, last = jsonl.read_lines(io.BytesIO(bomb), compressed=True)
    assert sum(len(one.data) + 1 for one in good) <= bound
    assert last.reason == "unpacks to over 200 times its size: nothing from here on was read"
    assert last.number * len(line) <= bound


def test_text_that_packs_well_is_no_bomb() -> None:
    """A log of one kind of line packs to about a hundredth."""
    content = b"".join(b'{"text": "The gull number %d steals chips."}\n' % (number % 10) for number in range(50_000))
    packed = gzip.compress(content)
    assert len(content) / len(packed) > 80
    assert sum(1 for _ in jsonl.read_lines(io.BytesIO(packed), compressed=True)) == 50_000
