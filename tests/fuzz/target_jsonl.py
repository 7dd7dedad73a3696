"""Bytes as JSON lines, plain and as a gzip stream."""

from __future__ import annotations

import gzip
import io

from fuzz_frame import Target
from parsed_promises import check_metadata, check_reason

from odqa.errors import IngestError
from odqa.ingest import jsonl

MAX_LINE_BYTES = 1000
LINES = b"""{"id": "a", "title": "T", "text": "One.", "year": 1999, "ok": true, "x": null, "r": 0.5}
{"id": 7, "text": "Tw\\u00f6 \\ud83d\\ude00", "tags": ["a", {"b": [1, 2e3]}], "big": 123456789012345678901234567890}

{"text": "Three"}
"""


def check(data: bytes) -> None:
    for content, compressed in ((data, False), (data, True), (gzip.compress(data, 1), True)):
        previous = 0
        for line in jsonl.read_lines(io.BytesIO(content), compressed=compressed, max_line_bytes=MAX_LINE_BYTES):
            assert line.number > previous
            previous = line.number
            assert len(line.data) <= MAX_LINE_BYTES
            try:
                record = jsonl.parse_line(line)
            except IngestError as error:
                check_reason(str(error))
                continue
            assert record.record
            assert record.text.strip()
            assert "\0" not in record.text
            for text in (record.record, record.title, record.text):
                text.encode()
            check_metadata(dict(record.metadata))


TARGET = Target(
    "jsonl",
    check,
    lambda: [LINES, gzip.compress(LINES), b"\xef\xbb\xbf" + LINES, LINES.replace(b"\n", b"\r\n")],
    tokens=(
        *b'{ } [ ] " : , \\u0000 \\ud800 \\udc00 \\\\ \\" NaN Infinity -Infinity 1e999 -0 1e-999'.split(),
        *(b'"text"', b'"id"', b'"title"'),
        *(b"true", b"null", b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 300, b"9" * 400, b"\x1f\x8b\x08"),
    ),
)
