"""Reading the table `vectors`: as a stream, or what is newer than a generation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odqa.protocols import PassageIds
from odqa.store.binary import Centre, centre_of
from odqa.store.codes import Codes, from_blobs
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.schema import Transaction, damaged, index_row, sql, vectors

BATCH_ROWS = 1024
SAMPLE_ROWS = 4000  # vectors whose mean is the centre of binary codes
_COUNT = sql(
    "SELECT (SELECT count(*) FROM vectors WHERE passage_id > :last)"
    " + (SELECT count(*) FROM tombstones WHERE generation > :generation)"
)
# One statement whatever the number: an IN list of hundreds of parameters takes longer to write than to answer.
_SOME = (
    "SELECT passage_id, vector FROM vectors WHERE passage_id IN (SELECT value FROM json_each(?)) ORDER BY passage_id"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to the vectors since a generation: new living ones, and ids that died."""

    generation: int
    ids: PassageIds
    codes: Codes
    dead: PassageIds


@dataclass(frozen=True, slots=True)
class VectorStream:
    """All living vectors of one generation: `count`, in batches of (ids int64 [m], codes float16 [m, width]).

    `centre()` is the mean of some thousands of them, spread over all, float32 [width].
    """

    generation: int
    count: int
    batches: Iterator[tuple[PassageIds, Codes]]
    centre: Callable[[], Centre]


def read_changes(
    store: SqliteMetadataStore, *, after_generation: int, after_id: int, most: int | None = None
) -> Changes | None:
    """Read what a holder of an older generation has to do to follow.

    Args:
        store: the metadata store.
        after_generation: the generation that the holder has.
        after_id: the highest passage id that the holder has; ids ascend with generations.
        most: most new vectors to return; None returns all.

    Returns:
        The changes, or None when they cannot be told (a compaction dropped tombstones since) or are too many.
    """
    with store.reading() as connection:
        info = index_row(connection, store.path)
        if info.compacted_generation > after_generation:
            return None
        newer = vectors.select().where(vectors.c.passage_id > after_id).order_by(vectors.c.passage_id)
        rows = connection.execute(newer if most is None else newer.limit(most + 1)).all()
        if most is not None and len(rows) > most:
            return None
        died = sql("SELECT passage_id FROM tombstones WHERE generation > :generation")
        dead = np.fromiter(connection.scalars(died, {"generation": after_generation}), dtype=np.int64)
    ids, codes = _checked(store.path, rows, width=info.width, after=after_id)
    return Changes(info.generation, ids, codes, dead)


def count_changes(store: SqliteMetadataStore, *, after_generation: int, after_id: int) -> int | None:
    """Count the vectors and tombstones that `read_changes` would return; None when they cannot be told."""
    with store.reading() as connection:
        info = index_row(connection, store.path)
        if info.compacted_generation > after_generation:
            return None
        since = {"generation": after_generation, "last": after_id}
        return int(connection.execute(_COUNT, since).scalar_one())


@contextmanager
def vector_stream(store: SqliteMetadataStore) -> Iterator[VectorStream]:
    """Stream all living vectors in the order of their ids, in bounded memory, from one state of the index."""
    with store.reading() as connection:
        info = index_row(connection, store.path)
        count = connection.execute(sql("SELECT count(*) FROM vectors")).scalar_one()
        ordered = vectors.select().order_by(vectors.c.passage_id)
        result = connection.execute(ordered.execution_options(yield_per=BATCH_ROWS))
        yield VectorStream(
            info.generation,
            count,
            _batches(store.path, result.partitions(), width=info.width),
            lambda: _centre(connection, store.path, width=info.width),
        )


def read_vectors(store: SqliteMetadataStore, wanted: PassageIds, *, width: int) -> tuple[PassageIds, Codes]:
    """Read the vectors of living passages among `wanted`, ascending: ids int64 [m] and codes float16 [m, width]."""
    with store.reading() as connection:
        return _read(connection, store.path, wanted, width=width)


def _read(connection: Transaction, path: Path, wanted: PassageIds, *, width: int) -> tuple[PassageIds, Codes]:
    rows = connection.exec_driver_sql(_SOME, (json.dumps(wanted.tolist()),)).all()
    return _checked(path, rows, width=width, after=0)


def _centre(connection: Transaction, path: Path, *, width: int) -> Centre:
    first, last = connection.execute(sql("SELECT min(passage_id), max(passage_id) FROM vectors")).one()
    if last is None:
        return centre_of(from_blobs([], width=width), width=width)
    wanted = np.unique(np.linspace(first, last, min(SAMPLE_ROWS, last - first + 1)).astype(np.int64))
    return centre_of(_read(connection, path, wanted, width=width)[1], width=width)


def _batches(path: Path, parts: Iterable[Sequence[Any]], *, width: int) -> Iterator[tuple[PassageIds, Codes]]:
    last = 0
    for rows in parts:
        ids, codes = _checked(path, rows, width=width, after=last)
        last = int(ids[-1])
        yield ids, codes


def _checked(path: Path, rows: Sequence[Any], *, width: int, after: int) -> tuple[PassageIds, Codes]:
    blobs = [vector for _, vector in rows]
    for passage_id, vector in rows:
        if not isinstance(vector, bytes) or len(vector) != width * 2:
            reason = f"the vector of passage {passage_id} is not {width * 2} bytes long; try `odqa check --repair`"
            raise damaged(path, reason)
    ids = np.array([passage_id for passage_id, _ in rows], dtype=np.int64)
    if (np.diff(ids, prepend=after) <= 0).any():
        raise damaged(path, "the vectors do not stand in the order of their ids; try `odqa check --repair`")
    return ids, from_blobs(blobs, width=width)
