"""DOCX -> text in document order, with sections under headings (ECMA-376 part 1, WordprocessingML).

Paragraphs stand apart by an empty line, items of a list by a line end; a table is one line a row, cells separated by
" | ". Text boxes, content controls, insertions, footnotes and endnotes (after the paragraph that refers to them) are
read; deletions, field codes, comments, page headers and footers are not. Typesetters' ligatures become letters.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest.parsed import INSTALL_HINT, Parsed, heading_sections, one_line, without_ligatures

MAX_UNPACKED_BYTES = 500 * 1024 * 1024  # all parts of a file together; `MAX_UNPACK_RATIO` counts as well
MAX_XML_BYTES = 100 * 1024 * 1024  # one XML part; its tree takes about ten times as much memory
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TEXT_BOX = f"{_W}txbxContent"
# Everything below these is not part of the text (a fallback repeats what stands beside it).
_LEFT_OUT = {f"{_W}{name}" for name in ("del", "moveFrom", "pPr", "rPr", "sdtPr", "tblPr", "instrText")} | {
    _MC_FALLBACK,
    _TEXT_BOX,
}
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_NOTES = {f"{_W}footnoteReference": "footnotes", f"{_W}endnoteReference": "endnotes"}
# What python-docx, zipfile and lxml raise for damaged files; the messages of the second kind tell a user nothing.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, SyntaxError)
_MISSING_PARTS = (KeyError, IndexError, ValueError, AttributeError, TypeError, OSError)


def parse(data: bytes) -> Parsed:
    """Extract the text of a Word document.

    The title is the document's own (core properties), else the first paragraph in the style "Title", else the first
    heading, else "".

    Raises:
        IngestError: python-docx is not installed, or the file is protected, damaged, no Word document or unpacks to
            more than `MAX_UNPACKED_BYTES`.
    """
    try:
        from docx import Document
        from docx.opc.exceptions import OpcError
    except ImportError as error:
        raise IngestError(f"DOCX needs the extra: {INSTALL_HINT}") from error
    _refuse_container(data)
    try:
        _refuse_bomb(data)
        document = Document(io.BytesIO(data))
        _refuse_entities(document.element)
        reader = _Reader(document)
        reader.blocks(document.element.body)
        title = one_line(without_ligatures(document.core_properties.title or ""))
    except _DAMAGED as error:
        raise IngestError(f"damaged, or not a Word document: {one_line(str(error))}") from error
    except (OpcError, *_MISSING_PARTS) as error:
        raise IngestError("damaged, or not a Word document: parts of it are missing or not as they must be") from error
    text = "".join(reader.parts)
    first = next((words for _, words in reader.headings), "")
    return Parsed(
        title=title or reader.title or first,
        text=text,
        sections=heading_sections(reader.headings, length=len(text)),
    )


def _refuse_container(data: bytes) -> None:
    """Name the two kinds of OLE container that bear this suffix."""
    if not data.startswith(_OLE_MAGIC):
        return
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise IngestError("encrypted: save it without a password")
    raise IngestError("an old Word file (.doc) or a protected one, not .docx; save it as .docx")


def _refuse_bomb(data: bytes) -> None:
    """Refuse archives that unpack to far more than a document, before anything is unpacked.

    zipfile never unpacks more than an entry announces. Entries that share bytes announce more than the file can hold.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    if len({entry.filename for entry in entries}) < len(entries):
        raise IngestError("damaged, or not a Word document: it holds two parts of one name")
    if any(before.header_offset + before.compress_size > after.header_offset for before, after in pairwise(entries)):
        raise IngestError("damaged, or not a Word document: its parts overlap, as in a zip bomb")
    total = sum(entry.file_size for entry in entries)
    limit = min(MAX_UNPACKED_BYTES, max(settings.UNPACK_ALLOWANCE_BYTES, settings.MAX_UNPACK_RATIO * len(data)))
    if total > limit:
        raise IngestError(f"unpacks to {total} bytes, {total // len(data)} times its size; the limit is {limit}")
    for entry in entries:
        if entry.filename.lower().endswith((".xml", ".rels")) and entry.file_size > MAX_XML_BYTES:
            raise IngestError(
                f"its part {entry.filename} unpacks to {entry.file_size} bytes, the limit is {MAX_XML_BYTES}"
            )


def _refuse_entities(root: Any) -> None:  # noqa: ANN401
    """Refuse XML that defines entities: Office files have none (ECMA-376 part 2, 8.2), and they are not expanded."""
    if root.getroottree().docinfo.internalDTD is not None:
        raise IngestError("not a Word document: its XML has a DTD, which may define entities")


@dataclass(slots=True)
class _Reader:
    """The text so far, and what has to be looked up in the document."""

    document: Any
    parts: list[str] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    title: str = ""
    length: int = 0
    in_list: bool = False
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    styles: dict[str, str] = field(default_factory=dict)  # style id -> "title", "heading", "list" or ""

    def __post_init__(self) -> None:
        """Look up the kinds of the styles and the texts of the notes."""
        for style in self.document.styles.element.iter(f"{_W}style"):
            self.styles[style.get(f"{_W}styleId") or ""] = _kind_of_style(style)
        for relation in self.document.part.rels.values():
            name = relation.reltype.rpartition("/")[2]
            if name in _NOTES.values() and not relation.is_external:
                self.notes.update(_read_notes(relation.target_part.blob, name))

    def blocks(self, body: Any) -> None:  # noqa: ANN401 - an lxml element
        """Write the paragraphs and tables below an element, in order."""
        stack = list(reversed(body))
        while stack:
            element = stack.pop()
            if element.tag == f"{_W}p":
                self.paragraph(element)
            elif element.tag == f"{_W}tbl":
                rows = [" | ".join(_cell(cell) for cell in _cells(row)) for row in element.iter(f"{_W}tr")]
                self.put("\n".join(row for row in rows if row.strip("| ")), in_list=False)
            elif element.tag not in _LEFT_OUT:  # content controls and the like wrap blocks
                stack.extend(reversed(element))

    def paragraph(self, element: Any) -> None:  # noqa: ANN401
        """Write a paragraph, the text boxes that hang on it, and its notes."""
        kind = self.kind(element)
        words = _text(element)
        if kind in {"title", "heading"} and words.strip():
            words = one_line(words)
            self.put(words, in_list=False)
            self.headings.append((self.length - len(words), words))
            if kind == "title" and not self.title:
                self.title = words
        else:
            self.put(words, in_list=kind == "list")
        boxes = [box for box in element.iter(_TEXT_BOX) if next(box.iterancestors(_MC_FALLBACK), None) is None]
        for box in boxes:
            for paragraph in box.iter(f"{_W}p"):
                self.put(_text(paragraph), in_list=False)
        for reference in element.iter(*_NOTES):
            note = self.notes.pop((_NOTES[reference.tag], reference.get(f"{_W}id") or ""), "")
            self.put(note, in_list=False)

    def kind(self, element: Any) -> str:  # noqa: ANN401
        """Return "title", "heading", "list" or ""."""
        style = element.find(f"{_W}pPr/{_W}pStyle")
        kind = self.styles.get(style.get(f"{_W}val") or "", "") if style is not None else ""
        if kind:
            return kind
        if _outline_level(element) < 9:
            return "heading"
        return "list" if element.find(f"{_W}pPr/{_W}numPr") is not None else ""

    def put(self, words: str, *, in_list: bool) -> None:
        """Append a block after the break that is due."""
        words = words.strip()
        if not words:
            return
        due = ("\n" if in_list and self.in_list else "\n\n") if self.length else ""
        self.parts.append(due + words)
        self.length += len(due) + len(words)
        self.in_list = in_list


def _outline_level(element: Any) -> int:  # noqa: ANN401
    """Return the outline level that a paragraph or style names; 9 is body text."""
    level = element.find(f"{_W}pPr/{_W}outlineLvl")
    value = level.get(f"{_W}val") if level is not None else None
    return int(value) if value and value.isdigit() else 9


def _kind_of_style(style: Any) -> str:  # noqa: ANN401
    """Tell what a style is for, by its English built-in name, which Word keeps in every language."""
    name = style.find(f"{_W}name")
    words = (name.get(f"{_W}val") or "").lower() if name is not None else ""
    if words == "title":
        return "title"
    if words.startswith("heading") or _outline_level(style) < 9:
        return "heading"
    return "list" if words.startswith("list") else ""


def _read_notes(blob: bytes, name: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the texts of footnotes or endnotes under (kind, id); separators are left out."""
    from docx.oxml import parse_xml

    notes = parse_xml(blob)
    _refuse_entities(notes)
    for note in notes:
        if note.get(f"{_W}type") in {None, "normal"}:
            yield (name, note.get(f"{_W}id") or ""), one_line(" ".join(map(_text, note.iter(f"{_W}p"))))


def _cells(row: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the cells of a row, without those of tables inside it."""
    stack = list(reversed(row))
    while stack:
        element = stack.pop()
        if element.tag == f"{_W}tc":
            yield element
        elif element.tag not in _LEFT_OUT:
            stack.extend(reversed(element))


def _cell(cell: Any) -> str:  # noqa: ANN401
    """Return the text of a cell on one line."""
    nested = {row for table in cell.iterchildren(f"{_W}tbl") for row in table.iter(f"{_W}p")}
    return one_line(" ".join(_text(paragraph) for paragraph in cell.iter(f"{_W}p") if paragraph not in nested))


def _text(paragraph: Any) -> str:  # noqa: ANN401
    """Return the text of a paragraph: its own runs and those in links, fields, insertions and inline controls."""
    parts: list[str] = []
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        if element.tag == f"{_W}t":
            parts.append(element.text or "")
        elif element.tag in _SIGNS:
            parts.append(_SIGNS[element.tag])
        elif element.tag not in _LEFT_OUT:
            stack.extend(reversed(element))
    return without_ligatures("".join(parts))
