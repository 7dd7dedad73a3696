"""What is measured on: given files or the sample corpus, made texts and vectors, and indexes of them."""

from __future__ import annotations

import gzip
import itertools
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import disk
import material
from made_index import ServingEncoder, build, grouped
from material import MadeText, MadeVectors, Piece
from odqa import settings
from odqa.store.index import Index

WIDTH = 1024  # of the bundled encoder, whose identity made indexes have


def rows(count: int) -> np.ndarray:
    values = np.random.default_rng(5).standard_normal((count, WIDTH), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_given_files_are_read(tmp_path: Path) -> None:
    squad = tmp_path / "squad.json.gz"
    content = {"data": [{"paragraphs": [{"context": "A b.", "qas": [{"question": "What?"}, {"question": "Who?"}]}]}]}
    squad.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert material.paragraphs(squad) == [Piece("", "A b.")]
    assert material.questions(squad) == ["What?", "Who?"]
    (tmp_path / "b.jsonl").write_text('{"title": "T", "text": "second"}\n', encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "first"}\n'))
    assert list(material.articles(tmp_path)) == [Piece("", "first"), Piece("T", "second")]


def test_without_files_the_sample_corpus_is_taken() -> None:
    texts = [piece.text for piece in material.paragraphs(None)]
    assert len(texts) >= 10
    assert min(len(text.split()) for text in texts) >= material.PARAGRAPH_WORDS
    assert len(material.questions(None)) >= 50
    assert any(piece.title == "skarnhaven" for piece in material.articles(None))


def test_made_words_are_as_frequent_as_those_given() -> None:
    text = MadeText(["red red red", "blue"]).text(20_000)
    words = text.replace(".", "").split()
    assert len(words) == 20_000
    assert set(words) == {"red", "blue"}
    assert abs(words.count("red") / len(words) - 0.75) < 0.01
    assert MadeText(["red red red", "blue"]).text(20_000) == text


def test_real_pieces_come_before_made_ones() -> None:
    real = [Piece("t", "one two"), Piece("u", "three")]
    assert list(material.enough(real, 1, words=3)) == real[:1]
    found = list(material.enough(real, 4, words=3))
    assert found[:2] == real
    assert [len(piece.text.split()) for piece in found] == [2, 1, 3, 3]
    assert {word.strip(".") for piece in found[2:] for word in piece.text.split()} <= {"one", "two", "three"}


def test_full_passages_are_full_and_as_many_as_asked_for() -> None:
    words = material.tokenizer()
    found = material.full_passages(None, 4)
    lengths = [len(words.encode(piece.text).ids) for piece in found]
    assert len(found) == 4
    assert min(lengths) >= material.FULL_TOKENS
    assert max(lengths) <= settings.PASSAGE_TOKENS


def test_documents_are_cut_as_odqa_cuts_them(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_text(json.dumps({"title": "T", "text": "A sentence of words. " * 200}), "utf-8")
    first, second = material.documents(tmp_path / "w.jsonl", 2)
    assert len(first) > 1
    assert first[0].title == "T"
    assert second[0].title.startswith("Made")


def test_items_are_chosen_evenly_and_repeated_where_there_are_too_few() -> None:
    assert material.chosen(list("abcdef"), 3) == ["a", "c", "e"]
    assert material.chosen(["a", "b"], 5) == ["a", "b", "a", "b", "a"]


def test_the_step_of_made_vectors_is_the_median_distance_to_a_neighbour() -> None:
    base = rows(40)
    distances = np.linalg.norm(base[:, None] - base[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    made = MadeVectors(base)
    assert made.step == pytest.approx(np.median(distances.min(axis=1)), rel=1e-4)


def test_made_vectors_are_the_same_in_every_run_and_have_length_1() -> None:
    base = rows(10)
    few = np.concatenate(list(MadeVectors(base).blocks(4100)))
    more = np.concatenate(list(MadeVectors(base).blocks(5000)))
    assert few.shape == (4100, WIDTH)
    assert np.array_equal(few[:4096], more[:4096])
    assert np.linalg.norm(few, axis=1) == pytest.approx(1.0, abs=1e-5)
    # In the space of real vectors: what is left over by the best combination of them is nothing.
    rest = few[:50] - few[:50] @ np.linalg.pinv(base) @ base
    assert np.abs(rest).max() < 1e-4


def test_a_made_index_holds_the_pieces_under_their_vectors(tmp_path: Path) -> None:
    pieces = [Piece(f"title {number // 2}", f"the text of passage {number}") for number in range(5)]
    vectors = rows(8)
    assert build(tmp_path / "index", grouped(pieces, 2), iter([vectors[:3], vectors[3:]])) == 5
    with Index.open(tmp_path / "index") as index:
        assert index.status().documents == 3
        for number, piece in enumerate(pieces):
            distances, ids = index.search_dense(vectors[number : number + 1], top_k=1)
            assert distances[0, 0] < 1e-3
            found = index.passages([int(ids[0, 0])])[int(ids[0, 0])]
            assert (found.title, found.text) == (piece.title, piece.text)


def test_a_serving_encoder_gives_rows_in_order_and_begins_again() -> None:
    table = rows(3)
    encoder = ServingEncoder(table)
    found = [encoder.encode_passages(["x", "y"], titles=["", ""]), encoder.encode_questions(["z", "w"])]
    assert np.array_equal(np.concatenate(found), table[[0, 1, 2, 0]])


def test_the_parts_of_an_index_add_up_to_its_files(tmp_path: Path) -> None:
    pieces = [Piece("title", f"the text of passage {number} " * 40) for number in range(60)]
    build(tmp_path / "index", grouped(pieces, 6), iter([rows(60)]))
    try:
        parts = dict(disk.parts(tmp_path / "index"))
    except sqlite3.OperationalError as error:  # a SQLite that was built without the table that tells it
        assert "dbstat" in str(error)
        return
    assert sum(parts.values()) == disk.folder_bytes(tmp_path / "index")
    assert parts["vectors in SQLite"] >= 60 * WIDTH * 2
    assert parts["text"] >= sum(len(piece.text) for piece in itertools.islice(pieces, 60)) / 40
    assert parts["files beside it (snapshot)"] >= 60 * WIDTH * 2
