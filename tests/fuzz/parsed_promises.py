"""What holds for everything that a parser hands back."""

from __future__ import annotations

import math
from collections.abc import Callable

from odqa.errors import IngestError
from odqa.ingest.parsed import Parsed, checked
from odqa.types import Document


def check_parser(parse: Callable[[bytes], Parsed], data: bytes) -> None:
    """Parse; the result is a storable document, or the reason is one line of words."""
    try:
        parsed = checked(parse(data))
    except IngestError as error:
        check_reason(str(error))
        return
    check_parsed(parsed)


def check_reason(reason: str) -> None:
    assert reason
    assert reason == reason.strip()
    assert "\n" not in reason


def check_parsed(parsed: Parsed) -> None:
    assert parsed.text.strip()
    parsed.text.encode()
    assert "\0" not in parsed.text
    assert parsed.title == " ".join(parsed.title.split())
    end = 0
    for section in parsed.sections:
        assert end <= section.span.start < section.span.end <= len(parsed.text)
        assert section.page is None or section.page >= 1
        (section.heading or "").encode()
        end = section.span.end
    check_metadata(dict(parsed.metadata))


def check_metadata(metadata: dict[str, object]) -> None:
    for key, value in metadata.items():
        assert isinstance(key, str)
        key.encode()
        assert value is None or isinstance(value, str | int | float | bool)
        if isinstance(value, str):
            value.encode()
        if isinstance(value, int) and not isinstance(value, bool):
            assert abs(value) < 2**63
        if isinstance(value, float):
            assert math.isfinite(value)


def check_document(document: Document) -> None:
    check_parsed(Parsed(document.title, document.text, document.sections, document.metadata))
