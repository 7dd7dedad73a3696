"""Ways to damage an index, with the kinds of problems that are found of each and the documents that are lost."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

from store_cases import IDENTITY, WIDTH, prepared

from odqa.store.index import Index
from odqa.types import Section, Span

TEXTS = {"a": "alpha whale " * 8, "b": "beta seal " * 8, "c": "gamma orca " * 8, "long": "krill é\n" * 6000}
SECTIONS = (Section(Span(0, 12), page=1, heading="Top"),)


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        connection = sqlite3.connect(folder / "odqa.sqlite")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return spoil


def bytes_of_snapshot(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "vectors-2.faiss"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def block_of_a(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the one block of document "a", and leave its checksum."""

    def spoil(folder: Path) -> None:
        connection = sqlite3.connect(folder / "odqa.sqlite")
        [(packed,)] = connection.execute("SELECT text FROM document_blocks WHERE document_pk = 3").fetchall()
        connection.execute("UPDATE document_blocks SET text = ? WHERE document_pk = 3", (change(packed),))
        connection.commit()
        connection.close()

    return spoil


def foreign_snapshot(folder: Path) -> None:
    with Index.create(folder.parent / "other", IDENTITY) as other:
        other.write([prepared("z", "zeta")])
        other.write([prepared("y", "eta")])
        other.write_snapshot()
    shutil.copy(folder.parent / "other" / "vectors-2.faiss", folder / "vectors-2.faiss")


def snapshot_of_the_future(folder: Path) -> None:
    """A newer snapshot lies beside an older copy of the SQLite file."""
    copy = (folder / "odqa.sqlite").read_bytes()
    with Index.open(folder, writable=True) as index:
        index.delete(["c"])
        index.write_snapshot()
    (folder / "odqa.sqlite").write_bytes(copy)


NAN = "007e" * WIDTH
PACKED = zlib.compress(b"A")
# name -> (damage, kinds that are found, documents that are lost when it is mended)
DAMAGES: dict[str, tuple[Callable[[Path], object], set[str], list[str]]] = {
    "vector missing, in the snapshot": (
        sql("DELETE FROM vectors WHERE passage_id = 3"),
        {"passage-without-vector"},
        [],
    ),
    "vector too short": (
        sql("UPDATE vectors SET vector = x'0000' WHERE passage_id = 3"),
        {"vector-of-wrong-length"},
        [],
    ),
    "vector that is text": (
        sql(f"UPDATE vectors SET vector = '{'x' * WIDTH * 2}' WHERE passage_id = 3"),
        {"vector-of-wrong-length"},
        [],
    ),
    "vector not a number": (
        sql(f"UPDATE vectors SET vector = x'{NAN}' WHERE passage_id = 3"),
        {"vector-not-finite"},
        [],
    ),
    "vector infinite": (
        sql(f"UPDATE vectors SET vector = x'{'007c' * WIDTH}' WHERE passage_id = 3"),
        {"vector-not-finite"},
        [],
    ),
    "vector missing, no snapshot": (
        lambda folder: (
            (folder / "vectors-2.faiss").unlink(),
            sql("DELETE FROM vectors WHERE passage_id = 3")(folder),
        ),
        {"passage-without-vector"},
        ["a"],
    ),
    "vector missing, snapshot not to be trusted": (
        sql(
            "DELETE FROM vectors WHERE passage_id = 3",
            f"UPDATE vectors SET vector = x'{'003c' * WIDTH}' WHERE passage_id = 4",
        ),
        {"passage-without-vector", "snapshot-differs"},
        ["a"],
    ),
    "vector without passage": (
        sql("INSERT INTO vectors VALUES (999, x'00')"),
        {"vector-without-passage"},
        [],
    ),
    "block without document": (
        sql("INSERT INTO document_blocks (document_pk, start, text) VALUES (77, 0, x'41')"),
        {"block-without-document"},
        [],
    ),
    "passage without document": (
        sql("UPDATE passages SET document_pk = 77 WHERE passage_id = 3"),
        {"passage-without-document", "text-without-passage", "full-text-words"},
        ["a"],
    ),
    "document row lost": (
        sql("DELETE FROM documents WHERE doc_id = 'c'"),
        {"passage-without-document", "block-without-document", "full-text-words"},
        [],
    ),
    "tombstone of a living passage": (
        sql("INSERT INTO tombstones VALUES (3, 2)"),
        {"tombstone-of-living-passage"},
        [],
    ),
    "block damaged": (
        sql("UPDATE document_blocks SET text = x'4142' WHERE document_pk = 3"),
        {"text-damaged"},
        ["a"],
    ),
    "one bit of a text": (
        block_of_a(lambda packed: flipped(packed, len(packed) // 2)),
        {"text-damaged"},
        ["a"],
    ),
    "another text of the same length": (
        block_of_a(lambda packed: zlib.compress(zlib.decompress(packed).replace(b"alpha", b"alphc"))),
        {"text-damaged"},
        ["a"],
    ),
    "first block missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5 AND start = 0"),
        {"text-damaged"},
        ["long"],
    ),
    "last block missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5 AND start > 0"),
        {"text-damaged"},
        ["long"],
    ),
    "all blocks missing": (
        sql("DELETE FROM document_blocks WHERE document_pk = 5"),
        {"text-damaged"},
        ["long"],
    ),
    "one block too many": (
        sql(f"INSERT INTO document_blocks VALUES (3, 32768, x'{PACKED.hex()}', {zlib.crc32(PACKED)})"),
        {"text-damaged"},
        ["a"],
    ),
    "wrong length": (
        sql("UPDATE documents SET length = length + 1 WHERE document_pk = 3"),
        {"text-damaged"},
        ["a"],
    ),
    "span behind the text": (
        sql('UPDATE passages SET "end" = 9999 WHERE passage_id = 3'),
        {"span-outside-document"},
        ["a"],
    ),
    "span turned round": (
        sql('UPDATE passages SET "start" = 9, "end" = 3 WHERE passage_id = 3'),
        {"span-outside-document", "full-text-words"},
        ["a"],
    ),
    "span too short": (
        sql('UPDATE passages SET "end" = "end" - 7 WHERE passage_id = 3'),
        {"text-without-passage", "full-text-words"},
        ["a"],
    ),
    "passages lost": (
        sql("DELETE FROM passages WHERE passage_id = 7", "DELETE FROM vectors WHERE passage_id = 7"),
        {"text-without-passage", "full-text-rows", "snapshot-differs"},
        ["long"],
    ),
    "metadata damaged": (
        sql("UPDATE documents SET metadata = '{\"year\": ' WHERE doc_id = 'a'"),
        {"fields-damaged"},
        ["a"],
    ),
    "sections damaged": (
        sql("UPDATE documents SET sections = '[[0, 99999, null, null]]' WHERE doc_id = 'a'"),
        {"fields-damaged"},
        ["a"],
    ),
    "generation behind its rows": (
        sql("UPDATE index_info SET generation = 1"),
        {"generation-ahead", "snapshot-ahead"},
        [],
    ),
    "counter of ids behind": (
        sql("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'passages'"),
        {"counter-behind"},
        [],
    ),
    "counter of ids lost": (sql("DELETE FROM sqlite_sequence"), {"counter-behind"}, []),
    "full text lacks a passage": (
        sql(f"INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', '{TEXTS['a']}')"),
        {"full-text-rows"},
        [],
    ),
    "full text of another text": (
        sql(
            f"INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', '{TEXTS['a']}')",
            f"INSERT INTO passages_fts (rowid, title, text) VALUES (3, 'A', '{TEXTS['a'].replace('alpha', 'omega')}')",
        ),
        {"full-text-words"},
        [],
    ),
    "full text deleted with another text": (
        sql(
            "INSERT INTO passages_fts (passages_fts, rowid, title, text) VALUES ('delete', 3, 'A', 'alpha')",
            f"INSERT INTO passages_fts (rowid, title, text) VALUES (3, 'A', '{TEXTS['a']}')",
        ),
        {"full-text-words"},
        [],
    ),
    "full text of a stranger": (
        sql("INSERT INTO passages_fts (rowid, title, text) VALUES (555, 'x', 'stranger')"),
        {"full-text-rows"},
        [],
    ),
    "totals of the full text": (
        sql("UPDATE passages_fts_data SET block = x'0a0e22' WHERE id = 1"),
        {"full-text-words"},
        [],
    ),
    "pages of the full text": (
        sql("UPDATE passages_fts_data SET block = zeroblob(40) WHERE id > 10"),
        {"full-text-structure"},
        [],
    ),
    "full text gone": (sql("DROP TABLE passages_fts"), {"table-missing"}, []),
    "snapshot empty": (bytes_of_snapshot(lambda _: b""), {"snapshot-truncated"}, []),
    "snapshot cut in its header": (bytes_of_snapshot(lambda data: data[:100]), {"snapshot-truncated"}, []),
    "snapshot cut at its end": (bytes_of_snapshot(lambda data: data[:-1]), {"snapshot-truncated"}, []),
    "snapshot too long": (bytes_of_snapshot(lambda data: data + b"x"), {"snapshot-size"}, []),
    "snapshot of another format": (bytes_of_snapshot(lambda data: flipped(data, 8)), {"snapshot-format"}, []),
    "one bit of the snapshot's codes": (bytes_of_snapshot(lambda data: flipped(data, 200)), {"snapshot-checksum"}, []),
    "one bit of the snapshot's ids": (
        bytes_of_snapshot(lambda data: flipped(data, len(data) - 8)),
        {"snapshot-checksum"},
        [],
    ),
    "snapshot renamed": (
        lambda folder: (folder / "vectors-2.faiss").rename(folder / "vectors-3.faiss"),
        {"snapshot-generation"},
        [],
    ),
    "snapshot of another index": (foreign_snapshot, {"snapshot-foreign"}, []),
    "snapshot of the future": (snapshot_of_the_future, {"snapshot-ahead"}, []),
    "vector that is another number": (
        sql(f"UPDATE vectors SET vector = x'{'003c' * WIDTH}' WHERE passage_id = 3"),
        {"snapshot-differs"},
        [],
    ),
}
