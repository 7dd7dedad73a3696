"""What goes between odqa and its parser process: frames of plain data.

A frame is a length, 8 bytes, big-endian, and so many bytes. A request is two frames: JSON (`suffix`, `seconds` of
computing, `waiting` in seconds) and the file. A reply is one, JSON with one key: `parsed`, or `reason` why not, or
`memory` when that ran out. Nothing in a reply is trusted: a file that took over the parser could have written it.
"""

from __future__ import annotations

import json
import math
import struct
from typing import IO, Any

from odqa.ingest.parsed import Parsed
from odqa.types import Section, Span

READY = b"odqa parser 1"  # the first frame of the process: it has started
_LENGTH = struct.Struct(">Q")


def write(stream: IO[bytes], *frames: bytes) -> None:
    """Write frames and flush."""
    for frame in frames:
        stream.write(_LENGTH.pack(len(frame)))
        stream.write(frame)
    stream.flush()


def read(stream: IO[bytes], *, at_most: int) -> bytes:
    """Read one frame.

    Raises:
        EOFError: The stream ended before the frame did.
        ValueError: The frame is longer than `at_most` bytes; it is not read.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > at_most:
        raise ValueError(f"a frame of {length} bytes, the limit is {at_most}")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def parsed_fields(parsed: Parsed) -> dict[str, object]:
    """Return what a parser found as plain data."""
    return {
        "title": parsed.title,
        "text": parsed.text,
        "missing": parsed.missing,
        "sections": [[one.span.start, one.span.end, one.page, one.heading] for one in parsed.sections],
        "metadata": dict(parsed.metadata),
    }


def outcome(reply: bytes) -> tuple[Parsed | None, str]:
    """Read a reply: what was parsed, or None and the reason why nothing was.

    Raises:
        MemoryError: The parser process ran out of memory.
        ValueError: It is no reply.
    """
    try:
        fields = json.loads(reply)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict) or len(fields) != 1:
        raise ValueError("no reply")
    if fields.get("memory") is True:
        raise MemoryError
    if isinstance(fields.get("reason"), str):
        return None, fields["reason"]
    if "parsed" in fields:
        return _parsed_from(fields["parsed"]), ""
    raise ValueError("no reply")


def _parsed_from(fields: Any) -> Parsed:  # noqa: ANN401 - whatever JSON held
    """Make `Parsed` of plain data.

    Raises:
        ValueError: It is not what `parsed_fields` makes.
    """
    try:
        title, text, missing, metadata = (fields[name] for name in ("title", "text", "missing", "metadata"))
        sections = tuple(_section(*one) for one in fields["sections"])
    except (KeyError, TypeError) as error:
        raise ValueError("a field is missing or of another kind") from error
    if not all(isinstance(one, str) for one in (title, text, missing)) or not isinstance(metadata, dict):
        raise ValueError("a text is of another kind")
    if not all(map(_storable, metadata.values())):
        raise ValueError("a value of the metadata is of another kind")
    json.dumps(metadata, ensure_ascii=False).encode()  # a half of a surrogate pair is a ValueError, too
    ends = [0, *(one.span.end for one in sections)]
    if any(one.span.start < end for one, end in zip(sections, ends, strict=False)) or ends[-1] > len(text):
        raise ValueError("the sections are not in order, or not in the text")
    return Parsed(title=title, text=text, sections=sections, metadata=metadata, missing=missing)


def _storable(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, str)


def _section(start: object, end: object, page: object, heading: object) -> Section:
    if not isinstance(start, int) or not isinstance(end, int):
        raise TypeError
    if not isinstance(page, int | None) or not isinstance(heading, str | None):
        raise TypeError
    if start == end or (page is not None and not 0 < page < 2**31):
        raise ValueError("a section without text, or on no page")
    return Section(Span(start, end), page=page, heading=heading)


def to_json(value: object) -> bytes:
    """Write plain data as JSON; the texts of a file that passed `checked` are valid Unicode."""
    return json.dumps(value, ensure_ascii=False).encode()
