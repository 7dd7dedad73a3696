"""JSON lines, plain or gzip -> records, one line at a time, however large the file."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest.parsed import one_line

Scalar = str | int | float | bool | None

MAX_ID_CHARACTERS = 1000
_BOM = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAY_NOT_BE_TEXT = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)|\x00")
_PIECE_BYTES = 1024 * 1024
_MAX_LINE_FACTOR = 64  # a line longer than this many limits is not read to its end: the file is no JSON lines
_MAX_INTEGER = 2**63 - 1
_MAX_DIGITS = 4000  # Python reads 4,300 digits, so that no one makes it compute for hours
_REST = "nothing from here on was read"


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its line end, counted from 1; `reason` says why its bytes were not read, "" if they were."""

    number: int
    data: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JsonRecord:
    """A record's fields; `metadata` holds all others, those that are not scalars as JSON text."""

    record: str
    title: str
    text: str
    metadata: dict[str, Scalar]


def read_lines(
    stream: IO[bytes], *, compressed: bool, max_line_bytes: int = settings.MAX_RECORD_BYTES
) -> Iterator[Line]:
    """Read lines in bounded pieces; blank lines are counted and left out.

    A line longer than `max_line_bytes` and damage of the gzip stream are reported as lines with a reason; the lines
    before a damage are good, since each was whole.

    Raises:
        OSError: The file cannot be read any further, for another reason than its gzip stream.
    """
    source: IO[bytes] = gzip.GzipFile(fileobj=stream) if compressed else stream  # type: ignore[assignment]
    number = unpacked = 0
    try:
        while data := source.readline(max_line_bytes + 2):
            number += 1
            unpacked += len(data)
            if compressed and unpacked > settings.UNPACK_ALLOWANCE_BYTES and _is_bomb(unpacked, stream):
                yield Line(number, b"", f"unpacks to over {settings.MAX_UNPACK_RATIO} times its size: {_REST}")
                return
            content = data.removesuffix(b"\n").removesuffix(b"\r")
            if len(content) > max_line_bytes:
                ended = data.endswith(b"\n") or _drain(source, max_line_bytes)
                yield Line(
                    number, b"", f"longer than {max_line_bytes} bytes{'' if ended else '; nothing after it was read'}"
                )
                if not ended:
                    return
            elif number == 1 and content.startswith(_WIDE_MARKS):
                yield Line(number, b"", "UTF-16; JSON lines must be UTF-8; nothing of the file was read")
                return
            elif content.strip():
                yield Line(number, content.removeprefix(_BOM) if number == 1 else content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Line(number + 1, b"", f"damaged gzip, {_REST}: {one_line(str(error))}")


def _is_bomb(unpacked: int, packed: IO[bytes]) -> bool:
    """Tell whether more came out of a gzip stream, as far as it was read, than text and honest packing explain."""
    return unpacked > settings.MAX_UNPACK_RATIO * packed.tell()


def _drain(source: IO[bytes], max_line_bytes: int) -> bool:
    """Read on to the end of a line; return False when that is too far away."""
    for _ in range(_MAX_LINE_FACTOR * max(1, max_line_bytes // _PIECE_BYTES)):
        piece = source.readline(_PIECE_BYTES)
        if not piece or piece.endswith(b"\n"):
            return True
    return False


def parse_line(line: Line) -> JsonRecord:
    """Parse a line: `{"id": ..., "title": ..., "text": ..., ...}`; only the text is required.

    The record's name is its "id", a string or an integer, else "line-N" with N counted from 1.

    Raises:
        IngestError: The line is not UTF-8, not a JSON object, lacks a text, or holds what cannot be stored.
    """
    if line.reason:
        raise IngestError(line.reason)
    fields = _object(line.data)
    text = fields.pop("text", None)
    if not isinstance(text, str):
        raise IngestError('no "text"' if text is None else '"text" is not a string')
    if not re.search(r"\S", text):
        raise IngestError("no text")
    title = fields.pop("title", None)
    if not isinstance(title, str | None):
        raise IngestError('"title" is not a string')
    record = fields.pop("id", None)
    if isinstance(record, bool) or not isinstance(record, str | int | None):
        raise IngestError('"id" is neither a string nor an integer')
    if record == "":
        raise IngestError('"id" is empty; leave it out, or name the record')
    if len(str(record)) > MAX_ID_CHARACTERS:
        raise IngestError(f'"id" has {len(str(record))} characters, the limit is {MAX_ID_CHARACTERS}')
    return JsonRecord(
        record=f"line-{line.number}" if record is None else str(record),
        title=one_line(title or ""),
        text=text,
        metadata={key: _scalar(value) for key, value in fields.items()},
    )


def _object(data: bytes) -> dict[str, object]:
    try:
        fields = json.loads(
            data.decode("utf-8"), parse_constant=_no_constant, parse_int=_integer, object_pairs_hook=_unique
        )
        if _MAY_NOT_BE_TEXT.search(data) and "\0" in _plain(fields):
            raise IngestError("not text: it holds NUL characters")
    except UnicodeDecodeError as error:
        raise IngestError(f"not UTF-8 at byte {error.start} of the line") from error
    except UnicodeEncodeError as error:
        raise IngestError("not text: a lone surrogate (half of a \\u pair)") from error
    except RecursionError as error:
        raise IngestError("not a record: nested too deeply") from error
    except ValueError as error:
        raise IngestError(f"not valid JSON: {one_line(str(error))}") from error
    if not isinstance(fields, dict):
        raise IngestError("not a JSON object")
    return fields


def _plain(fields: object) -> str:
    """Return the strings of a record as they are; raises UnicodeEncodeError for lone surrogates."""
    text = json.dumps(fields, ensure_ascii=False)
    text.encode()
    return text.replace("\\u0000", "\0") if "\\\\" not in text else _unescaped(text)


def _unescaped(text: str) -> str:
    """Turn the escape of NUL into NUL, but not a backslash before the word u0000."""
    return re.sub(r"\\(?:u0000|.)", lambda match: "\0" if match[0] == "\\u0000" else match[0], text)


def _integer(digits: str) -> int | str:
    """Keep a number of thousands of digits, which Python refuses to read, as text."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that stands twice in an object: either of its values may be the one that is meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise IngestError(f'the key "{key}" stands twice in an object')
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _scalar(value: object) -> Scalar:
    """Keep a value that the store can hold as it is; write any other as JSON text."""
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        raise IngestError("a number is out of range")
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return str(value)
    if isinstance(value, str | int | float | None):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise IngestError("not a record: nested too deeply") from error
