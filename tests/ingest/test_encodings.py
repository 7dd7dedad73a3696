import builtins
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.errors import IngestError
from odqa.ingest.encodings import decode

RUSSIAN = "Однажды, в студеную зимнюю пору, я из лесу вышел; был сильный мороз."
JAPANESE = "東京は日本の首都です。人口は多い。カタカナも使う。"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_utf8_comes_back_as_it_was(text: str) -> None:
    assert decode(text.encode()) == text.removeprefix("\ufeff")


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_marks_and_wide_encodings(name: str) -> None:
    assert decode("A line\r\nand another.".encode(name)) == "A line\r\nand another."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cp866", RUSSIAN),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp1252", "These “smart” quotes need no other sign."),
        ("cp1252", "Café à la crème, naïve façade – élève."),
        ("latin-1", "5 × 3 = 15 ± 2"),
        ("cp1250", "Dnes je krásný den a všichni jsou venku, žluoučký kůň úpěl."),
        ("cp1253", "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας."),
        ("cp1254", "Türkiye'nin başkenti Ankara'dır, en büyük şehri İstanbul'dur."),
        ("cp1256", "القاهرة هي عاصمة مصر وأكبر مدنها"),
        ("shift_jis", JAPANESE),
        ("euc_jp", JAPANESE),
        ("gb18030", "北京是中国的首都，人口很多。"),
        ("euc_kr", "서울은 대한민국의 수도이다."),
    ],
)
def test_other_encodings_are_detected(name: str, text: str) -> None:
    assert decode(text.encode(name)) == text


def test_a_declared_charset_counts_only_where_it_fits() -> None:
    greek = "Η Αθήνα είναι η πρωτεύουσα"
    assert decode(greek.encode("iso8859-7"), declared="ISO-8859-7") == greek
    assert decode(greek.encode(), declared="iso-8859-7") == greek
    assert decode(RUSSIAN.encode("cp866"), declared="utf-8") == RUSSIAN
    assert decode("“Zitat”".encode("cp1252"), declared="iso-8859-1") == "“Zitat”"
    assert decode("日本".encode("iso2022_jp"), declared="iso-2022-jp") == "日本"


@pytest.mark.parametrize("declared", ["no-such-charset", "base64", "unicode_escape", "utf-16", "ü", "\0"])
def test_a_useless_declaration_does_no_harm(declared: str) -> None:
    assert decode(RUSSIAN.encode("cp1251"), declared=declared) == RUSSIAN
    assert decode(b"plain \\u0041", declared=declared) == "plain \\u0041"


def test_line_ends_and_empty_files_stay_as_they_are() -> None:
    assert decode(b"a\r\nb\rc\n") == "a\r\nb\rc\n"
    assert decode(b"") == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text\0with a hole", "not text: it holds NUL bytes"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "not text: it holds NUL bytes"),
        (b"\x01\x02\x03\x04 text", "not text: 4 of 9 characters are control characters"),
        (b"\xff\xfea\0b", "begins with the byte order mark of UTF-16-LE, but byte 2 is not UTF-16-LE"),
        ("fünf Äpfel, süße Öle\n".encode() + b"\xff bad", "damaged UTF-8: byte 26 (line 2)"),
    ],
)
def test_what_is_not_text_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(IngestError) as caught:
        decode(data)
    assert str(caught.value).startswith(reason)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(IngestError, match=r"not UTF-8; pip install 'odqa\[files\]' to detect other encodings"):
        decode(RUSSIAN.encode("cp1251"))


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_ingest_error(data: bytes) -> None:
    try:
        text = decode(data)
    except IngestError:
        return
    assert isinstance(text, builtins.str)
    assert "\0" not in text
    assert "\ufffd" not in text or b"\xef\xbf\xbd" in data or data[:2] in {b"\xff\xfe", b"\xfe\xff"}
