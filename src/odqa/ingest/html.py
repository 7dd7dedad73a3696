"""HTML and XHTML -> visible text of the main content, with sections under h1 to h6.

Blocks stand apart by an empty line, lines of a list, `br` and rows of a table by a line end, cells of a row by " | ".
Left out: scripts, styles, templates, noscript, form controls, hidden elements; readings above ideographs (`rt`), soft
hyphens, signs that link to a heading; and navigation, page header, footer and asides, if text remains without them.
`main`, or else the articles, count as the page when they hold enough of its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from odqa.errors import IngestError
from odqa.ingest.parsed import INSTALL_HINT, Parsed, heading_sections, one_line, words

_DROPPED = words(
    "script style template noscript head iframe object embed applet svg canvas audio video map select datalist "
    "textarea input button noframes rt rp"
)
_BOILERPLATE = words("nav header footer aside menu")
_BOILERPLATE_ROLES = words("navigation banner contentinfo complementary search")
_EVERYTHING = _BOILERPLATE | {"hidden"}
_HEADINGS = words("h1 h2 h3 h4 h5 h6")
_PARAGRAPHS = words(
    "p div section article main aside header footer nav blockquote pre ul ol dl table figure form fieldset address "
    "details hr center body html listing xmp"
)
_LINES = words("li tr dt dd caption summary legend figcaption")
_CELLS = frozenset(("td", "th"))
_PREFORMATTED = frozenset(("pre", "listing", "xmp"))
_BLANKS = re.compile(r"[ \t\n\r\f]+")  # a no-break space stays
_META_CHARSET = re.compile(rb"""<meta\b[^<>]*?charset\s*=\s*["']?\s*([A-Za-z0-9_:.\-]+)""", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"""^\s*<\?xml\b[^<>]*?encoding\s*=\s*["']([A-Za-z0-9_:.\-]+)""")
# In XHTML `<script src="x"/>` is complete; an HTML parser would take the rest of the page for the script.
_SELF_CLOSED = re.compile(
    r"<(script|style|title|textarea|iframe|noscript|template|a|p|div|span|td|th|li)(\s[^<>]*)?/>", re.I
)
_XHTML = re.compile(r"""<html\b[^<>]*xmlns\s*=\s*["']http://www\.w3\.org/1999/xhtml""", re.I)
_DTD = re.compile(r"<!DOCTYPE[^<>\[\]]*\[.*?\]\s*>", re.I | re.DOTALL)  # one with definitions: not part of the text
_MAX_CELL_CHARACTERS = 500  # a table with a longer cell is there for the layout of the page


def declared_charset(data: bytes) -> str:
    """Return the charset that a page names for itself in its first 4 KiB, "" for none."""
    match = _XML_CHARSET.search(data[:4096]) or _META_CHARSET.search(data[:4096])
    return match[1].decode("ascii") if match else ""


def parse(text: str) -> Parsed:
    """Extract the visible text of a page. Nothing is fetched, and no entity is read from outside.

    The title is that of the head, else the first h1, else "".

    Raises:
        IngestError: lxml is not installed, or the page cannot be parsed.
    """
    try:
        from lxml import etree
    except ImportError as error:
        raise IngestError(f"HTML needs the extra: {INSTALL_HINT}") from error
    if definitions := _DTD.match(text, max(0, text[:4096].upper().find("<!DOCTYPE"))):
        text = text[: definitions.start()] + text[definitions.end() :]
    if _XHTML.search(text[:4096]):
        text = _SELF_CLOSED.sub(r"<\1\2></\1>", text)
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True, recover=True
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.LxmlError, UnicodeEncodeError) as error:
        raise IngestError(f"damaged HTML: {error}") from error
    if root is None:
        raise IngestError("no text")
    if any("depth" in entry.message.lower() for entry in parser.error_log):
        raise IngestError("damaged HTML: elements are nested too deeply")
    writer = _write(root)
    head_title = root.find("head/title")
    title = one_line("".join(map(str, head_title.itertext()))) if head_title is not None else ""
    first = next((heading for _, level, heading in writer.headings if level == "h1" and heading), "")
    written = writer.text()
    headings = [(position, heading) for position, _, heading in writer.headings if heading]
    return Parsed(title=title or first, text=written, sections=heading_sections(headings, length=len(written)))


def _write(root: Any) -> _Writer:  # noqa: ANN401 - lxml, which is imported at use, has no types
    """Write the main content; if that is blank, the page with its boilerplate, then even with what is hidden."""
    body = root.find("body")
    page = body if body is not None else root
    writer = _Writer()
    for tops, keep in ((_main_content(page), frozenset[str]()), ([page], _BOILERPLATE), ([page], _EVERYTHING)):
        writer = _Writer()
        for top in tops:
            _walk(top, writer, keep=keep)
        if writer.length:
            break
    return writer


def _main_content(page: Any) -> list[Any]:  # noqa: ANN401
    """Return the elements that hold the content: `main`, else the outermost articles, else the page."""
    total = _characters(page)
    main = next(page.iter("main"), None)
    if main is None:
        main = next((element for element in page.iter("div", "section") if element.get("role") == "main"), None)
    if main is not None and _characters(main) >= max(1.0, 0.2 * total):
        return [main]
    articles = [element for element in page.iter("article") if next(element.iterancestors("article"), None) is None]
    if articles and sum(_characters(element) for element in articles) >= max(1.0, 0.5 * total):
        return articles
    return [page]


def _characters(top: Any) -> int:  # noqa: ANN401
    """Count the characters below an element, without blanks and scripts."""
    count = 0
    for element in top.iter():
        own = "" if element.tag in _DROPPED else element.text or ""
        for text in (own, "" if element is top else element.tail or ""):
            count += sum(map(len, text.split()))
    return count


def _walk(top: Any, writer: _Writer, *, keep: frozenset[str]) -> None:  # noqa: ANN401
    """Write an element and all below it, without recursion: pages are nested as deep as their maker liked."""
    stack = [(top, iter(top))] if _enter(top, writer, keep=keep) else []
    while stack:
        element, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            writer.leave(element.tag)
            if stack:
                writer.write(element.tail or "")
        elif _enter(child, writer, keep=keep):
            stack.append((child, iter(child)))
        else:
            writer.write(child.tail or "")


def _enter(element: Any, writer: _Writer, *, keep: frozenset[str]) -> bool:  # noqa: ANN401
    """Begin an element; return whether what stands below it is wanted."""
    tag = element.tag
    if not isinstance(tag, str) or tag in _DROPPED or _left_out(element, inside=writer.articles, keep=keep):
        return False
    if tag == "tr" and writer.tables and writer.tables[-1] and not "".join(element.itertext()).strip():
        return False
    writer.enter(tag, rows=tag == "table" and _holds_rows(element))
    writer.write(element.text or "")
    return True


def _left_out(element: Any, *, inside: int, keep: frozenset[str]) -> bool:  # noqa: ANN401
    """Tell whether an element is hidden, boilerplate, or a sign that links to a heading."""
    tag = element.tag
    if tag == "a" and (element.text or "").strip() in {"¶", "#", "§"} and not len(element):
        return True
    if "hidden" not in keep:
        style = (element.get("style") or "").replace(" ", "").lower()
        if element.get("hidden", "until-found") != "until-found" or "display:none" in style:
            return True
    if keep or (tag == "header" and inside):  # the header of an article or of `main` holds its headline
        return False
    return tag in _BOILERPLATE or element.get("role") in _BOILERPLATE_ROLES


def _holds_rows(table: Any) -> bool:  # noqa: ANN401
    """Tell a table of data from one that arranges the page: no table within, no long cell."""
    if next(table.iterdescendants("table"), None) is not None:
        return False
    return all(len("".join(cell.itertext())) <= _MAX_CELL_CHARACTERS for cell in table.iterdescendants("td", "th"))


@dataclass(slots=True)
class _Writer:
    """The text so far, and the break that is due before the next word."""

    parts: list[str] = field(default_factory=list)
    headings: list[tuple[int, str, str]] = field(default_factory=list)  # position, level, words
    length: int = 0
    breaks: int = 0  # line ends due
    blank: bool = False  # a blank is due
    held: str = ""  # line ends of preformatted text, due unless a break follows
    preformatted: int = 0
    articles: int = 0
    tables: list[bool] = field(default_factory=list)  # of the open tables: is it written in rows?
    cells: int = 0  # cells so far of the row that is being written
    heading: tuple[int, int] | None = None  # position and part where the open heading begins

    def text(self) -> str:
        return "".join(self.parts).rstrip()

    def enter(self, tag: str, *, rows: bool) -> None:
        in_rows = bool(self.tables and self.tables[-1])
        if tag == "br":
            self.break_line(min(2, self.breaks + 1))
        elif tag in _PARAGRAPHS or tag in _HEADINGS:
            self.break_line(2)
        elif tag in _CELLS and in_rows:
            self.begin_cell()
        elif tag in _LINES or tag in _CELLS:
            self.break_line(1)
        if tag == "tr":
            self.begin_row()
        elif tag == "table":
            self.tables.append(rows)
        elif tag in _HEADINGS and not in_rows:
            self.heading = (-1, len(self.parts))
        self.preformatted += tag in _PREFORMATTED
        self.articles += tag in {"article", "main"}

    def leave(self, tag: str) -> None:
        if tag in _HEADINGS and self.heading is not None:
            position, part = self.heading
            if position >= 0:
                self.headings.append((position, tag, one_line("".join(self.parts[part:]))))
            self.heading = None
        if tag in {"table", "tr"}:
            self.cells = 0
        if tag == "table":
            self.tables.pop()
        if tag in _PARAGRAPHS or tag in _HEADINGS:
            self.break_line(2)
        elif tag in _LINES:
            self.break_line(1)
        self.preformatted -= tag in _PREFORMATTED
        self.articles -= tag in {"article", "main"}

    def begin_row(self) -> None:
        if self.tables and self.tables[-1]:
            self.cells = 0
            self.breaks = max(self.breaks, 1)

    def begin_cell(self) -> None:
        if self.cells:
            self.blank = True
            self.put("|")
            self.blank = True
        self.cells += 1

    def break_line(self, breaks: int) -> None:
        """Ask for line ends before the next word; inside a row of a table they are a blank."""
        if self.cells and self.tables and self.tables[-1]:
            self.blank = True
        else:
            self.breaks = max(self.breaks, breaks)

    def write(self, raw: str) -> None:
        """Write text as the page shows it: runs of blanks are one, except in preformatted text."""
        raw = raw.replace("\u00ad", "")
        if self.preformatted and not self.cells:
            body = raw.replace("\r\n", "\n").rstrip("\n")
            if body.strip() or (body and not self.breaks):
                self.put(body.lstrip("\n") if self.breaks else body)
                self.held = ""
            self.held += raw[len(raw.rstrip("\n")) :]
            return
        shown = _BLANKS.sub(" ", raw)
        core = shown.strip(" ")
        self.blank = self.blank or shown.startswith(" ")
        if core:
            self.put(core)
            self.blank = shown.endswith(" ")

    def put(self, shown: str) -> None:
        """Append text after the break or blank that is due."""
        due = ""
        if self.length:
            due = "\n" * self.breaks or self.held or " " * self.blank
        if due:
            self.append(due)
        if self.heading is not None and self.heading[0] < 0:
            self.heading = (self.length, len(self.parts))
        self.append(shown)
        self.breaks, self.blank, self.held = 0, False, ""

    def append(self, shown: str) -> None:
        self.parts.append(shown)
        self.length += len(shown)
