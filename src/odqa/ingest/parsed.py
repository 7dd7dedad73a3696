"""What every parser hands back, and the checks that all texts go through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from odqa.errors import IngestError
from odqa.types import Section, Span

MAX_TITLE_CHARACTERS = 300  # it stands with each passage, in the full-text index and before the encoder
MAX_REASON_CHARACTERS = 400  # a reason may quote the file
INSTALL_HINT = "pip install 'odqa[files]'"

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})


@dataclass(frozen=True, slots=True)
class Parsed:
    """The content of one file: its title ("" when the format names none), its text and the text's sections.

    `missing` says which part of the file could not be read, "" if all of it was.
    """

    title: str
    text: str
    sections: tuple[Section, ...] = ()
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    missing: str = ""


def one_line(text: str) -> str:
    """Join the words of a title or heading by single blanks."""
    return " ".join(text.split())


def shortened(text: str, *, most: int = MAX_REASON_CHARACTERS) -> str:
    """Return a text on one line, and only its beginning if it is longer than `most` characters."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[:most].rstrip()} …"


def words(listed: str) -> frozenset[str]:
    """Make a set of words that are separated by blanks."""
    return frozenset(listed.split())


def without_ligatures(text: str) -> str:
    """Write the ligatures of typesetting (U+FB00 to U+FB06) as letters, so that "ﬁle" is found as "file"."""
    return text.translate(_LIGATURES) if any(chr(sign) in text for sign in _LIGATURES) else text


def heading_sections(headings: list[tuple[int, str]], *, length: int) -> tuple[Section, ...]:
    """Make sections of headings `(position, heading)`, ascending: each reaches to the next, the last to `length`.

    Of several headings at one position the last one counts. Headings without text are kept: they end the section
    before them.
    """
    ends = [*(position for position, _ in headings[1:]), length]
    return tuple(
        Section(span=Span(start=start, end=end), heading=shortened(heading, most=MAX_TITLE_CHARACTERS))
        for (start, heading), end in zip(headings, ends, strict=False)
        if end > start
    )


def checked(parsed: Parsed) -> Parsed:
    """Refuse a document without text, and text that cannot be stored as UTF-8.

    Raises:
        IngestError: Only blanks, NUL, or a lone surrogate.
    """
    if not re.search(r"\S", parsed.text):
        raise IngestError("no text")
    if "\0" in parsed.text:
        raise IngestError("not text: it holds NUL characters")
    try:
        parsed.text.encode()
    except UnicodeEncodeError as error:
        raise IngestError(f"not text: a lone surrogate at character {error.start}") from error
    try:
        for text in (parsed.title, parsed.missing, *(one.heading or "" for one in parsed.sections)):
            text.encode()
    except UnicodeEncodeError as error:
        raise IngestError("not text: a lone surrogate in the title or a heading") from error
    return parsed
