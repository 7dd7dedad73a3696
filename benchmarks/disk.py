"""How many bytes on disk does a full passage take, and for what?

    python benchmarks/disk.py --wiki wiki/

Full passages as odqa cuts them out of the articles, ten to a document, with made vectors, which are stored as real ones
are. Everything in the folder of the index counts, after indexing; what `odqa compact` leaves stands beside it.
"""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from common import fresh_folder, run
from figures import Measured, figure
from made_index import build, grouped, made_vectors
from material import full_passages, real_vectors
from odqa.store.index import Index
from odqa.store.schema import DATABASE_NAME

PARTS = {  # how tables and their indexes begin -> what they hold
    "document_blocks": "text",
    "passages_fts": "full-text index",
    "vectors": "vectors in SQLite",
    "": "everything else in SQLite",
}
PASSAGES_PER_DOCUMENT = 10
BASE = 64


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Make an index and weigh its parts."""
    count = 40 if options.quick else options.passages
    pieces = full_passages(options.wiki, count)
    base = real_vectors(pieces[:BASE])
    measured = Measured()
    with fresh_folder(work) as folder:
        index = folder / "index"
        build(index, grouped(pieces, PASSAGES_PER_DOCUMENT), made_vectors(base, count))
        figures = [figure("disk.passage", folder_bytes(index) / count / 1e3)]
        try:
            figures += [figure(f"{part}: bytes per passage", size / count, "bytes") for part, size in parts(index)]
        except sqlite3.OperationalError as error:
            measured.left_out.append(f"the parts of the database: this SQLite cannot tell them ({error})")
        with Index.open(index, writable=True) as opened:
            opened.compact()
        figures.append(figure("after `odqa compact`", folder_bytes(index) / count / 1e3, "kB"))
    text = sum(len(piece.text.encode()) for piece in pieces) / count
    figures.append(figure("bytes of text per passage", text, "bytes"))
    measured.figures = figures
    measured.settings = {"passages": count, "documents": -(-count // PASSAGES_PER_DOCUMENT)}
    return measured


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parts(folder: Path) -> list[tuple[str, int]]:
    """Return the bytes of each part of an index: those of its database by table, and the other files.

    Raises:
        sqlite3.OperationalError: SQLite was built without the table `dbstat`.
    """
    database = folder / DATABASE_NAME
    found = dict.fromkeys(PARTS.values(), 0)
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        for name, size in connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            part = next(part for beginning, part in PARTS.items() if _of_table(name).startswith(beginning))
            found[part] += size
    finally:
        connection.close()
    others = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != database)
    return [*found.items(), ("files beside it (snapshot)", others)]


def _of_table(name: str) -> str:
    """Return the table that an index belongs to, by SQLite's names."""
    return name.removeprefix("sqlite_autoindex_").removeprefix("ix_")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--passages", type=int, default=20_000, help="full passages")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
