"""Kill the writer at every fault point: the index opens, holds a state between two transactions, and can go on."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crash_child import WIDTH, contents, prepared, run, states

import odqa.store.faults
from odqa.store.index import Index

# Every point of an undisturbed run of crash_child.py, and how often it is passed (see `_passings`).
PASSINGS = {
    "create.before-rename": 1,
    "create.after-rename": 1,
    "write.begin": 3,
    "write.before-commit": 3,
    "write.after-commit": 3,
    "delete.begin": 1,
    "delete.before-commit": 1,
    "delete.after-commit": 1,
    "snapshot.before-write": 3,
    "snapshot.mid-write": 3,
    "snapshot.before-fsync": 3,
    "snapshot.before-rename": 3,
    "snapshot.after-rename": 3,
    "snapshot.after-cleanup": 3,
    "compact.before-commit": 1,
    "compact.after-commit": 1,
    "compact.after-vacuum": 1,
    "compact.after-checkpoint": 1,
}
# Each point at its first passing and, where it matters what was there before, at its last.
CASES = [(name, count) for name, most in PASSINGS.items() for count in sorted({1, most})]


def _child(folder: Path, fault: str, *arguments: str) -> int:
    environment = {key: value for key, value in os.environ.items() if key != odqa.store.faults.VARIABLE}
    environment[odqa.store.faults.VARIABLE] = fault
    script = Path(__file__).with_name("crash_child.py")
    return subprocess.run(
        [sys.executable, str(script), str(folder), *arguments], env=environment, timeout=120
    ).returncode


def _nearest(index: Index) -> list[tuple[str, str]]:
    """The texts nearest to every passage's own vector and to zero: what FAISS serves, by contents."""
    vectors = np.vstack([one.vectors for key, text in contents(index).items() for one in [prepared(key, text)]])
    queries = np.vstack([vectors, np.zeros((1, WIDTH), dtype=np.float32)])
    distances, ids = index.search_dense(queries, top_k=3)
    assert (distances[:-1, 0] == 0).all()
    found = index.passages(np.unique(ids[ids >= 0]).tolist())
    return sorted((passage.doc_id, passage.text) for passage in found.values())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("undisturbed") / "index"
    run(folder)
    with Index.open(folder) as index:
        return contents(index), _nearest(index)


def test_every_fault_point_is_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = Path(odqa.store.faults.__file__).parent.glob("*.py")
    named = {name for path in sources for name in re.findall(r'fault_point\("([\w.-]+)"\)', path.read_text("utf-8"))}
    assert named == set(PASSINGS) | {"check.before-commit", "check.after-commit"}
    monkeypatch.setenv(odqa.store.faults.VARIABLE, "none:1")
    odqa.store.faults._passed.clear()
    run(tmp_path / "index")
    assert dict(odqa.store.faults._passed) == PASSINGS


@pytest.mark.parametrize(("name", "count"), CASES)
def test_killed_writer(
    name: str, count: int, tmp_path: Path, undisturbed: tuple[dict[str, str], list[tuple[str, str]]]
) -> None:
    folder = tmp_path / "index"
    assert _child(folder, f"{name}:{count}") in (-9, 15)  # SIGKILL; TerminateProcess on Windows
    if name == "create.before-rename":
        assert not (folder / "odqa.sqlite").exists()
    else:
        allowed_states = [{}, *(state for _, state in states())]
        with Index.open(folder) as reader:
            held = contents(reader)
            assert held in allowed_states
            if held:
                _nearest(reader)
        assert Index.check(folder).problems == ()
        with Index.open(folder, writable=True) as writer:  # the lock died with its process
            assert contents(writer) == held
    run(folder)
    with Index.open(folder) as index:
        assert (contents(index), _nearest(index)) == undisturbed
        assert index.notices == ()
    assert Index.check(folder).problems == ()
    assert {path.name for path in folder.iterdir() if path.name.startswith("vectors-")} == {
        path.name for path in folder.glob("vectors-*.faiss")
    }


@pytest.mark.parametrize("fault", ["check.before-commit:1", "check.after-commit:1", "snapshot.before-rename:1"])
def test_killed_repair(fault: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    run(folder)
    connection = sqlite3.connect(folder / "odqa.sqlite")
    connection.execute("DELETE FROM vectors WHERE passage_id = (SELECT min(passage_id) FROM vectors)")
    connection.commit()
    connection.close()
    assert _child(folder, fault, "repair") in (-9, 15)
    assert Index.check(folder, repair=True).clean
    assert Index.check(folder).problems == ()
