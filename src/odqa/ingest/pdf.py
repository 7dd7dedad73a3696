r"""PDF -> the text of its pages, one section a page, through pypdfium2.

pdfium puts U+FFFE (in older versions U+0002) where a line ended in a hyphen, and joins the two lines. The word is
written the way the rest of the document writes it; where that does not tell, it is joined, with a hyphen kept before a
capital letter or a figure. Line ends become "\n", pages stand apart by "\n\n",
typesetters' ligatures become letters.

pdfium is not safe for threads: parse one document at a time in a process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from odqa.errors import IngestError
from odqa.ingest.parsed import INSTALL_HINT, Parsed, one_line, without_ligatures, words
from odqa.types import Section, Span

_PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD in fpdfview.h
_UNKNOWN_PROTECTION = 5  # FPDF_ERR_SECURITY
_HYPHEN = re.compile("[ \t]*[\ufffe\x02]\\s*")
_LEFT_PART = re.compile(r"[\w-]*\w$")
_RIGHT_PART = re.compile(r"\w*")
_PART_CHARACTERS = 60
_WORD = re.compile(r"\w+(?:-\w+)*")
# A font that does not say which characters it draws comes out as control characters.
_CONTROLS = re.compile("[\x00\x01\x03-\x08\x0b\x0c\x0e-\x1f\x7f\uffff]")
_INVISIBLE = re.compile("[\x00\x01\x03-\x08\x0b\x0c\x0e-\x1f\x7f\uffff\u00ad]")
_CONTROL_SHARE = 0.1
_PICTURE = 3  # FPDF_PAGEOBJ_IMAGE in fpdf_edit.h
_MAX_DAMAGED_PAGES = 1000  # so many in a row, and no more are tried
_UNREADABLE = "damaged, or in a font that does not name its characters"
_NO_TITLE = re.compile(
    r"(?:untitled|document|title|presentation|powerpoint presentation|print|slide|layout|no title|unknown)"
    r"[ \d.]*(?:[-–].*)?$|.*\(use style:.*|[\W\d_]*$",
    re.IGNORECASE,
)
_FILE_SUFFIXES = words(".doc .docx .dvi .eps .htm .html .indd .odt .pdf .ppt .pptx .ps .qxd .rtf .tex .txt .xls")


def parse(data: bytes) -> Parsed:
    """Extract the text of a PDF, page by page.

    The title is the document's own unless it is a program's filler ("Untitled", "Microsoft Word - a.doc"), else "".
    Pages most of which cannot be read (damaged, or in a font that does not name its characters) are listed in the
    metadata, as `unreadable_pages`: "3, 7-9".

    Raises:
        IngestError: pypdfium2 is not installed, or the file is encrypted, damaged or holds no text.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise IngestError(f"PDF needs the extra: {INSTALL_HINT}") from error
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in {_PASSWORD_NEEDED, _UNKNOWN_PROTECTION} or "assword" in str(error):
            raise IngestError("encrypted: save it without a password") from error
        raise IngestError(f"damaged PDF: {one_line(str(error))}") from error
    try:
        pages = _pages(document, pypdfium2.PdfiumError)
        title = _title(document)
    finally:
        document.close()
    if not any(pages.texts):
        raise IngestError(f"no text: {_why_blank(pages)}")
    text, sections = _join(_mend_hyphens(pages.texts))
    metadata = {"unreadable_pages": _ranges(pages.unreadable)} if pages.unreadable else {}
    return Parsed(title=title, text=text, sections=sections, metadata=metadata, missing=_missing(pages))


@dataclass(slots=True)
class _Pages:
    """The texts of the pages; the numbers, from 1, of those that are unreadable, and of those that are pictures."""

    texts: list[str] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    drawn: bool = False  # one without text shows something


def _why_blank(pages: _Pages) -> str:
    if pages.unreadable:
        return f"the pages cannot be read: {_UNREADABLE}"
    if not pages.texts:
        return "it has no pages"
    return "the pages are pictures (scanned?)" if pages.pictures or pages.drawn else "the pages are blank"


def _missing(pages: _Pages) -> str:
    """Say which pages of a document with text gave none, and why; pages that are blank lack nothing."""
    kinds = ((pages.unreadable, f"cannot be read: {_UNREADABLE}"), (pages.pictures, "without text but with a picture"))
    return "; ".join(
        f"{'page' if len(numbers) == 1 else 'pages'} {_ranges(numbers)} {why}" for numbers, why in kinds if numbers
    )


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as "3, 7-9"."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1][1:] = [number]
        else:
            groups.append([number])
    return ", ".join("-".join(map(str, group)) for group in groups)


def _pages(document: Any, error: type[Exception]) -> _Pages:  # noqa: ANN401
    """Read the pages one by one."""
    pages = _Pages()
    damaged = 0  # pages one after the other
    for number in range(1, len(document) + 1):
        if damaged == _MAX_DAMAGED_PAGES:  # a file may announce a million pages and hold none
            pages.unreadable += range(number, len(document) + 1)
            break
        try:
            raw, kinds = _page(document[number - 1])
        except error:
            damaged += 1
            pages.unreadable.append(number)
            pages.texts.append("")
            continue
        damaged = 0
        text, lost = _readable_lines(without_ligatures(raw))
        if lost > len(text):
            pages.unreadable.append(number)
        elif _PICTURE in kinds:
            pages.pictures.append(number)
        pages.drawn = pages.drawn or bool(kinds)
        pages.texts.append(text)
    return pages


def _page(page: Any) -> tuple[str, set[int]]:  # noqa: ANN401
    """Return the text of a page, and the kinds of what is drawn on it if it has none."""
    text_page = page.get_textpage()
    raw = text_page.get_text_range()
    kinds = set() if raw.strip() else {shown.type for shown in page.get_objects(max_depth=3)}
    text_page.close()
    page.close()
    return raw, kinds


def _readable_lines(raw: str) -> tuple[str, int]:
    """Return a page without the lines that are no characters but a font's own codes, and how much they held."""
    kept: list[str] = []
    lost = 0
    for line in raw.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if len(_CONTROLS.findall(line)) > _CONTROL_SHARE * len(line):
            lost += len(line)
        else:
            kept.append(_INVISIBLE.sub("", line).rstrip(" \t"))
    return "\n".join(kept).strip(), lost


def _mend_hyphens(pages: list[str]) -> list[str]:
    """Put the words together again that were hyphenated at a line's end."""
    if not any(_HYPHEN.search(page) for page in pages):
        return pages
    known = {match[0].lower() for page in pages for match in _WORD.finditer(page)}
    mended = []
    for page in pages:
        pieces = _HYPHEN.split(page)
        parts = [pieces[0]]
        for before, after in pairwise(pieces):
            parts += [_hyphen(before, after, known), after]
        mended.append("".join(parts))
    return mended


def _hyphen(before: str, after: str, known: set[str]) -> str:
    """Return "-" or "": how the document writes the word whose parts end `before` and begin `after`."""
    found = _LEFT_PART.search(before[-_PART_CHARACTERS:])
    left = found[0].lower() if found else ""
    right = _RIGHT_PART.match(after[:_PART_CHARACTERS])[0]  # type: ignore[index]  # matches everywhere
    joined, hyphenated = left + right.lower(), f"{left}-{right.lower()}"
    if (joined in known) != (hyphenated in known):
        return "-" if hyphenated in known else ""
    if not left or not right or "-" in left:
        return "-"
    return "-" if right[0].isupper() or right[0].isdigit() or left[-1].isdigit() else ""


def _join(pages: list[str]) -> tuple[str, tuple[Section, ...]]:
    """Join the pages that hold text, and note where each stands."""
    sections: list[Section] = []
    start = 0
    for number, page in enumerate(pages, 1):
        if page:
            sections.append(Section(span=Span(start=start, end=start + len(page)), page=number))
            start += len(page) + 2
    return "\n\n".join(page for page in pages if page), tuple(sections)


def _title(document: Any) -> str:  # noqa: ANN401
    """Return the title of the document's metadata, "" when it is a program's filler."""
    try:
        title = one_line(without_ligatures(document.get_metadata_value("Title").replace("\0", "")))
    except ValueError:  # bytes that are not UTF-16
        return ""
    title = re.sub(r"^Microsoft (?:Office )?(?:Word|PowerPoint|Excel)\s*[-–]\s*", "", title)
    if PurePosixPath(title.lower()).suffix in _FILE_SUFFIXES or _NO_TITLE.match(title) or "\ufffd" in title:
        return ""
    return title
