"""Messy files through the whole path: what is in the index afterwards, and what the report says of each file."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

import bombs
import pytest
from ingest_files import docx_bytes, pdf_bytes
from ingest_runs import index, reasons
from test_docx import small

from odqa import pipeline

pytestmark = pytest.mark.usefixtures("_fake_models")

LANGUAGES = {
    "arabic.txt": ("القاهرة هي عاصمة مصر. يقع النيل في مصر.", "القاهرة", "النيل"),
    "hebrew.txt": ("ירושלים היא בירת ישראל. הים גדול.", "ירושלים", "הים"),
    "chinese.txt": ("北京,中国的首都。故宫 很大。", "北京", "故宫"),
    "japanese.txt": ("東京は日本の首都です。「東京タワー」は赤い。", "東京は日本の首都です", "東京タワー"),
    "korean.txt": ("서울은 대한민국의 수도이다. 남산타워가 있다.", "서울은", "남산타워가"),
    "thai.txt": ("กรุงเทพมหานคร เป็นเมืองหลวง", "กรุงเทพมหานคร", "เป็นเมืองหลวง"),
    "greek.txt": ("Η Αθήνα είναι πρωτεύουσα.", "Αθήνα", "πρωτεύουσα"),
    "russian.txt": ("Москва стоит на реке.", "Москва", "реке"),
    "hindi.txt": ("दिल्ली भारत की राजधानी है।", "दिल्ली", "राजधानी"),
    "mixed.txt": (
        "The שלום word \u202bمرحبا\u202c and \u2067עברית\u2069 e\u0301te\u0301 🙂 𠮷野家 end.",
        "word",
        "𠮷野家",
    ),
}

# ---- languages and characters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_every_script_is_kept_and_its_words_are_found(docs: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    report = index(docs, {name: (mark + text).encode(encoding) for name, (text, *_) in LANGUAGES.items()})
    assert reasons(report) == {}
    with pipeline.open(docs.parent / "index") as qa:
        for name, (text, *words) in LANGUAGES.items():
            document = qa.document(f"docs/{name}")
            assert document is not None
            assert document.text == text
            for word in words:
                for mode in ("text", "hybrid"):
                    best = qa.search(word, mode=mode, top_k=1)[0].passage
                    assert (best.doc_id, word in best.text) == (f"docs/{name}", True)


def test_a_byte_order_mark_is_no_text(docs: Path) -> None:
    mark = b"\xef\xbb\xbf"
    files = {
        "a.txt": mark + b"The gull steals.",
        "b.md": mark + b"# Gulls\n\nThe gull steals.",
        "c.html": mark + b"<title>Gulls</title><p>The gull steals.",
        "d.jsonl": mark + b'{"id": "one", "text": "The gull steals."}\n',
        "e.jsonl.gz": gzip.compress(mark + b'{"id": "one", "text": "The gull steals."}\n'),
    }
    assert reasons(index(docs, files)) == {}
    with pipeline.open(docs.parent / "index") as qa:
        texts = {doc_id: qa.document(doc_id) for doc_id in qa.doc_ids()}
    assert {document.text[:1] for document in texts.values() if document} == {"T", "#"}
    assert texts["docs/b.md"] is not None
    assert texts["docs/b.md"].title == "Gulls"


def test_control_characters_and_halves_of_characters(docs: Path) -> None:
    steady = "The gull of Skarn steals chips from the harbour, and nobody minds. " * 3
    files = {
        "few.txt": f"{steady}\x1b[31m\x07 red\x9b1m".encode(),
        "many.txt": b"\x01\x02\x03 text \x04\x05",
        "nul.txt": b"a\0b",
        "nul.html": b"<p>The gull\0 steals.",
        "surrogate.txt": "The gull \ud800 steals.".encode("utf-8", "surrogatepass"),
        "surrogate16.txt": b"\xff\xfe" + "The gull \ud800 steals.".encode("utf-16-le", "surrogatepass"),
        "surrogate.html": b"<p>The gull &#xD800; steals. &#0; &#x110000;",
        "lines.jsonl": b'{"text": "half \\ud800"}\n{"text": "nul \\u0000"}\n{"text": "esc \\u001b[31m kept"}\n',
    }
    report = index(docs, files)
    said = reasons(report)
    assert set(said) == {
        *("many.txt", "nul.txt", "nul.html", "surrogate.txt", "surrogate16.txt", "lines.jsonl:line 1"),
        "lines.jsonl:line 2",
    }
    assert said["many.txt"].startswith("not text: 5 of ")
    assert "NUL" in said["nul.txt"]
    assert "byte order mark of UTF-16-LE, but byte 18 is not" in said["surrogate16.txt"]
    with pipeline.open(docs.parent / "index") as qa:
        few, page = qa.document("docs/few.txt"), qa.document("docs/surrogate.html")
        assert few is not None
        assert few.text == files["few.txt"].decode()  # a document stays as it is; what shows it is careful
        assert page is not None
        page.text.encode()
        assert qa.search("red", mode="text")[0].passage.doc_id == "docs/few.txt"


def test_copies_of_a_document_are_documents_and_one_answer_with_its_places(docs: Path) -> None:
    same = b"The tower of Skarn was designed by Marchetti."
    report = index(docs, {"a.txt": same, "b/a.txt": same, "c.md": same})
    assert report.added == ("docs/a.txt", "docs/b/a.txt", "docs/c.md")
    with pipeline.open(docs.parent / "index") as qa:
        result = qa.query("Who designed the tower of Skarn?")
    assert len(result.answers) == 1
    assert {place.passage.doc_id for place in result.answers[0].places} == set(report.added)


# ---- JSON lines ----------------------------------------------------------------------------------------------------


def test_odd_json(docs: Path) -> None:
    long = "The gull steals. " * 10_000
    lines = {
        1: json.dumps({"text": long, "id": "long"}).encode(),
        2: b'{"text": "x", "deep": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        3: b'{"text": "x", "deep": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        4: b'{"text": "first", "text": "second"}',
        5: b'{"text": "x", "tags": {"a": 1, "a": 2}}',
        6: b'{"text": "numbers", "id": "n", "big": ' + b"9" * 100_000 + b', "small": -' + b"9" * 30 + b', "f": 1e308}',
        7: b'{"text": "x", "n": NaN}',
        8: b'{"text": "x", "n": -Infinity}',
        9: b'{"text": "x", "n": 1e400}',
        10: b'{"text": "x", "s": "' + b"y" * 16_777_216 + b'"}',
        11: b'{"text": "good", "id": "last", "a": {"b": [1, {"c": null}]}}',
    }
    report = index(docs, {"a.jsonl": b"\n".join(lines.values())})
    assert reasons(report) == {
        "a.jsonl:line 2": "not a record: nested too deeply",
        "a.jsonl:line 3": "not a record: nested too deeply",
        "a.jsonl:line 4": 'the key "text" stands twice in an object',
        "a.jsonl:line 5": 'the key "a" stands twice in an object',
        "a.jsonl:line 7": "not valid JSON: NaN is not a JSON number",
        "a.jsonl:line 8": "not valid JSON: -Infinity is not a JSON number",
        "a.jsonl:line 9": "a number is out of range",
        "a.jsonl:line 10": "longer than 16777216 bytes",
    }
    with pipeline.open(docs.parent / "index") as qa:
        document = qa.document("docs/a.jsonl#long")
        assert document is not None
        assert document.text == long
        numbers, last = qa.document("docs/a.jsonl#n"), qa.document("docs/a.jsonl#last")
    assert numbers is not None
    assert numbers.metadata == {"big": "9" * 100_000, "small": "-" + "9" * 30, "f": 1e308}
    assert last is not None
    assert last.metadata == {"a": '{"b": [1, {"c": null}]}'}


def test_a_gzip_bomb_ends_and_is_reported(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odqa.settings.UNPACK_ALLOWANCE_BYTES", 100_000)
    content = b'{"text": "good", "id": "a"}\n' + b" " * 9_000_000 + b"\n" + b"\n" * 9_000_000
    report = index(docs, {"a.jsonl.gz": gzip.compress(content)})
    assert report.added == ("docs/a.jsonl.gz#a",)
    assert reasons(report) == {"a.jsonl.gz:line 2": "unpacks to over 200 times its size: nothing from here on was read"}


# ---- every kind of file at once ------------------------------------------------------------------------------------


def test_the_report_says_what_happened_to_each_file(docs: Path) -> None:
    word = docx_bytes(small())
    lock = f" /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> /U <{'22' * 32}> >> /ID [<00> <00>]"
    files = {
        "good.txt": b"Good.",
        "good.docx": word,
        "good.pdf": pdf_bytes([["Good."]]),
        "half.pdf": pdf_bytes([["Good."], ["\\001\\003\\004\\005\\006 \\001\\003\\004"]]),
        "scan.pdf": bombs.raw_pdf(bombs.one_page(bombs.stream_object(b"0 0 50 50 re f"))),
        "blank.pdf": pdf_bytes([[]]),
        "locked.pdf": pdf_bytes([["x"]], trailer=lock),
        "loop.pdf": bombs.looping_tree(),
        "cut.pdf": pdf_bytes([["x"]])[:60],
        "cut.docx": word[:1000],
        "bomb.docx": bombs.with_entries(word, [("word/media/zeros.bin", bytes(90_000_000))]),
        "deep.html": b"<div>" * 10_000 + b"x",
        "blank.html": b"<html></html>",
        "empty.txt": b"",
        "picture.jpg": b"\xff\xd8",
        "noname": b"x",
        "cut.jsonl.gz": gzip.compress(b'{"text": "%s"}' % os.urandom(5000).hex().encode())[:2000],
        os.fsdecode(b"caf\xe9.txt"): b"In a name of another encoding.",
        r"caf\xe9.txt": b"In a name that looks like it.",
    }
    outside = docs.parent / "outside.txt"
    outside.write_bytes(b"The secret.")
    (docs / "link.txt").symlink_to(outside)
    (docs / "loop").symlink_to(docs)
    (docs / "device.txt").symlink_to("/dev/zero")
    os.mkfifo(docs / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(docs / "socket.txt"))
        report = index(docs, files)
    assert set(report.added) == {
        *("docs/good.txt", "docs/good.docx", "docs/good.pdf", "docs/half.pdf"),
        *(r"docs/caf\xe9.txt", r"docs/caf\\xe9.txt"),
    }
    said = reasons(report)
    assert set(said) == {
        *("scan.pdf", "blank.pdf", "locked.pdf", "loop.pdf", "cut.pdf", "cut.docx", "bomb.docx", "deep.html"),
        *("blank.html", "empty.txt", "picture.jpg", "noname", "cut.jsonl.gz:line 1", "link.txt", "loop", "device.txt"),
        *("pipe.txt", "socket.txt"),
    }
    assert said["scan.pdf"] == "no text: the pages are pictures (scanned?)"
    assert said["locked.pdf"] == "encrypted: save it without a password"
    assert said["pipe.txt"] == said["socket.txt"] == "not a regular file"
    assert said["link.txt"].startswith("symbolic link to a place outside")
    assert [Path(one.source).name for one in report.partial] == ["half.pdf"]
    assert report.partial[0].reason.startswith("page 2 cannot be read")
    again = index(docs, {})
    assert (again.unchanged, again.added, again.updated, again.vanished) == (6, (), (), ())
    assert reasons(again) == said


def test_links_out_of_the_folder_are_read_when_asked(docs: Path) -> None:
    outside = docs.parent / "elsewhere"
    outside.mkdir()
    (outside / "a.txt").write_bytes(b"The gull steals.")
    (docs / "link").symlink_to(outside)
    assert index(docs, {}).added == ()
    report = index(docs, {}, follow_links=True)
    assert report.added == ("docs/link/a.txt",)
    assert index(docs, {}, follow_links=True, prune=True).unchanged == 1
    without = index(docs, {}, prune=True)  # it is not gone, only not asked for
    assert (without.pruned, [Path(one.source).name for one in without.skipped]) == ((), ["link"])


def test_a_document_of_an_odd_name_is_pruned_only_when_it_is_gone(docs: Path) -> None:
    hidden = docs / ".drafts"
    hidden.mkdir()
    name = os.fsdecode(b"caf\xe9.txt")
    (hidden / name).write_bytes(b"A draft.")
    with pipeline.open(docs.parent / "index", create=True) as qa:
        assert qa.index([hidden]).added == (r".drafts/caf\xe9.txt",)
        assert qa.index([docs], prune=True).pruned == ()
        (hidden / name).unlink()
        assert qa.index([docs], prune=True).pruned == (r".drafts/caf\xe9.txt",)
