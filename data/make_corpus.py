"""Make the files of the sample corpus that are not plain UTF-8: PDF, DOCX, gzip and other encodings.

    python data/make_corpus.py            write them into data/corpus
    python data/make_corpus.py --check    write nothing; exit with 1 if a file differs from what would be written

The texts stand in data/sources/, in a small part of Markdown: `# title`, `## heading`, paragraphs parted by blank
lines, tables whose rows begin with `|` (the first row is the head), and `<page>` on a line of its own, which begins a
new page of a PDF. The bytes depend on the sources and on python-docx alone: no clock, no random names, and no
compression (whose bytes differ between versions of zlib). The other files of the corpus are written by hand, and this
script leaves them alone.
"""

from __future__ import annotations

import argparse
import codecs
import gzip
import hashlib
import io
import sys
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docx
from docx.document import Document as DocxDocument

DATA = Path(__file__).resolve().parent
SOURCES = DATA / "sources"
CORPUS = DATA / "corpus"

DATE = datetime(2025, 1, 1, tzinfo=UTC)
AUTHOR = "odqa sample corpus"

PAGE_BREAK = "<page>"

# The styles that the DOCX files use; python-docx's template has 164, which would make each file 800 kB.
DOCX_STYLES = {"Normal", "Heading 1", "Heading 2", "Heading 1 Char", "Heading 2 Char", "Default Paragraph Font"} | {
    "Normal Table",
    "Table Grid",
    "No List",
}

# Lengths in points (1/72 inch); the page is A4.
PAGE_WIDTH, PAGE_HEIGHT, MARGIN = 595, 842, 60
LINE_CHARACTERS = 86  # of Helvetica at 10.5 points, so that the widest line stays inside the margins


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a source: `kind` is "title", "heading", "paragraph" or "table"; `rows` is for tables only."""

    kind: str
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of block is set in a PDF: font resource, size and leading in points, space above in points."""

    font: str
    size: float
    leading: float
    above: float
    characters: int


STYLES = {
    "title": Style("F2", 16, 20, 0, 52),
    "heading": Style("F2", 12, 16, 12, 70),
    "paragraph": Style("F1", 10.5, 14, 6, LINE_CHARACTERS),
}


def parse(source: str) -> list[list[Block]]:
    """Cut a source into pages and blocks.

    Raises:
        ValueError: the source does not begin with a title.
    """
    pages: list[list[Block]] = [[]]
    for part in source.strip().split("\n\n"):
        lines = part.strip().split("\n")
        if lines == [PAGE_BREAK]:
            pages.append([])
        elif part.startswith("## "):
            pages[-1].append(Block("heading", part.removeprefix("## ").strip()))
        elif part.startswith("# "):
            pages[-1].append(Block("title", part.removeprefix("# ").strip()))
        elif part.startswith("|"):
            rows = tuple(tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in lines)
            pages[-1].append(Block("table", rows=rows))
        else:
            pages[-1].append(Block("paragraph", " ".join(line.strip() for line in lines)))
    if not pages[0] or pages[0][0].kind != "title":
        raise ValueError("the source does not begin with a title: write one as '# Title' on its first line")
    return pages


def pdf_string(text: str) -> bytes:
    """Write a text as a PDF literal string in WinAnsiEncoding.

    Raises:
        UnicodeEncodeError: a character is not in WinAnsiEncoding.
    """
    encoded = text.encode("cp1252")
    for special in (b"\\", b"(", b")"):
        encoded = encoded.replace(special, b"\\" + special)
    return b"(" + encoded + b")"


def page_content(blocks: Sequence[Block], *, number: int) -> bytes:
    """Set the blocks of one page as a PDF content stream, with the page number at the foot.

    Raises:
        ValueError: the page holds a table, or more text than fits on it.
    """
    operations: list[bytes] = []
    y = float(PAGE_HEIGHT - MARGIN)
    for block in blocks:
        if block.kind not in STYLES:
            raise ValueError(f"page {number}: a {block.kind} cannot be set in a PDF; write it as a paragraph")
        style = STYLES[block.kind]
        y -= style.above
        for line in textwrap.wrap(block.text, style.characters, break_on_hyphens=False):
            y -= style.leading
            operations.append(text_operation(line, font=style.font, size=style.size, x=MARGIN, y=y))
    if y < MARGIN + 20:
        raise ValueError(f"page {number} is too full: put {PAGE_BREAK} before one of its headings")
    operations.append(text_operation(str(number), font="F1", size=9, x=PAGE_WIDTH / 2, y=MARGIN / 2))
    return b"\n".join(operations)


def text_operation(line: str, *, font: str, size: float, x: float, y: float) -> bytes:
    """Show one line of text at a place, in points from the lower left corner."""
    return f"BT /{font} {size:g} Tf {x:g} {y:g} Td ".encode("ascii") + pdf_string(line) + b" Tj ET"


def make_pdf(source: str) -> bytes:
    """Set a source as a PDF 1.4 file (ISO 32000-1) in Helvetica, its streams uncompressed."""
    pages = parse(source)
    first_page = 6
    kids = " ".join(f"{first_page + 2 * i} 0 R" for i in range(len(pages)))
    stamp = pdf_string(DATE.strftime("D:%Y%m%d%H%M%SZ"))
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode("ascii"),
        font % b"Helvetica",
        font % b"Helvetica-Bold",
        b"<< /Title %s /Author %s /CreationDate %s >>" % (pdf_string(pages[0][0].text), pdf_string(AUTHOR), stamp),
    ]
    for i, blocks in enumerate(pages):
        content = page_content(blocks, number=i + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}] "
            f"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {first_page + 2 * i + 1} 0 R >>".encode(
                "ascii"
            )
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    return assemble_pdf(objects)


def assemble_pdf(objects: Sequence[bytes]) -> bytes:
    """Number the objects from 1 and put header, cross-reference table and trailer around them; 1 is Root, 5 is Info."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    identifier = hashlib.sha256(out).hexdigest()[:32].encode("ascii")
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R /ID [<%s> <%s>] >>\n" % (
        len(objects) + 1,
        identifier,
        identifier,
    )
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


def make_docx(source: str) -> bytes:
    """Set a source as a DOCX file with the styles Heading 1, Heading 2, Normal and Table Grid."""
    document = small_template()
    blocks = [block for page in parse(source) for block in page]
    properties = document.core_properties
    properties.title, properties.author, properties.last_modified_by = blocks[0].text, AUTHOR, AUTHOR
    properties.created = properties.modified = DATE.replace(tzinfo=None)
    properties.comments = ""
    for block in blocks:
        if block.kind == "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        elif block.kind == "paragraph":
            document.add_paragraph(block.text)
        else:
            document.add_heading(block.text, level=1 if block.kind == "title" else 2)
    buffer = io.BytesIO()
    document.save(buffer)
    return repack_zip(buffer.getvalue())


def small_template() -> DocxDocument:
    """Return python-docx's empty document without its picture, its doubled styles and the styles not used here."""
    document = docx.Document()
    for style in list(document.styles):
        if style.name not in DOCX_STYLES:
            style.delete()
    for relationships in (document.part.rels, document.part.package.rels):
        for key, relationship in list(relationships.items()):
            if relationship.reltype.endswith(("/stylesWithEffects", "/thumbnail")):
                del relationships[key]
    return document


def repack_zip(archive: bytes) -> bytes:
    """Write a ZIP archive anew, in the same order, with fixed dates and attributes and without compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            new.writestr(entry, old.read(name))
    return buffer.getvalue()


def make_gzip(source: str) -> bytes:
    """Wrap a source in gzip (RFC 1952) with no name, no time and stored blocks."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=buffer, mtime=0) as stream:
        stream.write(source.encode("utf-8"))
    return buffer.getvalue()


def make_windows_1252(source: str) -> bytes:
    """Write a source in Windows-1252."""
    return source.encode("cp1252")


def make_utf_16(source: str) -> bytes:
    """Write a source in UTF-16, little-endian, with its byte order mark."""
    return codecs.BOM_UTF16_LE + source.encode("utf-16-le")


def make_crlf(source: str) -> bytes:
    """Write a source in UTF-8 with the line ends of Windows."""
    return source.replace("\n", "\r\n").encode("utf-8")


# Source (under data/sources) -> target (under data/corpus) and how it is made.
TARGETS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "archive/shipwrecks.jsonl": ("archive/shipwrecks.jsonl.gz", make_gzip),
    "company/boat-insurance.pdf.md": ("company/boat-insurance.pdf", make_pdf),
    "company/travel-policy-2021.docx.md": ("company/travel-policy-2021.docx", make_docx),
    "company/travel-policy-2024.docx.md": ("company/travel-policy-2024.docx", make_docx),
    "guides/bicycle-repair.pdf.md": ("guides/bicycle-repair.pdf", make_pdf),
    "guides/orrel-cheese.docx.md": ("guides/orrel-cheese.docx", make_docx),
    "sea/bridge-inspection-2022.pdf.md": ("sea/bridge-inspection-2022.pdf", make_pdf),
    "sea/harbour-rules.txt": ("sea/harbour-rules.txt", make_crlf),
    "sea/merran-ferries.pdf.md": ("sea/merran-ferries.pdf", make_pdf),
    "town/council-minutes-2024-03.docx.md": ("town/council-minutes-2024-03.docx", make_docx),
    "town/lantern-festival.txt": ("town/lantern-festival.txt", make_windows_1252),
    "town/twin-towns.txt": ("town/twin-towns.txt", make_utf_16),
}


def build() -> dict[str, bytes]:
    """Make every target: path under data/corpus -> bytes."""
    return {target: make((SOURCES / source).read_text(encoding="utf-8")) for source, (target, make) in TARGETS.items()}


def stale() -> list[str]:
    """Return the targets that are missing from data/corpus or differ from what `build` makes."""
    return [
        target
        for target, content in build().items()
        if not (CORPUS / target).is_file() or (CORPUS / target).read_bytes() != content
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the targets that differ, or with `--check` only name them; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the PDF, DOCX, gzip and re-encoded files of the sample corpus.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check: bool = parser.parse_args(arguments).check
    differing = stale()
    if not check:
        contents = build()
        for target in differing:
            (CORPUS / target).parent.mkdir(parents=True, exist_ok=True)
            (CORPUS / target).write_bytes(contents[target])
    for target in differing:
        sys.stdout.write(f"{'stale' if check else 'wrote'} {target}\n")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
