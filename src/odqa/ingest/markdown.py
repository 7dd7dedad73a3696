"""Markdown -> its own text, with sections under ATX and Setext headings (CommonMark 0.31, sections 4.2, 4.3, 4.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from odqa.ingest.parsed import Parsed, heading_sections, one_line

_HEADING_CHARACTERS = 300  # a longer one is a paragraph in disguise and is cut
_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)")
_ATX = re.compile(r" {0,3}#{1,6}(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
# Lines above "---" that are no paragraph, so that the dashes are a rule or belong to a table.
_NO_PARAGRAPH = re.compile(r"\s*$|\t| {4}| {0,3}(?:[-*+>|]|\d{1,9}[.)]\s|#{1,6}\s|<)")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?)(?:^|\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_MARKUP = (
    (re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])"), r"\1"),  # links and pictures -> their text
    (re.compile(r"[ \t]*\{[#.][^{}]*\}$"), ""),  # {#anchor}
    (re.compile(r"(\*\*|__|`+|\*)(?=\S)(.+?)(?<=\S)\1"), r"\2"),  # emphasis and code
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)


def parse(text: str) -> Parsed:
    """Find the headings of a Markdown text; the text itself stays as it is, front matter included.

    The title is that of the front matter, else the first heading, else "".
    """
    front = _FRONT_MATTER.match(text)
    headings = list(_headings(text, start=front.end() if front else 0))
    title = _front_title(front[1]) if front else ""
    if not title:
        title = next((heading for _, heading in headings if heading), "")
    return Parsed(title=title, text=text, sections=heading_sections(headings, length=len(text)))


def _front_title(front: str) -> str:
    match = _FRONT_TITLE.search(front)
    title = match[1] if match else ""
    if len(title) > 1 and title[0] == title[-1] and title[0] in "\"'":
        title = title[1:-1]
    return one_line(title)


def _headings(text: str, *, start: int) -> Iterator[tuple[int, str]]:
    """Yield where each heading begins, and its words."""
    fence = ""
    paragraph: int | None = None  # where the paragraph above begins, which "===" would make a heading
    for match in _LINE.finditer(text, start):
        line = match[1]
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        elif mark:
            fence, paragraph = mark[1], None
        elif atx := _ATX.match(line):
            paragraph = None
            yield match.start(), _words(_without_closing_hashes(line[atx.end() :].strip()))
        elif paragraph is not None and _SETEXT.match(line):
            yield paragraph, _words(text[paragraph : match.start()])
            paragraph = None
        elif not line.strip() or (paragraph is None and _NO_PARAGRAPH.match(line)):
            paragraph = None
        elif paragraph is None:
            paragraph = match.start()


def _without_closing_hashes(heading: str) -> str:
    """Drop the hashes that may close an ATX heading; "C#" keeps its own."""
    words = heading.rstrip("#")
    return words.rstrip() if words[-1:] in {"", " ", "\t"} else heading


def _words(heading: str) -> str:
    """Take the markup out of a heading."""
    heading = one_line(heading)[:_HEADING_CHARACTERS]
    for pattern, replacement in _MARKUP:
        heading = pattern.sub(replacement, heading)
    return one_line(heading)
