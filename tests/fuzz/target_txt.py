"""Bytes as a text file: any encoding, or a reason."""

from __future__ import annotations

from fuzz_frame import Target
from parsed_promises import check_parser

from odqa.ingest.parsers import PARSERS

SENTENCE = "The Łódź café sells naïve gulls for 3 €. Москва 東京 القاهرة\r\n"


def check(data: bytes) -> None:
    check_parser(PARSERS[".txt"], data)


def seeds() -> list[bytes]:
    coded = [SENTENCE.encode(name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")]
    coded += ["Der Bär trägt größere Äpfel.\n".encode("cp1252"), "Москва стоит на реке.\n".encode("koi8-r")]
    coded += ["東京は日本の首都です。\n".encode(name) for name in ("cp932", "euc_jp")]
    return [*coded, "北京是中国的首都。\n".encode("gb18030"), "القاهرة مدينة.\n".encode("cp1256"), b"plain ASCII\n"]


TARGET = Target(
    "txt",
    check,
    seeds,
    tokens=(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\x1b$B", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x1a"),
)
