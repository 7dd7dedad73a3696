"""The bytes on disk are those that indexes/README.md tells of, read here without odqa."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import uuid
import zlib
from pathlib import Path

import numpy as np
from store_cases import IDENTITY, WIDTH, prepared

from odqa.store.index import Index
from odqa.store.snapshot import open_snapshot, write_snapshot_file


def test_bytes_of_database_and_snapshot(tmp_path: Path) -> None:
    one = prepared("a", "é" * 40_000 + "end", size=30_000, title="T", metadata={"k": None})
    one.vectors[:] = [[1.0, -2.0, 0.5, 65504.0, 0.1, 0.0, -0.0, 1e-7], [2048.0] + [2049.0] * 7]
    with Index.create(tmp_path, IDENTITY) as index:
        index.write([prepared("gone", "x"), one])
        index.delete(["gone"])
        index.write_snapshot()
    connection = sqlite3.connect(tmp_path / "odqa.sqlite")
    header = (tmp_path / "odqa.sqlite").read_bytes()[:100]
    assert struct.unpack(">H", header[16:18])[0] == 32768 and header[68:72] == b"odqa"
    assert struct.unpack(">I", header[60:64])[0] == 3
    blobs = connection.execute("SELECT passage_id, vector FROM vectors ORDER BY passage_id").fetchall()
    # 0.1, 1e-7 and 2049 are rounded to the nearest binary16, ties to even.
    expected = struct.pack("<8e", 1.0, -2.0, 0.5, 65504.0, 0.1, 0.0, -0.0, 1e-7) + struct.pack("<8e", *[2048.0] * 8)
    assert blobs == [(2, expected[:16]), (3, expected[16:])]
    blocks = connection.execute("SELECT start, text, checksum FROM document_blocks ORDER BY start").fetchall()
    texts = [("é" * 32768).encode(), ("é" * 7232 + "end").encode()]
    assert [(start, zlib.decompress(packed)) for start, packed, _ in blocks] == [(0, texts[0]), (32768, texts[1])]
    assert [checksum for *_, checksum in blocks] == [zlib.crc32(packed) for _, packed, _ in blocks]
    assert connection.execute("SELECT doc_id, path FROM documents").fetchall() == [("a", "a")]
    assert connection.execute("SELECT * FROM tombstones").fetchall() == [(1, 2)]
    its_uuid = uuid.UUID(connection.execute("SELECT uuid FROM index_info").fetchone()[0])
    connection.close()

    data = (tmp_path / "vectors-2.faiss").read_bytes()
    fields = struct.pack("<8sIIQQ16s", b"ODQAVEC\0", 1, WIDTH, 2, 2, its_uuid.bytes)
    payload = expected + struct.pack("<2q", 2, 3)
    assert data == fields + hashlib.sha256(payload + fields).digest() + bytes(48) + payload
    w, n = int.from_bytes(data[12:16], "little"), int.from_bytes(data[24:32], "little")
    assert np.frombuffer(data, "<f2", n * w, 128).tobytes() == expected
    assert np.frombuffer(data, "<i8", n, 128 + n * w * 2).tolist() == [2, 3]


def test_a_binary_snapshot_to_the_byte(tmp_path: Path) -> None:
    """Nine values fill two bytes of a code, of which the last seven bits are zero."""
    rows = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 0, 3, 0, 3, 0, 3, 0, 3]], dtype=np.float16)
    centre = np.full(9, 2.5, dtype=np.float32)
    its_uuid = uuid.UUID(int=5)
    path = write_snapshot_file(
        tmp_path, uuid=its_uuid, generation=7, width=9, batches=[(np.array([4, 9]), rows)], centre=centre
    )
    fields = struct.pack("<8sIIQQ16s", b"ODQAVEC\0", 2, 9, 7, 2, its_uuid.bytes)
    payload = bytes([0b11111100, 1, 0b01010101, 1]) + struct.pack("<2q", 4, 9) + struct.pack("<9f", *[2.5] * 9)
    assert path.read_bytes() == fields + hashlib.sha256(payload + fields).digest() + bytes(48) + payload
    found = open_snapshot(path, uuid=its_uuid, width=9)
    assert found.codes is None and found.binary is not None
    assert (found.generation, found.ids.tolist()) == (7, [4, 9])
    assert found.binary.bits.tobytes() == payload[:4] and found.binary.centre.tolist() == [2.5] * 9
