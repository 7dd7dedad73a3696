"""Which indexes `odqa.open` takes, and which it refuses without touching them."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_models
import pytest
from fake_models import doc_ids, frozen_state

from odqa import pipeline, settings
from odqa.errors import (
    IndexMismatchError,
    LockedIndexError,
    ModelError,
    NoIndexError,
    UnknownModelError,
)
from odqa.store.folder import make_database
from odqa.store.lock import FolderLock


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return fake_models.write_index(tmp_path)


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(NoIndexError, match=r"no index in .*nowhere: make one with `odqa index FOLDER --index-dir"):
        pipeline.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"encoder": fake_models.READER}, "model fake-reader is a reader, not an encoder; name an encoder"),
        ({"reader": fake_models.ENCODER}, "model fake-encoder is an encoder, not a reader; name a reader"),
        ({"encoder": "nobody"}, "no model is named 'nobody'; use one of: fake-encoder, other-encoder$"),
    ],
)
def test_a_wrong_model_makes_no_index(tmp_path: Path, names: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        pipeline.open(tmp_path / "index", create=True, **names)  # type: ignore[arg-type]
    assert not (tmp_path / "index").exists()


def test_an_empty_index(tmp_path: Path) -> None:
    with pipeline.open(tmp_path / "index", create=True) as qa:
        for ask in (qa.query, qa.search):
            with pytest.raises(NoIndexError, match="is empty: put documents in with `odqa index"):
                ask("ship")
        assert qa.status().documents == 0


def test_the_index_folder_comes_from_the_environment(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODQA_INDEX_DIR", str(index_dir))
    with pipeline.open() as qa:
        assert qa.status().path == str(index_dir)


def test_another_encoder(index_dir: Path) -> None:
    before = frozen_state(index_dir)
    with pytest.raises(IndexMismatchError, match=r"made by encoder name='fake-encoder'.*'other-encoder'.*use the"):
        pipeline.open(index_dir, encoder="other-encoder")
    with pytest.raises(IndexMismatchError):
        pipeline.open(index_dir, encoder="other-encoder", create=True)
    assert frozen_state(index_dir) == before


def test_another_revision_of_the_same_encoder(index_dir: Path) -> None:
    with sqlite3.connect(index_dir / "odqa.sqlite") as connection:
        connection.execute("UPDATE index_info SET encoder_revision = '0'")
    connection.close()
    before = frozen_state(index_dir)
    for options in ({}, {"writable": True}, {"create": True}):
        with pytest.raises(IndexMismatchError, match=r"revision='0'.*revision='1'"):
            pipeline.open(index_dir, **options)
    assert frozen_state(index_dir) == before


def test_an_encoder_that_nobody_knows(index_dir: Path) -> None:
    with sqlite3.connect(index_dir / "odqa.sqlite") as connection:
        connection.execute("UPDATE index_info SET encoder = 'lost-encoder'")
    connection.close()
    before = frozen_state(index_dir)
    with pytest.raises(IndexMismatchError, match=r"made by encoder 'lost-encoder', which this odqa does not have"):
        pipeline.open(index_dir, create=True)
    with pytest.raises(UnknownModelError, match="'no-such'"):
        pipeline.open(index_dir, encoder="no-such")
    with pytest.raises(UnknownModelError, match="'no-such'"):
        pipeline.open(index_dir, reader="no-such")
    assert frozen_state(index_dir) == before


def test_other_passage_settings(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PASSAGE_TOKENS", 200)
    with pytest.raises(IndexMismatchError, match="passage_tokens=384"):
        pipeline.open(index_dir)


def test_a_newer_schema(index_dir: Path) -> None:
    with sqlite3.connect(index_dir / "odqa.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = frozen_state(index_dir)
    for options in ({}, {"create": True}):
        with pytest.raises(IndexMismatchError, match="has schema 99"):
            pipeline.open(index_dir, **options)
    assert frozen_state(index_dir) == before


def test_one_writer_and_any_reader(index_dir: Path) -> None:
    with pipeline.open(index_dir, writable=True) as writer:
        with pytest.raises(LockedIndexError, match="process"):
            pipeline.open(index_dir, writable=True)
        with pipeline.open(index_dir) as reader:
            assert doc_ids(reader, "gull")[0] == "docs/gulls.txt"
            writer.delete(["docs/gulls.txt"])
            assert "docs/gulls.txt" not in doc_ids(reader, "gull")
            with pytest.raises(ValueError, match="opened for reading"):
                reader.delete(["docs/whales.md"])
    with pipeline.open(index_dir, writable=True):
        pass  # the lock was given back


def test_an_index_made_by_another_process_meanwhile_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    lock = FolderLock.acquire(folder)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pipeline.open, folder, create=True, wait_seconds=30)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        make_database(folder, fake_models.identity())
        lock.release()
        with waiting.result(timeout=30) as qa:
            assert qa.status().documents == 0


def test_close_twice(index_dir: Path) -> None:
    qa = pipeline.open(index_dir, writable=True)
    qa.close()
    qa.close()
    with pytest.raises(ValueError, match="is closed"):
        qa.query("ship")
