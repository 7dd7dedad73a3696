"""Several reads in one transaction, and vectors that are newer than it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from store_cases import IDENTITY, WIDTH, prepared

from odqa.errors import OdqaError
from odqa.store.index import Index

QUERY = np.zeros((1, WIDTH), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Index.create(tmp_path / "index", IDENTITY) as index:
        index.write([prepared("a", "alpha whale"), prepared("b", "beta seal")])
        index.write_snapshot()
    return tmp_path / "index"


def seen(index: Index) -> dict[str, set[str]]:
    """Return the texts of all passages as dense and full-text search find them."""
    dense = index.search_dense(QUERY, top_k=50)[1][0]
    text = [i for i, _ in index.search_text("alpha OR beta OR new", top_k=50)]
    return {
        "dense": {passage.text for passage in index.passages(dense[dense >= 0].tolist()).values()},
        "text": {passage.text for passage in index.passages(text).values()},
    }


def both(*texts: str) -> dict[str, set[str]]:
    return {"dense": set(texts), "text": set(texts)}


def elsewhere(act: Callable[[], object]) -> object:
    """Act in another thread, and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def test_text_stays_as_it_was_at_the_first_read(folder: Path) -> None:
    with Index.open(folder) as reader, Index.open(folder, writable=True) as writer:
        with reader.one_state():
            assert seen(reader) == both("alpha whale", "beta seal")
            writer.write([prepared("c", "new orca")])
            writer.delete(["b"])
            assert seen(reader) == both("alpha whale", "beta seal")
            assert elsewhere(lambda: seen(reader)) == both("alpha whale", "new orca")
            # The vectors are another thread's, and newer: what is deleted is not among them any more.
            assert seen(reader) == {"dense": {"alpha whale"}, "text": {"alpha whale", "beta seal"}}
        assert seen(reader) == both("alpha whale", "new orca")
        writer.write([prepared("d", "new dugong")])
        assert seen(reader) == both("alpha whale", "new orca", "new dugong")


def test_vectors_that_are_first_read_meanwhile_come_from_the_newest_snapshot(folder: Path) -> None:
    with Index.open(folder) as reader, Index.open(folder, writable=True) as writer:
        with reader.one_state():
            assert reader.passages([1])[1].text == "alpha whale"
            writer.delete(["b"])
            writer.write([prepared("c", "new orca")])
            writer.write_snapshot()
            assert seen(reader) == {"dense": {"alpha whale"}, "text": {"alpha whale", "beta seal"}}
            assert reader.notices == ()
        assert seen(reader) == both("alpha whale", "new orca")


def test_each_thread_holds_its_own(folder: Path) -> None:
    turn = threading.Barrier(2)
    with Index.open(folder) as reader, Index.open(folder, writable=True) as writer, ThreadPoolExecutor(1) as pool:

        def hold() -> list[dict[str, set[str]]]:
            with reader.one_state(), reader.one_state():
                found = [seen(reader)]
                turn.wait(60)
                turn.wait(60)
                return [*found, seen(reader)]

        held = pool.submit(hold)
        turn.wait(60)
        writer.write([prepared("c", "new orca")])
        with reader.one_state():
            assert seen(reader) == both("alpha whale", "beta seal", "new orca")
        turn.wait(60)
        assert held.result() == [both("alpha whale", "beta seal")] * 2


def test_an_error_ends_it(folder: Path) -> None:
    with Index.open(folder) as reader, Index.open(folder, writable=True) as writer:
        with pytest.raises(ValueError, match="FTS5"), reader.one_state():
            reader.search_text('"', top_k=1)
        writer.write([prepared("c", "new orca")])
        assert seen(reader) == both("alpha whale", "beta seal", "new orca")
        with pytest.raises(OdqaError), reader.one_state():
            raise OdqaError
        writer.delete(["c"])
        assert seen(reader) == both("alpha whale", "beta seal")


def test_a_closed_index_gives_none(folder: Path) -> None:
    index = Index.open(folder)
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.one_state()
