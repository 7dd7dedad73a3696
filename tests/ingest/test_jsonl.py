import gzip
import hashlib
import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_files import write_file

from odqa.errors import IngestError
from odqa.ingest import jsonl
from odqa.ingest.loaders import Record, read_records
from odqa.types import SkippedFile


def test_records_become_documents(tmp_path: Path) -> None:
    first = {"id": "a/1", "title": " The\n title ", "text": "One.\r\n", "year": 1999, "ok": True, "x": None, "r": 0.5}
    second = {"id": 7, "text": "Two é", "tags": ["a", "ü"], "big": 2**70}
    lines = [json.dumps(first), "", json.dumps(second, ensure_ascii=False), '{"text": "Three"}']
    source = write_file(tmp_path, "corpus/a.jsonl", "\ufeff" + "\r\n".join(lines))
    records = [record for record in read_records(source) if isinstance(record, Record)]
    assert [record.record for record in records] == ["a/1", "7", "line-4"]
    documents = [record.load() for record in records]
    assert [document.text for document in documents] == ["One.\r\n", "Two é", "Three"]
    assert [document.title for document in documents] == ["The title", "", ""]
    assert [document.doc_id for document in documents] == [
        "corpus/a.jsonl#a/1",
        "corpus/a.jsonl#7",
        "corpus/a.jsonl#line-4",
    ]
    assert documents[0].metadata == {"year": 1999, "ok": True, "x": None, "r": 0.5}
    assert documents[1].metadata == {"tags": '["a", "ü"]', "big": str(2**70)}
    assert records[0].content_hash == hashlib.sha256(lines[0].encode()).hexdigest()
    assert documents[0].content_hash == records[0].content_hash
    assert documents[0].source == source.location
    assert documents[0].record == "a/1"


def test_gzip_gives_the_same_records(tmp_path: Path) -> None:
    content = b'{"id": "a", "text": "One"}\n{"id": "b", "text": "Two"}\n'
    plain = write_file(tmp_path, "a.jsonl", content)
    packed = write_file(tmp_path, "a.jsonl.gz", gzip.compress(content[:27]) + gzip.compress(content[27:]))
    for left, right in zip(read_records(plain), read_records(packed), strict=True):
        assert isinstance(left, Record)
        assert isinstance(right, Record)
        assert (left.record, left.content_hash, left.load().text) == (
            right.record,
            right.content_hash,
            right.load().text,
        )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON: "),
        ('{"text": "x", "score": NaN}', "not valid JSON: NaN is not a JSON number"),
        ('{"text": "x", "score": 1e999}', "a number is out of range"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", 'no "text"'),
        ('{"text": null}', 'no "text"'),
        ('{"text": 3}', '"text" is not a string'),
        ('{"text": " \\n "}', "no text"),
        ('{"text": "x", "title": 3}', '"title" is not a string'),
        ('{"text": "x", "id": true}', '"id" is neither a string nor an integer'),
        ('{"text": "x", "id": 1.5}', '"id" is neither a string nor an integer'),
        ('{"text": "x", "id": ""}', '"id" is empty'),
        ('{"text": "half a pair \\ud83d"}', "not text: a lone surrogate"),
        ('{"text": "x", "note": {"\\ud83d": 1}}', "not text: a lone surrogate"),
        ('{"text": "a hole \\u0000"}', "not text: it holds NUL characters"),
        ("[" * 100_000, "not a record: nested too deeply"),
        (b'{"text": "caf\xe9"}', "not UTF-8 at byte 13 of the line"),
    ],
)
def test_bad_lines_are_reported_by_their_number(tmp_path: Path, line: str | bytes, reason: str) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    source = write_file(tmp_path, "a.jsonl", b'{"text": "good"}\n' + bad + b'\n{"text": "good"}\n')
    first, skipped, last = read_records(source)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert last.record == "line-3"
    assert isinstance(skipped, SkippedFile)
    assert skipped.source == f"{source.location}:line 2"
    assert skipped.reason.startswith(reason)


def test_good_pairs_and_escaped_backslashes_are_text(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00 \\\\u0000 \\\\ud83d"}')
    [record] = read_records(source)
    assert isinstance(record, Record)
    assert record.load().text == "😀 \\u0000 \\ud83d"


def test_a_second_record_of_the_same_name_is_reported(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}\n')
    _, skipped = read_records(source)
    assert skipped == SkippedFile(
        source=f"{source.location}:line 2", reason='the id "1" stands on an earlier line already'
    )


def test_a_truncated_gzip_is_reported_after_its_good_lines(tmp_path: Path) -> None:
    lines = b"".join(b'{"text": "%s"}\n' % hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(1000))
    packed = gzip.compress(lines)
    source = write_file(tmp_path, "a.jsonl.gz", packed[: len(packed) // 2])
    *good, last = read_records(source)
    assert 100 < len(good) < 1000
    assert all(isinstance(record, Record) for record in good)
    assert isinstance(last, SkippedFile)
    assert last.source == f"{source.location}:line {len(good) + 1}"
    assert last.reason.startswith("damaged gzip, nothing from here on was read")


@pytest.mark.parametrize("content", [b"not gzip at all", gzip.compress(b"{}") + b"rubbish"])
def test_damaged_gzip_is_reported(tmp_path: Path, content: bytes) -> None:
    *_, last = read_records(write_file(tmp_path, "a.jsonl.gz", content))
    assert isinstance(last, SkippedFile)
    assert "damaged gzip" in last.reason


def test_utf16_is_named_once(tmp_path: Path) -> None:
    source = write_file(tmp_path, "a.jsonl", '{"text": "x"}\n{"text": "y"}\n'.encode("utf-16"))
    [skipped] = read_records(source)
    assert isinstance(skipped, SkippedFile)
    assert skipped.reason.startswith("UTF-16")


def test_long_lines_are_drained_and_very_long_ones_end_the_file() -> None:
    limit = 100
    fits, long = b"a" * limit, b"b" * (limit + 1)
    lines = list(jsonl.read_lines(io.BytesIO(fits + b"\r\n" + long + b"\nc"), compressed=False, max_line_bytes=limit))
    assert [(line.number, line.data, line.reason) for line in lines] == [
        (1, fits, ""),
        (2, b"", "longer than 100 bytes"),
        (3, b"c", ""),
    ]
    bomb = gzip.compress(b"\n" + b" " * (70 * 1024 * 1024))
    lines = list(jsonl.read_lines(io.BytesIO(bomb), compressed=True, max_line_bytes=limit))
    assert [line.reason for line in lines] == ["longer than 100 bytes; nothing after it was read"]


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(str.strip),
    st.booleans(),
)
def test_whatever_json_writes_is_read_back(metadata: dict[str, object], text: str, escaped: bool) -> None:
    for name in ("id", "title", "text"):
        metadata.pop(name, None)
    line = json.dumps({**metadata, "text": text}, ensure_ascii=escaped).encode()
    found = jsonl.parse_line(jsonl.Line(3, line))
    assert found.text == text
    assert found.record == "line-3"
    wanted = {
        key: str(value) if isinstance(value, int) and abs(value) >= 2**63 else value for key, value in metadata.items()
    }
    assert found.metadata == wanted


@given(st.binary(max_size=50))
def test_no_line_does_worse_than_an_ingest_error(data: bytes) -> None:
    with pytest.raises(IngestError):
        jsonl.parse_line(jsonl.Line(1, data))


def test_names_and_reasons_are_bounded(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    lines = [{"id": long, "text": "a"}, {"text": "b", "title": f"{'word ' * 100_000}"}, {"id": 10**999, "text": "c"}]
    content = "\n".join(json.dumps(line) for line in lines) + f'\n{{"{long}": 1, "{long}": 2}}\n'
    skipped, titled, numbered, doubled = read_records(write_file(tmp_path, "a.jsonl", content))
    assert isinstance(skipped, SkippedFile)
    assert skipped.reason == '"id" has 1000000 characters, the limit is 1000'
    assert isinstance(titled, Record)
    assert titled.load().title == ("word " * 60).strip() + " …"
    assert isinstance(numbered, Record)
    assert numbered.record == str(10**999)
    assert isinstance(doubled, SkippedFile)
    assert len(doubled.reason) < 500


def test_a_line_of_ten_megabytes_is_read_and_a_key_among_many_found_twice() -> None:
    text = "The gull steals. " * 620_000
    found = jsonl.parse_line(jsonl.Line(1, json.dumps({"text": text}).encode()))
    assert found.text == text
    keys = ",".join(f'"{number}":1' for number in range(300_000))
    with pytest.raises(IngestError, match='the key "299999" stands twice in an object'):
        jsonl.parse_line(jsonl.Line(1, f'{{"text": "x", {keys}, "299999": 2}}'.encode()))


def test_json_of_any_shape_is_read_or_refused_in_bounded_time() -> None:
    size = 2_000_000
    for filler in (b"[],", b"{},", b'{"a":1},', b'"\\u00e9",', b"1,", b"1e5,", b"null,"):
        line = b'{"text": "x", "a": [' + filler * (size // len(filler)) + b"0]}"
        began = time.process_time()
        assert jsonl.parse_line(jsonl.Line(1, line)).text == "x"
        assert time.process_time() - began < 20
    for number in (b"9" * size, b"0." + b"9" * size, b"1" + b"0" * size + b".5", b"1e-" + b"9" * 1000):
        began = time.process_time()
        jsonl.parse_line(jsonl.Line(1, b'{"text": "x", "n": [' + number[:size] + b"]}"))
        assert time.process_time() - began < 20
