"""Bytes as the reply of a parser process that a file has taken over."""

from __future__ import annotations

import contextlib

from fuzz_frame import Target
from parsed_promises import check_parsed

from odqa.errors import IngestError
from odqa.ingest import wire
from odqa.ingest.parsed import Parsed, checked
from odqa.types import Section, Span

GOOD = Parsed(
    title="A title",
    text="The gull steals chips.",
    sections=(Section(Span(0, 8), page=1), Section(Span(9, 22), heading="Gulls")),
    metadata={"a": 1, "b": None, "c": 0.5, "d": "é"},
    missing="page 2",
)


def check(data: bytes) -> None:
    """Whatever passes can be stored; titles, which are put on one line later, may have any blanks."""
    with contextlib.suppress(ValueError, MemoryError, IngestError):
        parsed, reason = wire.outcome(data)
        if parsed is not None:
            found = checked(parsed)
            try:
                check_parsed(Parsed("", found.text, found.sections, found.metadata))
            except ValueError as error:
                raise AssertionError from error
        else:
            assert isinstance(reason, str)


TARGET = Target(
    "reply",
    check,
    lambda: [wire.to_json({"parsed": wire.parsed_fields(GOOD)}), b'{"reason": "no text"}', b'{"memory": true}'],
    tokens=(
        *b'{ } [ ] , : " parsed reason memory text title sections metadata missing null true NaN -1 1e999'.split(),
        *(b"\\ud800", b"\\u0000", b"99999999999999999999", b"[" * 2000),
    ),
)
