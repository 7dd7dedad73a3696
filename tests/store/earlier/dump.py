"""Keep an index of the present schema as text, so that every later odqa can prove that it opens it.

    python tests/store/earlier/dump.py     makes the folder of the present schema; earlier ones stay as they are

A folder holds `odqa.sql`, statements that make the same database byte by byte where it matters (the tables below the
full-text index included), `snapshot.hex`, a snapshot that is one transaction old, and `expected.json`, what the index
has to answer.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from pathlib import Path

import numpy as np

from odqa.protocols import EncoderIdentity, PreparedDocument
from odqa.store.index import Index, IndexIdentity
from odqa.types import Document, Section, Span

HERE = Path(__file__).parent
IDENTITY = IndexIdentity(EncoderIdentity("tiny", "r1", "c" * 64, 4), passage_tokens=384, title_tokens=32)

TEXTS = {
    "corpus/sea/harbour rules.txt": "Boats keep to the right. The light is green.\n\nNobody swims.",
    "corpus/sea/deep/krill.md": "Krill: 磯の虫, small and \0 many.",
    "corpus/log.jsonl#7": "The seventh entry tells of a storm.",
    "corpus/log.jsonl#a#b": "An entry with an odd name.",
    "corpus/empty.html": "",
    "corpus/gone.txt": "Deleted before the snapshot.",
    "corpus/late.txt": "Deleted after the snapshot.",
}


def prepared(doc_id: str, text: str, *, folder: str = "/home/me/") -> PreparedDocument:
    """Cut a text in two passages, with vectors that depend on their texts alone."""
    path, _, record = doc_id.partition("#")
    half = (len(text) + 1) // 2
    spans = tuple(Span(start, min(start + half, len(text))) for start in range(0, len(text), max(half, 1)))
    document = Document(
        doc_id=doc_id,
        title=Path(path).stem.title(),
        text=text,
        source=folder + path,
        record=record,
        suffix=Path(path).suffix,
        modified=1_700_000_000.5,
        content_hash=f"{len(text):064x}",
        sections=(Section(Span(0, half), page=1, heading="Top"),) if half else (),
        metadata={"year": 1900 + len(text), "kind": "entry", "draft": False, "none": None} if record else {},
    )
    return PreparedDocument(document, spans, np.array([vector(span.of(text)) for span in spans], "f4").reshape(-1, 4))


def vector(text: str) -> list[float]:
    """Four numbers that half precision holds exactly."""
    return [float(sum(map(ord, text[at::4])) % 61) / 8 for at in range(4)]


def make(folder: Path) -> None:
    """Make an index with what an index can hold: replaced and deleted documents, a name given twice, tombstones."""
    with Index.create(folder, IDENTITY) as index:
        index.write([prepared(doc_id, text) for doc_id, text in TEXTS.items()])
        index.write([prepared("corpus/log.jsonl#7", "An earlier state of the seventh entry.")])
        index.delete(["corpus/gone.txt"])
        index.write([prepared("corpus/sea/harbour rules.txt", "The other harbour.", folder="/srv/")])
        index.write_snapshot()
        index.write([prepared("corpus/log.jsonl#7", TEXTS["corpus/log.jsonl#7"])])
        index.delete(["corpus/late.txt"])


def literal(value: object) -> str:
    """Write a value as SQL."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else "NULL" if value is None else repr(value)


def dump(path: Path) -> str:
    """Write a database as statements that make it anew."""
    connection = sqlite3.connect(path)
    lines = ["PRAGMA page_size=16384;", "PRAGMA journal_mode=WAL;"]
    pragmas = ("application_id", "user_version")
    lines += [f"PRAGMA {name}={connection.execute(f'PRAGMA {name}').fetchone()[0]};" for name in pragmas]
    lines.append("BEGIN;")
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    shadows = {"passages_fts_" + part for part in ("data", "idx", "content", "docsize", "config")}
    lines += [" ".join(sql.split()) + ";" for _, name, sql in rows if name not in shadows and name != "sqlite_sequence"]
    for kind, name, sql in rows:
        if kind != "table" or sql.startswith("CREATE VIRTUAL"):
            continue
        lines.append(f"DELETE FROM {name};")
        for row in connection.execute(f"SELECT * FROM {name}"):
            lines.append(f"INSERT INTO {name} VALUES ({', '.join(map(literal, row))});")
    connection.close()
    return "\n".join([*lines, "COMMIT;"]) + "\n"


def restore(kept: Path, folder: Path) -> None:
    """Make the index folder that was kept as text in `kept`."""
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "odqa.sqlite", isolation_level=None)
    connection.executescript((kept / "odqa.sql").read_text(encoding="utf-8"))
    connection.close()
    name, _, data = (kept / "snapshot.hex").read_text(encoding="ascii").partition("\n")
    (folder / name).write_bytes(bytes.fromhex(data))


def expected(folder: Path) -> dict[str, object]:
    """Return what the index in `folder` answers, as JSON."""
    with Index.open(folder) as index:
        documents = [document for doc_id in index.doc_ids() if (document := index.document(doc_id))]
        passages = index.passages(range(1, 1000)).values()
        queries = np.eye(4, dtype=np.float32)
        distances, ids = index.search_dense(queries, top_k=20)
        words = ("green", "storm", "deleted", "earlier", "磯の虫", "harbour", "entri")
        return {
            "documents": [
                [d.doc_id, d.source, d.record, d.title, d.suffix, d.modified, d.content_hash, d.text, dict(d.metadata)]
                for d in documents
            ],
            "passages": [[p.passage_id, p.doc_id, p.span.start, p.span.end, p.text] for p in passages],
            "dense": [[ids.tolist(), [[float(d) if np.isfinite(d) else None for d in row] for row in distances]]],
            "text": {word: [i for i, _ in index.search_text(f'"{word}"', top_k=9)] for word in words},
        }


def main() -> None:
    """Make the folder of the present schema."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        make(folder)
        with Index.open(folder) as index:
            kept = HERE / str(index.status().schema_version)
        kept.mkdir(exist_ok=True)
        (kept / "odqa.sql").write_text(dump(folder / "odqa.sqlite"), encoding="utf-8")
        [snapshot] = folder.glob("vectors-*.faiss")
        (kept / "snapshot.hex").write_text(f"{snapshot.name}\n{snapshot.read_bytes().hex()}\n", encoding="ascii")
        (kept / "expected.json").write_text(
            json.dumps(expected(folder), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
    sys.stdout.write(f"{kept}\n")


if __name__ == "__main__":
    main()
