"""Bytes of one file -> `Parsed`. One table says which function parses which suffix, and which need a process."""

from __future__ import annotations

from collections.abc import Callable

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest import docx, encodings, html, markdown, pdf
from odqa.ingest.parsed import Parsed, checked, shortened


def _plain(data: bytes) -> Parsed:
    return Parsed(title="", text=encodings.decode(data))


def _markdown(data: bytes) -> Parsed:
    return markdown.parse(encodings.decode(data))


def _html(data: bytes) -> Parsed:
    return html.parse(encodings.decode(data, declared=html.declared_charset(data)))


PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    ".docx": docx.parse,
    ".htm": _html,
    ".html": _html,
    ".markdown": _markdown,
    ".md": _markdown,
    ".pdf": pdf.parse,
    ".text": _plain,
    ".txt": _plain,
    ".xhtml": _html,
}
# Native parsers and unpackers: a file may crash them, keep them for ever or make them take all memory. The others are
# ours, and take time and memory in proportion to the size of the file.
ISOLATED = frozenset((".docx", ".htm", ".html", ".pdf", ".xhtml"))


def parse(suffix: str, data: bytes) -> Parsed:
    """Parse the bytes of a file, here and now.

    Raises:
        IngestError: They cannot be parsed, for whatever reason but a lack of memory.
        MemoryError: There is too little memory.
        KeyError: No parser knows the suffix.
    """
    parser = PARSERS[suffix]
    try:
        parsed = checked(parser(data))
    except IngestError as error:
        raise IngestError(shortened(str(error))) from error
    except Exception as error:
        if isinstance(error, MemoryError) or "memory allocation failed" in str(error).lower():  # as libxml2 says it
            raise MemoryError from error
        raise IngestError(shortened(f"the parser failed: {type(error).__name__}: {error}")) from error
    if len(parsed.text) > settings.MAX_TEXT_CHARACTERS:
        raise IngestError(
            f"its text has {len(parsed.text)} characters, the limit is {settings.MAX_TEXT_CHARACTERS}; split the file"
        )
    return parsed
