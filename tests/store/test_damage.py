"""Files that lost their end or had a bit turned over: an error or the right text, and not a byte is overwritten."""

from __future__ import annotations

import gc
import random
import re
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from store_cases import IDENTITY, WIDTH, brute_force, prepared, vectors_of

from odqa.errors import DamagedIndexError, OdqaError, StoreError
from odqa.store.index import Index
from odqa.store.lock import FolderLock
from odqa.types import Section, Span

PAGE = 16_384
WORDS = "whale seal orca krill reef".split()


def text_of(number: int) -> str:
    rng = random.Random(number)
    return " ".join(rng.choice(WORDS) for _ in range(60 + number * 10)) + f" end{number}"


TEXTS = {f"d{number}": text_of(number) for number in range(10)}
LATE = "what was committed last " * 8
UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ALL_TEXTS = {*TEXTS.values(), LATE}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an index with replaced and deleted documents, fields, sections, and a snapshot behind."""
    folder = tmp_path_factory.mktemp("sound") / "index"
    section = (Section(Span(0, 10), page=1, heading="One"),)
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared("d4", "ancient walrus " * 9), prepared("gone", "nothing of it " * 9)])
        index.write(
            [
                prepared(doc_id, text, title=doc_id.upper(), metadata={"year": len(text), "x": "ab"}, sections=section)
                for doc_id, text in TEXTS.items()
            ]
        )
        index.write_snapshot()
        index.delete(["gone"])
        index.write([prepared("d4", TEXTS["d4"])])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(sound: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    put(folder, sound)
    return folder


def put(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in the folder, but the text in `lock`, which tells who wrote last."""
    if (folder / "odqa.sqlite-shm").exists():
        gc.collect()  # a traceback that is not forgotten yet keeps a connection open
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def read_all(folder: Path) -> None:
    """Read everything in every way; whatever comes has to be right."""
    with Index.open(folder) as index:
        for doc_id in index.doc_ids():
            document = index.document(doc_id)
            assert document is None or document.text in ALL_TEXTS
        index.status()
        list(index.documents_under("/docs"))
        distances, ids = index.search_dense(np.zeros((1, WIDTH), dtype=np.float32), top_k=200)
        assert (np.diff(distances[0][ids[0] >= 0]) >= 0).all()
        found = [*ids[0][ids[0] >= 0].tolist(), *(i for i, _ in index.search_text(" OR ".join(WORDS), top_k=200))]
        for passage in index.passages(found).values():
            document = index.document(passage.doc_id)
            assert any(passage.text in text for text in ALL_TEXTS)
            assert document is None or passage.span.of(document.text) == passage.text


def attempt(folder: Path, outcomes: Counter[str]) -> None:
    """Read and check a damaged index: nothing but errors of odqa, and nothing is overwritten."""
    before = files_of(folder)
    for name, do in (("read", read_all), ("check", Index.check)):
        try:
            do(folder)
            outcomes[name + ": nothing amiss"] += 1
        except StoreError as error:
            outcomes[f"{name}: {type(error).__name__}"] += 1
        assert files_of(folder) == before


# ---- SQLite ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 25))])
def test_a_flipped_bit_in_sqlite(folder: Path, sound: dict[str, bytes], seed: int) -> None:
    """A third of them in bytes in use of the first two pages: the header and the names of the tables."""
    rng = random.Random(seed)
    data = sound["odqa.sqlite"]
    uuid = UUID.search(data)
    assert uuid is not None  # what another one does has a test of its own
    in_use = [at for at, byte in enumerate(data[: 2 * PAGE]) if byte and not uuid.start() <= at < uuid.end()]
    outcomes: Counter[str] = Counter()
    for number in range(60):
        position = rng.randrange(len(data)) if number % 3 else rng.choice(in_use)
        put(folder, {**sound, "odqa.sqlite": flipped(data, position, rng.randrange(8))})
        try:
            attempt(folder, outcomes)
        except Exception as error:
            raise AssertionError(f"bit flipped in byte {position}") from error
    assert outcomes["read: nothing amiss"] > 0  # most bytes of so small a file are in no use
    assert outcomes["read: DamagedIndexError"] > 0, outcomes


def test_a_flipped_bit_in_a_text(folder: Path, sound: dict[str, bytes]) -> None:
    """Every byte of a text is covered: the document is an error that names it, the others are served."""
    data = sound["odqa.sqlite"]
    packed = zlib.compress(TEXTS["d7"].encode())
    start = data.index(packed)
    for offset in range(0, len(packed), 5):
        put(folder, {**sound, "odqa.sqlite": flipped(data, start + offset, offset % 8)})
        with Index.open(folder) as index:
            with pytest.raises(DamagedIndexError, match="document 'd7' of the index is damaged"):
                index.document("d7")
            assert index.document("d6").text == TEXTS["d6"]
    assert "text" in {word for problem in Index.check(folder).problems for word in problem.kind.split("-")}


def test_under_another_id_of_the_index_all_is_there(folder: Path, sound: dict[str, bytes]) -> None:
    """A flipped bit may make another valid id: the snapshot is foreign then, and is made anew from what is stored."""
    data = sound["odqa.sqlite"]
    place = UUID.search(data)
    assert place is not None
    changed = flipped(data, place.start() + 14, 0)  # the version, "4", becomes "5"
    assert UUID.search(changed)[0] != place[0]
    put(folder, {**sound, "odqa.sqlite": changed})
    read_all(folder)
    assert Index.check(folder).clean
    with Index.open(folder) as index:
        assert {doc_id: index.document(doc_id).text for doc_id in index.doc_ids()} == TEXTS
    assert (folder / "odqa.sqlite").read_bytes() == changed


def test_a_table_that_is_not_as_it_was_made(folder: Path, sound: dict[str, bytes]) -> None:
    """A word in the definition of a table decides what its columns hold, and SQLite takes whatever it finds there."""
    data = sound["odqa.sqlite"]
    for column in (b"doc_id TEXT", b"vector BLOB", b"checksum INTEGER"):
        assert column in data
        put(folder, {**sound, "odqa.sqlite": data.replace(column, column[:-1] + b"Q")})
        for open_it in (Index.open, Index.check):
            with pytest.raises(DamagedIndexError, match="is not as it was made"):
                open_it(folder)


def test_a_text_that_was_read_before_is_compared_again(folder: Path) -> None:
    with Index.open(folder, writable=True) as index:
        (found,) = index.passages([min(index.search_text("end3", top_k=1))[0]]).values()
        assert found.text in TEXTS["d3"]
        with sqlite3.connect(folder / "odqa.sqlite") as connection:
            own = "(SELECT document_pk FROM documents WHERE doc_id = 'd3')"
            ((block,),) = connection.execute(f"SELECT text FROM document_blocks WHERE document_pk = {own}")
            changed = flipped(block, len(block) // 2, 0)
            connection.execute(f"UPDATE document_blocks SET text = ? WHERE document_pk = {own}", (changed,))
        connection.close()
        with pytest.raises(DamagedIndexError, match="'d3' of the index is damaged"):
            index.passages([found.passage_id])


def test_a_document_is_never_served_under_the_id_of_another(folder: Path, sound: dict[str, bytes]) -> None:
    """The index of ids is searched by halves: an id that is out of order there leads to a neighbour's row."""
    data = sound["odqa.sqlite"]
    entry = b"\x03\x11\x01d1"  # two text characters and a row number
    assert data.count(entry) == 1
    put(folder, {**sound, "odqa.sqlite": data.replace(entry, b"\x03\x10\x01d1")})  # two bytes that are no text
    with Index.open(folder) as index:
        for doc_id, text in TEXTS.items():
            try:
                document = index.document(doc_id)
            except DamagedIndexError as error:
                assert "it is found as b'd1'" in str(error)
            else:
                assert document is None or (document.doc_id, document.text) == (doc_id, text)


@pytest.mark.parametrize("kept", [0, 1, 99, 100, 511, *(PAGE * n + e for n in range(1, 14) for e in (-1, 0, 1))])
def test_a_truncated_sqlite(folder: Path, sound: dict[str, bytes], kept: int) -> None:
    """A clear error before anything is done, for whoever wants to read, write or check."""
    data = sound["odqa.sqlite"]
    assert kept < len(data)
    put(folder, {**sound, "odqa.sqlite": data[:kept]})
    before = files_of(folder)
    for do in (
        lambda: Index.open(folder),
        lambda: Index.open(folder, writable=True),
        lambda: Index.check(folder),
        lambda: Index.check(folder, repair=True),
    ):
        with pytest.raises(DamagedIndexError, match=r"odqa.sqlite is damaged .*nothing was changed: put back a copy"):
            do()
        assert files_of(folder) == before


# A writer that dies with transactions in -wal.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store_cases import prepared
from odqa.store.index import Index
index = Index.open(Path(sys.argv[1]), writable=True)
index.write([prepared("late", sys.argv[3])])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_truncated_sqlite_with_transactions_in_wal(folder: Path) -> None:
    """The last connection that closes would play them into what is left of the file."""
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), LATE], check=False)
    data = (folder / "odqa.sqlite").read_bytes()
    whole = files_of(folder)
    wal = {"odqa.sqlite-wal": whole["odqa.sqlite-wal"]}
    assert len(wal["odqa.sqlite-wal"]) > 0
    for kept in (PAGE, PAGE * 5, len(data) - 3 * PAGE):
        put(folder, {**whole, "odqa.sqlite": data[:kept]})
        with pytest.raises(OdqaError):
            read_all(folder)
        assert files_of(folder).items() >= {"odqa.sqlite": data[:kept]}.items() | wal.items()
        assert _check_finds_damage(folder)
        assert files_of(folder).items() >= {"odqa.sqlite": data[:kept]}.items() | wal.items()


def _check_finds_damage(folder: Path) -> bool:
    try:
        return bool(Index.check(folder).problems)
    except DamagedIndexError:
        return True


def test_a_reader_tidies_up_after_a_killed_writer(folder: Path) -> None:
    """The last one to close moves what was committed into the file, unless it saw damage."""
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), LATE], check=False)
    read_all(folder)
    assert not (folder / "odqa.sqlite-wal").exists()
    assert Index.check(folder).problems == ()
    with Index.open(folder) as index:
        assert index.document("late").text == LATE


def test_a_wal_without_its_file_is_not_played_into_a_new_one(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), LATE], check=False)
    (folder / "odqa.sqlite").unlink()
    before = files_of(folder)
    with pytest.raises(
        StoreError, match=r"odqa.sqlite-wal is there, but not its odqa.sqlite: put that back, or remove"
    ):
        Index.create(folder, IDENTITY)
    assert files_of(folder) == before


# ---- the snapshot ---------------------------------------------------------------------------------------------------


def _damages(data: bytes) -> dict[str, bytes]:
    """A bit flipped in every byte of the header, and over all of codes and ids; the end cut off at every part of it."""
    positions = [*range(128), *range(128, len(data), 41), *range(len(data) - 24, len(data))]
    damages = {f"bit flipped in byte {at}": flipped(data, at, at % 8) for at in positions}
    lengths = [*range(0, 132, 11), *range(132, len(data), 199), len(data) - 8, len(data) - 1]
    damages |= {f"cut to {length} bytes": data[:length] for length in lengths}
    return damages | {"one byte too many": data + b"\0", "zeros": bytes(len(data)), "empty": b""}


@pytest.mark.parametrize("kind", ["flat", "binary"])
def test_a_damaged_snapshot_is_never_served(folder: Path, sound: dict[str, bytes], kind: str) -> None:
    """So few passages are all candidates of a binary one, so what it says is exact, too."""
    if kind == "binary":
        with Index.open(folder, writable=True) as index:
            index.choose_vector_index("binary")
            index.write_snapshot()
            assert index.status().snapshot_type == "binary"
        sound = files_of(folder)
    (name,) = [name for name in sound if name.startswith("vectors-")]
    with Index.open(folder) as index:
        living = index.passages(range(1, 2000))
        vectors = {i: vectors_of([repr(passage.text)])[0] for i, passage in living.items()}
        query = vectors_of(["q"])
        expected = brute_force(vectors, query[0], top_k=len(vectors) + 1)
    damages = _damages(sound[name])
    lock = FolderLock.acquire(folder)  # so that no reader puts a new one in its place
    for damage, data in damages.items():
        put(folder, {**sound, name: data})
        with Index.open(folder) as index:
            distances, ids = index.search_dense(query, top_k=len(vectors) + 1)
            assert (distances[0].tolist(), ids[0].tolist()) == expected, damage
            assert len(index.notices) == 2, damage
            assert index.notices[0].startswith(f"the snapshot {name} is not used: it"), damage
    lock.release()
    assert len(damages) > (250 if kind == "flat" else 180)


@pytest.mark.parametrize("what", ["flip in the header", "flip in a vector", "flip in an id", "cut"])
def test_check_finds_a_damaged_snapshot_and_repair_replaces_it(
    folder: Path, sound: dict[str, bytes], what: str
) -> None:
    (name,) = [name for name in sound if name.startswith("vectors-")]
    data = sound[name]
    (folder / name).write_bytes(
        {
            "flip in the header": flipped(data, 17, 0),
            "flip in a vector": flipped(data, 200, 3),
            "flip in an id": flipped(data, len(data) - 8, 1),
            "cut": data[:-100],
        }[what]
    )
    before = files_of(folder)
    report = Index.check(folder)
    assert [problem.kind.partition("-")[0] for problem in report.problems] == ["snapshot"]
    assert name in report.problems[0].detail
    assert files_of(folder) == before
    assert Index.check(folder, repair=True).clean
    assert Index.check(folder).problems == ()
