"""Bytes as a PDF. The parser is native code: the tests try inputs in a process of their own."""

from __future__ import annotations

import atexit
from functools import cache

from fuzz_frame import Target
from parsed_promises import check_parser

from odqa.ingest.isolation import ParserProcess
from odqa.ingest.parsers import PARSERS

SMALL = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>> endobj
4 0 obj <</Length 45>> stream
BT /F 9 Tf 9 90 Td (The gull steals a-) Tj T* (b) Tj ET
endstream endobj
5 0 obj <</Type/Font/Subtype/Type1/BaseFont/Helvetica>> endobj
6 0 obj <</Title(A title)>> endobj
trailer <</Root 1 0 R/Info 6 0 R/Size 7>>
%%EOF
"""


def check(data: bytes) -> None:
    check_parser(PARSERS[".pdf"], data)


@cache
def process() -> ParserProcess:
    made = ParserProcess()
    atexit.register(made.__exit__, None, None, None)
    return made


def replay(data: bytes) -> None:
    check_parser(lambda data: process().parse(".pdf", data), data)


TARGET = Target(
    "pdf",
    check,
    lambda: [SMALL, SMALL.replace(b"Kids[3 0 R]", b"Kids[2 0 R]"), SMALL.replace(b"/Count 1", b"/Count 99999999")],
    tokens=tuple(
        b"endobj endstream stream obj xref trailer startxref /Type /Pages /Kids /Count /Parent /Contents /Length "
        b"/Filter /FlateDecode /ASCIIHexDecode /LZWDecode /ObjStm /XRef /Prev /Encrypt /Root /Info << >> [ ] ( ) "
        b"<00FEFF> 0 -1 4294967296 2 0 R /ToUnicode /Type0 /CIDFontType2 BT ET Tj TJ Do %%EOF /Title".split()
    ),
    replay=replay,
)
