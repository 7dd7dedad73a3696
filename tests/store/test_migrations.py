"""An index of every earlier schema is opened, and answers as it did; a migration is whole or has not been."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from odqa.errors import DamagedIndexError, IndexMismatchError, LockedIndexError, StoreError
from odqa.store import migrations
from odqa.store.index import Index
from odqa.store.lock import FolderLock
from odqa.store.schema import SCHEMA_VERSION
from odqa.store.where import parse_where

EARLIER = Path(__file__).with_name("earlier")
VERSIONS = sorted(int(path.name) for path in EARLIER.iterdir() if path.name.isdigit())

_spec = importlib.util.spec_from_file_location("dump", EARLIER / "dump.py")
assert _spec is not None and _spec.loader is not None
dump = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dump)


def restored(version: int, tmp_path: Path) -> Path:
    dump.restore(EARLIER / str(version), tmp_path / "index")
    return tmp_path / "index"


def pragma_version(folder: Path) -> int:
    connection = sqlite3.connect(folder / "odqa.sqlite")
    found = connection.execute("SELECT schema_version FROM index_info").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    assert found == version
    return int(version)


def tables(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Columns with their types, order and defaults, of every table and index; the tables of FTS5 included."""
    connection = sqlite3.connect(folder / "odqa.sqlite")
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
    found = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    connection.close()
    return found


def test_every_schema_is_kept() -> None:
    assert list(range(1, SCHEMA_VERSION + 1)) == VERSIONS
    assert sorted(migrations.STEPS) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("door", ["reader", "writer", "check"])
def test_an_earlier_index_is_opened_and_answers_as_it_did(version: int, door: str, tmp_path: Path) -> None:
    folder = restored(version, tmp_path)
    assert pragma_version(folder) == version
    if door == "check":
        Index.check(folder)
    else:
        Index.open(folder, writable=door == "writer", expected=dump.IDENTITY).close()
    assert pragma_version(folder) == SCHEMA_VERSION
    kept = json.loads((EARLIER / str(version) / "expected.json").read_text(encoding="utf-8"))
    assert dump.expected(folder) == kept
    assert Index.check(folder).problems == ()
    with Index.open(folder, writable=True) as index:
        assert index.status().schema_version == SCHEMA_VERSION
        assert index.notices == ()
        index.write([dump.prepared("corpus/new.txt", "A new one.")])
        index.write([dump.prepared("corpus/log.jsonl#7", "The seventh entry anew.")])
        index.delete(["corpus/empty.html", "corpus/log.jsonl#a#b"])
        assert min(p.passage_id for p in index.passages(range(1, 99)).values() if "new" in p.text) > 18
        index.compact()
    assert Index.check(folder).problems == ()


def test_a_migrated_index_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    folder = restored(1, tmp_path)
    Index.open(folder).close()
    Index.create(tmp_path / "new", dump.IDENTITY).close()
    assert tables(folder) == tables(tmp_path / "new")


def test_what_the_steps_filled_in(tmp_path: Path) -> None:
    """Schema 2: paths, without records and without the "~2" of a name given twice; checksums of the blocks."""
    folder = restored(1, tmp_path)
    with Index.open(folder) as index:
        connection = sqlite3.connect(folder / "odqa.sqlite")
        assert dict(connection.execute("SELECT doc_id, path FROM documents")) == {
            "corpus/sea/harbour rules.txt": "corpus/sea/harbour rules.txt",
            "corpus/sea/harbour rules.txt~2": "corpus/sea/harbour rules.txt",
            "corpus/sea/deep/krill.md": "corpus/sea/deep/krill.md",
            "corpus/log.jsonl#7": "corpus/log.jsonl",
            "corpus/log.jsonl#a#b": "corpus/log.jsonl",
            "corpus/empty.html": "corpus/empty.html",
        }
        connection.close()
        found = index.passages(index.allowed(parse_where("path^=sea/")).tolist()).values()
        assert {passage.doc_id for passage in found} == {
            "corpus/sea/harbour rules.txt",
            "corpus/sea/harbour rules.txt~2",
            "corpus/sea/deep/krill.md",
        }


def test_many_documents_are_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_PAGE", 2)
    folder = restored(1, tmp_path)
    assert dump.expected(folder) == json.loads((EARLIER / "1" / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("point", ["migrate.after-step", "migrate.before-commit", "migrate.after-commit"])
def test_a_killed_migration_is_whole_or_has_not_been(point: str, tmp_path: Path) -> None:
    folder = restored(1, tmp_path)
    code = "import sys; from pathlib import Path; from odqa.store.index import Index; Index.open(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, "ODQA_FAULT_POINT": f"{point}:1"}, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert pragma_version(folder) == (SCHEMA_VERSION if point == "migrate.after-commit" else 1)
    assert dump.expected(folder) == json.loads((EARLIER / "1" / "expected.json").read_text(encoding="utf-8"))
    assert Index.check(folder).problems == ()


def test_a_failing_step_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = restored(1, tmp_path)
    before = tables(folder), dump.dump(folder / "odqa.sqlite")

    def fails(connection: object) -> None:
        migrations._to_2(connection)  # type: ignore[arg-type]
        raise RuntimeError("in the middle")

    monkeypatch.setattr(migrations, "STEPS", {1: fails})
    with pytest.raises(RuntimeError, match="in the middle"):
        Index.open(folder)
    assert (tables(folder), dump.dump(folder / "odqa.sqlite")) == before
    monkeypatch.undo()
    assert dump.expected(folder)["documents"]


def test_a_migration_needs_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "WAIT_SECONDS", 0.0)
    folder = restored(1, tmp_path)
    with FolderLock.acquire(folder), pytest.raises(LockedIndexError, match=r"schema 1 has to be migrated .* process"):
        Index.open(folder)
    assert pragma_version(folder) == 1
    Index.open(folder).close()


def test_a_damaged_earlier_index_is_left_alone(tmp_path: Path) -> None:
    folder = restored(1, tmp_path)
    connection = sqlite3.connect(folder / "odqa.sqlite")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'document_blocks'").fetchone()[0]
    connection.close()
    path = folder / "odqa.sqlite"
    data = bytearray(path.read_bytes())
    data[(root - 1) * 16384 : (root - 1) * 16384 + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(DamagedIndexError, match=r"schema 1 could not be migrated to 3: .* is damaged"):
        Index.open(folder)
    assert pragma_version(folder) == 1


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    folder = restored(1, tmp_path)
    (folder / "lock").mkdir()  # no file of this name can be made, not even by root
    with pytest.raises(StoreError, match=r"schema 1 could not be migrated to 3: .* cannot be written to"):
        Index.open(folder)
    assert pragma_version(folder) == 1


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    folder = restored(1, tmp_path)
    connection = sqlite3.connect(folder / "odqa.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = (folder / "odqa.sqlite").read_bytes()
    for call in (Index.open, Index.check):
        with pytest.raises(IndexMismatchError, match=r"has schema 99, .* a newer version of odqa .* up to schema 3"):
            call(folder)
    assert (folder / "odqa.sqlite").read_bytes() == before
