"""An index from outside: what is written is read, what is deleted is gone, what does not fit is refused."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_cases import IDENTITY, WIDTH, brute_force, prepared, vectors_of

from odqa.errors import IndexMismatchError, NoIndexError
from odqa.protocols import PreparedDocument
from odqa.store.index import Index
from odqa.store.metadata_writer import _existing
from odqa.types import Document, Section, Span

QUERY = np.zeros((1, WIDTH), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


def _found(index: Index, word: str) -> set[str]:
    return {p.doc_id for p in index.passages([i for i, _ in index.search_text(word, top_k=1000)]).values()}


def test_documents_and_passages_come_back_as_they_were(folder: Path) -> None:
    sections = (Section(Span(0, 10), page=1), Section(Span(10, 30), heading="Zwei\u2028"), Section(Span(30, 41)))
    text = "Über \0 null, \U0001f40b whale \ud800 lone; " + "x" * 12
    one = prepared(
        "a", text, sections=sections, metadata={"n": 1, "f": 1.5, "t": True, "z": None, "s": "\0é"}, title="T"
    )
    with Index.create(folder, IDENTITY) as index:
        assert index.write([one]) == ["a"]
        assert index.document("a") == one.document
        assert index.document("b") is None
        found = sorted(index.passages(range(1, 10)).values(), key=lambda p: p.passage_id)
        assert [p.text for p in found] == [span.of(text) for span in one.spans]
        assert [p.span for p in found] == list(one.spans)
        assert found[0].sections == sections[:2] and found[1].sections == sections[1:]
        assert (found[0].title, found[0].source, found[0].metadata) == ("T", "/docs/a", one.document.metadata)
        assert _found(index, "whale") == _found(index, "null") == {"a"}
        index.delete(["a"])
        assert index.search_text("whale OR null OR lone", top_k=9) == []
    assert Index.check(folder).clean


def test_passages_across_blocks_of_a_huge_document(folder: Path) -> None:
    text = "".join(chr(0x1F600 + n % 50) if n % 3 else "a" for n in range(100_000))
    spans = tuple(
        Span(s, e) for s, e in ((0, 5), (32_760, 32_768), (32_767, 32_769), (32_768, 98_305), (99_999, 100_000))
    )
    document = Document("big", "", text, "/big")
    with Index.create(folder, IDENTITY) as index:
        index.write([PreparedDocument(document, spans, np.zeros((5, WIDTH), dtype=np.float32))])
        assert [index.passages([i])[i].text for i in range(1, 6)] == [span.of(text) for span in spans]
        assert index.document("big") == document


def test_replacing_keeps_the_id_and_forgets_the_old_text(folder: Path) -> None:
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("a", "ancient walrus"), prepared("b", "other")])
        index.search_dense(QUERY, top_k=3)
        assert index.write([prepared("renamed", "modern seal", source="/docs/a")]) == ["a"]
        assert index.document("a").text == "modern seal"
        assert _found(index, "walrus") == set() and _found(index, "seal") == {"a"}
        assert index.search_dense(QUERY, top_k=3)[1].tolist()[0].count(1) == 0
        assert len(index) == 2 and index.status().tombstones == 1
        assert index.passages([1]) == {}


def test_doc_ids_of_other_sources_get_numbers(folder: Path) -> None:
    with Index.create(folder, IDENTITY) as index:
        assert index.write([prepared("a", "1", source="/1"), prepared("a", "2", source="/2")]) == ["a", "a~2"]
        assert index.write([prepared("a", "3", source="/3"), prepared("a~2", "4", source="/4")]) == ["a~3", "a~2~2"]
        index.delete(["a~2"])
        assert index.write([prepared("a", "5", source="/5"), prepared("a", "1b", source="/1")]) == ["a~2", "a"]
        assert index.write([prepared("r", "6", source="/6", record=str(n)) for n in range(3)]) == ["r", "r~2", "r~3"]
        assert [(r, doc_id) for _, doc_id, _, r in index.documents_under("/6")] == [
            ("0", "r"),
            ("1", "r~2"),
            ("2", "r~3"),
        ]


def test_documents_without_passages_and_without_text(folder: Path) -> None:
    empty = PreparedDocument(Document("e", "", "", "/e"), (), np.zeros((0, WIDTH), dtype=np.float32))
    with Index.create(folder, IDENTITY) as index:
        assert index.write([]) == []
        assert index.status().generation == 0
        assert index.write([empty]) == ["e"]
        assert index.document("e").text == "" and len(index) == 0
        assert index.search_dense(QUERY, top_k=1)[1].tolist() == [[-1]]
        assert index.delete(["e", "e", "nobody"]) == ["e"]
        assert index.delete(["nobody"]) == [] and index.status().generation == 2
        index.write_snapshot()
        index.compact()
    assert Index.check(folder).clean


@pytest.mark.parametrize(
    "change, message",
    [
        ({"spans": (Span(0, 99),), "vectors": QUERY}, "no passage of 4"),
        ({"spans": (Span(2, 2),), "vectors": QUERY}, "no passage of 4"),
        ({"spans": ()}, "0 spans and 1 vectors"),
        ({"vectors": np.zeros((1, 3), dtype=np.float32)}, "needed"),
        ({"vectors": np.full((1, WIDTH), np.nan, dtype=np.float32)}, "finite"),
        ({"document": Document("a", "\ud800", "text", "/a")}, "surrogates"),
        ({"document": Document("", "", "text", "/a")}, "doc_id is empty"),
        ({"document": Document("a", "", "text", "/a", metadata={"x": float("nan")})}, "JSON cannot hold"),
        ({"document": Document("a", "", "text", "/a", metadata={"x": [1]})}, "neither text"),
    ],
)
def test_unfit_documents_are_refused_whole(folder: Path, change: dict[str, Any], message: str) -> None:
    with Index.create(folder, IDENTITY) as index:
        good = prepared("good", "text")
        with pytest.raises(ValueError, match=message):
            index.write([good, dataclasses.replace(prepared("a", "text"), **change)])
        with pytest.raises(ValueError, match="same source and record"):
            index.write([good, good])
        assert index.doc_ids() == [] and index.status().generation == 0


def test_documents_under_a_location(folder: Path) -> None:
    sources = ["/d", "/d/a", "/d/b/c", "/d0", "/d!", "/e"]
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared(source, "x", source=source) for source in sources])
        index.write([prepared("r", f"y{n}", source="/d/many.jsonl", record=f"{n:04}") for n in range(1203)])
        under = list(index.documents_under("/d"))
        assert [s for _, _, s, r in under if not r] == ["/d", "/d/a", "/d/b/c"]
        assert [r for _, _, _, r in under if r] == [f"{n:04}" for n in range(1203)]
        assert [s for _, _, s, _ in index.documents_under("/d/a")] == ["/d/a"]
        assert len(list(index.documents_under("/"))) == len(index.doc_ids()) == len(sources) + 1203
        pending: list[str] = []
        for _, doc_id, _, _ in index.documents_under("/d"):  # deleting while reading
            pending.append(doc_id)
            if len(pending) == 300:
                index.delete(pending)
                pending = []
        index.delete(pending)
        assert sorted(s for _, _, s, _ in index.documents_under("/")) == ["/d!", "/d0", "/e"]


def test_text_search_ranks_and_weighs(folder: Path) -> None:
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("t", "nothing here", title="Whales"), prepared("x", "whale song", title="Music")])
        index.write([prepared("same1", "plain reef", title="R"), prepared("same2", "plain reef", title="R")])
        by_title = index.search_text("whale", top_k=5, title_weight=10.0)
        by_text = index.search_text("whale", top_k=5, text_weight=10.0)
        assert [i for i, _ in by_title] == [1, 2] and [i for i, _ in by_text] == [2, 1]
        assert all(score > 0 for _, score in by_title)
        ties = index.search_text("reef", top_k=5)
        assert [i for i, _ in ties] == [3, 4] and ties[0][1] == ties[1][1]
        assert index.search_text("reef", top_k=1) == ties[:1]
        assert index.search_text("reef", top_k=5, allowed=np.array([4, 77])) == ties[1:]
        assert index.search_text("reef", top_k=5, allowed=np.empty(0, dtype=np.int64)) == []
        assert index.search_text("  ", top_k=5) == []
        for bad in ('"open', "AND", "nocolumn:x", "a b)"):
            with pytest.raises(ValueError, match="not an FTS5 query"):
                index.search_text(bad, top_k=5)
        with pytest.raises(ValueError, match="top_k"):
            index.search_text("reef", top_k=0)


def test_missing_index_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(NoIndexError, match=re.escape(f"no index in {folder}: make one with `odqa index FOLDER")):
        Index.open(folder)
    assert not folder.exists()


def test_mismatches_say_what_made_the_index_and_touch_nothing(folder: Path) -> None:
    Index.create(folder, IDENTITY).close()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    for change in ({"name": "other"}, {"revision": "r2"}, {"checksum": "d" * 64}, {"width": 9}):
        other = dataclasses.replace(IDENTITY, encoder=dataclasses.replace(IDENTITY.encoder, **change))
        for writable in (False, True):
            with pytest.raises(
                IndexMismatchError, match=r"was made by encoder name='tiny'.*was given: use the encoder"
            ):
                Index.open(folder, expected=other, writable=writable)
    with pytest.raises(IndexMismatchError, match="passage_tokens=384"):
        Index.open(folder, expected=dataclasses.replace(IDENTITY, passage_tokens=200))
    with pytest.raises(IndexMismatchError, match="already"):
        Index.create(folder, IDENTITY)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before
    Index.open(folder, expected=IDENTITY).close()


def test_closed_and_read_only_indexes_say_so(folder: Path) -> None:
    index = Index.create(folder, IDENTITY)
    index.close()
    index.close()
    with pytest.raises(ValueError, match="is closed"):
        index.doc_ids()
    with Index.open(folder) as reader, pytest.raises(ValueError, match="writable=True"):
        reader.write([prepared("a", "x")])


def test_status_counts(folder: Path) -> None:
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("a", "x" * 50), prepared("b", "y")])
        assert index.status().snapshot_generation is None
        index.write_snapshot()
        index.delete(["b"])
        status = index.status()
        assert (status.documents, status.passages, status.tombstones, status.generation) == (1, 3, 1, 2)
        assert (status.encoder, status.encoder_revision, status.passage_tokens) == ("tiny", "r1", 384)
        assert (status.snapshot_generation, status.snapshot_bytes) == (1, 128 + 4 * (WIDTH * 2 + 8))
        assert status.metadata_bytes > 0 and status.path == str(folder)


WORDS = [f"word{n}" for n in range(40)]


@pytest.mark.parametrize("seed", range(4))
def test_random_walk_against_a_dictionary(folder: Path, seed: int) -> None:
    """Add, update, delete, compact, snapshot, reopen: always equal to a dict; ids never return, nor deleted text."""
    rng = random.Random(seed)
    model: dict[str, str] = {}
    used_ids: set[int] = set()
    index = Index.create(folder, IDENTITY)
    reader = Index.open(folder)
    serial = 0
    for _ in range(40):
        action = rng.choice(["write", "write", "write", "delete", "snapshot", "compact", "reopen"])
        if action == "write":
            batch = {f"d{rng.randrange(12)}": "" for _ in range(rng.randrange(1, 4))}
            for doc_id in batch:
                serial += 1
                batch[doc_id] = " ".join(rng.choices(WORDS, k=rng.randrange(1, 12))) + f" serial{serial}"
            index.write([prepared(doc_id, text) for doc_id, text in batch.items()])
            model |= batch
            now = {p.passage_id for p in index.passages(range(1, 3000)).values() if p.doc_id in batch}
            assert not now & used_ids
            used_ids |= now
        elif action == "delete" and model:
            doomed = rng.sample(sorted(model), k=min(len(model), 2))
            assert index.delete(doomed) == doomed
            for doc_id in doomed:
                del model[doc_id]
        elif action == "snapshot":
            index.write_snapshot()
        elif action == "compact":
            index.compact()
            assert index.status().tombstones == 0
        elif action == "reopen":
            index.close()
            index = Index.open(folder, writable=True)
        _assert_equals_model(rng.choice([index, reader]), model, rng)
    reader.close()
    index.close()
    assert Index.check(folder).problems == ()


def _assert_equals_model(index: Index, model: dict[str, str], rng: random.Random) -> None:
    assert index.doc_ids() == sorted(model)
    living = index.passages(range(1, 3000))
    assert len(index) == len(living)
    assert sorted((p.doc_id, p.text) for p in living.values()) == sorted(
        (doc_id, one.document.text[span.start : span.end])
        for doc_id, text in model.items()
        for one in [prepared(doc_id, text)]
        for span in one.spans
    )
    vectors = {i: vectors_of([repr(p.text)])[0] for i, p in living.items()}
    query = vectors_of([str(rng.random())])
    distances, ids = index.search_dense(query, top_k=7)
    expected = brute_force(vectors, query[0], top_k=7)
    assert (distances[0].tolist(), ids[0].tolist()) == expected
    word = rng.choice(WORDS)
    with_word = {i for i, p in living.items() if word in p.text.split()}
    assert {i for i, _ in index.search_text(word, top_k=1000)} == with_word


def test_writing_looks_documents_up_by_index(folder: Path) -> None:
    """A batch must not scan all documents: the plan of every statement of a replacement uses an index."""
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("a", "x"), prepared("b", "y")])
        with index._store.reading() as connection:
            statements: list[str] = []
            connection.connection.driver_connection.set_trace_callback(statements.append)
            _existing(connection, [("/docs/a", ""), ("/docs/b", "")])
            connection.connection.driver_connection.set_trace_callback(None)
            plan = [row[3] for s in statements for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + s)]
    assert any("SEARCH d USING" in step for step in plan) and not any("SCAN d" in step for step in plan)
