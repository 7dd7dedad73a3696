"""Nearest neighbours with FAISS: squared L2, ids of our own. The only owner of FAISS.

The vectors stand in immutable segments, ordered by id: the first is mapped from a snapshot, later ones hold what was
added since. A search takes the tuple of segments once and needs no lock; `add` and `remove` put a new tuple in its
place. FAISS scans the codes where they lie (a view: mapped memory is not copied), so its positions are rows of a
segment, and deleted or filtered rows are left out by a selector, never shifted.

A flat segment holds half-precision codes and is searched exactly. A binary one holds a bit for each value (see
binary.py): the nearest by Hamming distance are candidates, whose vectors are read from SQLite and compared in full, so
distances and their order are exact, and what may be missed is a neighbour that was no candidate.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeGuard

import faiss
import numpy as np
from numpy.typing import NDArray

from odqa.protocols import PassageIds, Vectors
from odqa.store.binary import BinaryCodes, Bits, to_bits, to_values
from odqa.store.codes import CODE, Codes, to_codes

# Up to so many allowed rows of a segment are gathered and scanned; above, a bitmap over all its rows is cheaper.
GATHERED_ROWS = 1000
# The same for a binary segment, where gathering means reading from SQLite, and the other way is not exact.
GATHERED_BINARY_ROWS = 4000
# Of a binary segment, the nearest by Hamming distance are compared by `_agreeing`, and the best of those in full: so
# many for each neighbour asked for, at least so many, and such a share of all (docs/decisions.md).
NEAR_PER_NEIGHBOUR, LEAST_NEAR, NEAR_SHARE = 8, 2000, 1 / 250
CANDIDATES_PER_NEIGHBOUR, LEAST_CANDIDATES, CANDIDATE_SHARE = 4, 200, 1 / 2500
# Up to so many nearest codes are kept in lists, one for each distance: faster than a heap, but each has room for all.
LISTED_ROWS = 20_000

Distances = NDArray[np.float32]
Fetch = Callable[[PassageIds], tuple[PassageIds, Codes]]

_faiss: Any = faiss  # its type stubs lack half of what is there


def _one_thread() -> None:
    """Let the thread that forked search alone: OpenMP's other threads are not in the child, and are waited for."""
    _faiss.omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with their ids, ascending; `dead` marks the deleted ones, None when there are none."""

    ids: PassageIds
    dead: NDArray[np.bool_] | None = field(default=None, kw_only=True)

    @property
    def living(self) -> int:
        return len(self.ids) - (0 if self.dead is None else int(self.dead.sum()))

    def living_rows(self, ids: PassageIds) -> NDArray[np.int64]:
        """Return the rows of those of `ids` (ascending) that are living."""
        rows = _rows_of(self.ids, ids)
        return rows if self.dead is None else rows[~self.dead[rows]]

    def without(self, ids: PassageIds) -> Self:
        rows = _rows_of(self.ids, ids)
        if not len(rows):
            return self
        dead = np.zeros(len(self.ids), dtype=np.bool_) if self.dead is None else self.dead.copy()
        dead[rows] = True
        return replace(self, dead=dead)


@dataclass(frozen=True, slots=True)
class _Segment(_Rows):
    """Codes in half precision, in the order of their ids; `mapped` ones stay as they are."""

    codes: Codes
    mapped: bool
    view: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "view", _faiss_view(self.codes))

    def search(self, queries: Vectors, *, top_k: int, allowed: PassageIds | None) -> tuple[Distances, PassageIds]:
        """Return distances and ids [n, at most top_k]; missing neighbours are inf and -1."""
        if allowed is None:
            living = None if self.dead is None else ~self.dead
            distances, rows = _scan(self.view, queries, top_k=min(top_k, self.living), mask=living)
        else:
            chosen = self.living_rows(allowed)
            if len(chosen) <= GATHERED_ROWS:
                gathered = self.codes[chosen]
                distances, found = _scan(_faiss_view(gathered), queries, top_k=min(top_k, len(chosen)), mask=None)
                rows = np.where(found >= 0, chosen[found], -1) if len(chosen) else found
            else:
                mask = np.zeros(len(self.ids), dtype=np.bool_)
                mask[chosen] = True
                distances, rows = _scan(self.view, queries, top_k=min(top_k, len(chosen)), mask=mask)
        # FAISS leaves a place empty when the distance overflows float32.
        return np.where(rows >= 0, distances, np.float32(np.inf)), np.where(rows >= 0, self.ids[rows], -1)


@dataclass(frozen=True, slots=True)
class _BinarySegment(_Rows):
    """Binary codes; `fetch` reads vectors in half precision by their ids, leaving out those that it does not know."""

    binary: BinaryCodes
    fetch: Fetch
    heap_view: Any = field(init=False, repr=False)
    list_view: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heap_view", _faiss_binary_view(self.binary, use_heap=True))
        object.__setattr__(self, "list_view", _faiss_binary_view(self.binary, use_heap=False))

    def search(self, queries: Vectors, *, top_k: int, allowed: PassageIds | None) -> tuple[Distances, PassageIds]:
        """Return distances and ids [n, at most top_k]; missing neighbours are inf and -1."""
        mask, count = None if self.dead is None else ~self.dead, self.living
        if allowed is not None:
            chosen = self.living_rows(allowed)
            if len(chosen) <= GATHERED_BINARY_ROWS:
                candidates = np.broadcast_to(self.ids[chosen], (len(queries), len(chosen)))
                return self._nearest_of(candidates, queries, top_k=min(top_k, len(chosen)))
            mask, count = np.zeros(len(self.ids), dtype=np.bool_), len(chosen)
            mask[chosen] = True
        wanted = min(count, max(LEAST_CANDIDATES, CANDIDATES_PER_NEIGHBOUR * top_k, int(count * CANDIDATE_SHARE)))
        near = min(count, max(wanted, LEAST_NEAR, NEAR_PER_NEIGHBOUR * top_k, int(count * NEAR_SHARE)))
        rows = self._near(to_bits(queries, self.binary.centre), near, mask)
        if wanted < near:
            rows = np.stack([self._agreeing(query, found, wanted) for query, found in zip(queries, rows, strict=True)])
        return self._nearest_of(self.ids[rows], queries, top_k=min(top_k, wanted))

    def _near(self, codes: Bits, count: int, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Return the rows [n, count] of the codes that are nearest to each of `codes` by Hamming distance."""
        if count > LISTED_ROWS:
            return _scan(self.heap_view, codes, top_k=count, mask=mask)[1]
        # One after another: the lists of one query take up to (bits + 1) * count * 8 bytes.
        return np.concatenate([_scan(self.list_view, code[None], top_k=count, mask=mask)[1] for code in codes])

    def _agreeing(self, query: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the `count` of some rows whose codes agree best with a query.

        That is the sum of the query's values, about the centre, whose bits are set. The query keeps its values, of
        which the Hamming distance sees the signs alone, so this orders codes better (asymmetric distance: M. Jain,
        H. Jegou, P. Gros, ACM Multimedia 2011). It costs more, too: it is for a few. FAISS sums in this thread; NumPy's
        product would wake those of its BLAS, which stay awake and in the way of what comes next.
        """
        values = to_values(self.binary.bits[rows], width=len(query))
        view = _faiss_view(values, _faiss.METRIC_INNER_PRODUCT)
        _, places = _scan(view, (query - self.binary.centre)[None], top_k=count, mask=None)
        best: NDArray[np.int64] = rows[places[0]]
        return best

    def _nearest_of(self, candidates: PassageIds, queries: Vectors, *, top_k: int) -> tuple[Distances, PassageIds]:
        """Compare the vectors of candidates [n, m] with their queries [n, width]."""
        known, codes = self.fetch(np.unique(candidates))
        distances = np.full((len(queries), top_k), np.inf, dtype=np.float32)
        ids = np.full((len(queries), top_k), -1, dtype=np.int64)
        for row, query in enumerate(queries):
            chosen = _rows_of(known, np.unique(candidates[row]))
            gathered = codes[chosen]  # held until the scan is done: FAISS reads it where it lies
            found, places = _scan(_faiss_view(gathered), query[None], top_k=min(top_k, len(chosen)), mask=None)
            kept = places[0] >= 0  # FAISS leaves a place empty when the distance overflows float32
            count = int(kept.sum())
            distances[row, :count], ids[row, :count] = found[0][kept], known[chosen[places[0][kept]]]
        return distances, ids


class SegmentedVectorIndex:
    """The vectors of living passages. Safe to search from many threads while one mutates.

    Args:
        width: values per vector.
    """

    def __init__(self, width: int) -> None:
        """Start without vectors."""
        self.width = width
        self.last_id = 0
        self._segments: tuple[_Segment | _BinarySegment, ...] = ()
        self._mutation = threading.Lock()

    def __len__(self) -> int:
        """Return the number of vectors that a search may find."""
        return sum(segment.living for segment in self._segments)

    def add(self, ids: PassageIds, vectors: Vectors) -> None:
        """Add vectors float32 [n, width] under ascending ids int64 [n], all above those ever added.

        Raises:
            ValueError: shapes do not fit, ids do not ascend, or a value is not finite in half precision.
        """
        self.add_codes(ids, to_codes(vectors, width=self.width))

    def add_codes(self, ids: PassageIds, codes: Codes, *, mapped: bool = False) -> None:
        """Add vectors as they are stored, float16 [n, width]; `mapped` codes are searched in place for ever.

        Others are merged into the segments before them while those are not much larger, so that n additions leave
        about log n segments. The arrays must not change afterwards.

        Raises:
            ValueError: shapes do not fit or ids do not ascend.
        """
        if codes.shape != (len(ids), self.width) or codes.dtype != CODE:
            raise ValueError(f"{len(ids)} ids and codes of shape {codes.shape} do not fit width {self.width}")
        with self._mutation:
            if not len(ids):
                return
            if ids[0] <= self.last_id or (np.diff(ids) <= 0).any():
                raise ValueError(f"ids must ascend and lie above {self.last_id}")
            segments = list(self._segments)
            new = _Segment(ids, np.ascontiguousarray(codes), mapped)
            while segments and not mapped and _may_grow(last := segments[-1]) and len(last.ids) <= 2 * len(new.ids):
                new = _merged(last, new)
                segments.pop()
            self._segments = (*segments, new)
            self.last_id = int(ids[-1])

    def add_binary(self, ids: PassageIds, binary: BinaryCodes, *, fetch: Fetch) -> None:
        """Add vectors by their binary codes, before any others; `fetch` reads those of ids int64 [m], ascending.

        Raises:
            ValueError: shapes do not fit, ids do not ascend, or the index is not empty.
        """
        if len(ids) != len(binary.bits) or len(binary.centre) != self.width:
            raise ValueError(f"{len(ids)} ids do not fit {len(binary.bits)} codes of {len(binary.centre)} bits")
        with self._mutation:
            if self._segments or (len(ids) and (ids[0] < 1 or (np.diff(ids) <= 0).any())):
                raise ValueError("ids must ascend, and binary codes come first")
            if len(ids):
                self._segments = (_BinarySegment(ids, binary, fetch),)
                self.last_id = int(ids[-1])

    def remove(self, ids: PassageIds) -> None:
        """Exclude ids from every later search; unknown ids are no error (a snapshot may lack them already)."""
        with self._mutation:
            unique = np.unique(np.asarray(ids, dtype=np.int64))
            self._segments = tuple(segment.without(unique) for segment in self._segments)

    def search(
        self, queries: Vectors, *, top_k: int, allowed: PassageIds | None = None
    ) -> tuple[Distances, PassageIds]:
        """Find the nearest living vectors of each query.

        Args:
            queries: float32 [n, width], finite.
            top_k: neighbours per query, at least 1.
            allowed: ids int64 to search among, in any order; None means every id, an empty array none.

        Returns:
            Squared L2 distances float32 [n, top_k], ascending, and ids int64 [n, top_k]; equal distances stand in the
            order of their ids. Missing neighbours are inf and -1.

        Raises:
            ValueError: the shape of `queries` is another, a value is not finite, or `top_k` is below 1.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width or not np.isfinite(queries).all():
            raise ValueError(f"queries must be finite and of shape [n, {self.width}], not {list(queries.shape)}")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, must be at least 1")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        chosen = None if allowed is None else np.unique(np.asarray(allowed, dtype=np.int64))
        distances = [np.full((len(queries), top_k), np.inf, dtype=np.float32)]
        ids = [np.full((len(queries), top_k), -1, dtype=np.int64)]
        for segment in self._segments if len(queries) else ():
            found = segment.search(queries, top_k=top_k, allowed=chosen)
            distances.append(found[0])
            ids.append(found[1])
        return _nearest(np.hstack(distances), np.hstack(ids), top_k=top_k)


def _nearest(distances: Distances, ids: PassageIds, *, top_k: int) -> tuple[Distances, PassageIds]:
    order = np.lexsort((ids, distances), axis=-1)[:, :top_k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _rows_of(ids: PassageIds, wanted: PassageIds) -> NDArray[np.int64]:
    """Rows of `ids` (ascending) that hold one of `wanted` (ascending), ascending."""
    rows = np.searchsorted(ids, wanted)
    rows[rows == len(ids)] = 0
    return rows[ids[rows] == wanted] if len(ids) else rows[:0]


def _may_grow(segment: _Segment | _BinarySegment) -> TypeGuard[_Segment]:
    """Tell whether later vectors may be joined to a segment: it is neither mapped nor binary."""
    return isinstance(segment, _Segment) and not segment.mapped


def _merged(first: _Segment, second: _Segment) -> _Segment:
    """Join two segments and leave their dead rows behind."""
    ids, codes = [], []
    for segment in (first, second):
        living = slice(None) if segment.dead is None else ~segment.dead
        ids.append(segment.ids[living])
        codes.append(segment.codes[living])
    return _Segment(np.concatenate(ids), np.concatenate(codes), mapped=False)


def _faiss_view(codes: Codes, metric: int = _faiss.METRIC_L2) -> Any:  # noqa: ANN401 - FAISS has no types
    """Make a FAISS index that reads the rows of `codes` where they lie; the caller keeps `codes` alive."""
    rows, width = codes.shape
    index = _faiss.IndexScalarQuantizer(width, _faiss.ScalarQuantizer.QT_fp16, metric)
    if rows:
        owned = _faiss.MaybeOwnedVectorUInt8
        raw = codes.view(np.uint8).reshape(-1)
        index.codes = owned.create_view(_faiss.swig_ptr(raw), raw.size, owned().owner)
        index.ntotal = rows
    return index


def _faiss_binary_view(binary: BinaryCodes, *, use_heap: bool) -> Any:  # noqa: ANN401 - FAISS has no types
    """Make a FAISS index that reads binary codes where they lie; the caller keeps them alive."""
    rows, row_bytes = binary.bits.shape
    index = _faiss.IndexBinaryFlat(row_bytes * 8)
    index.use_heap = use_heap
    if rows:
        owned = _faiss.MaybeOwnedVectorUInt8
        raw = binary.bits.reshape(-1)
        index.xb = owned.create_view(_faiss.swig_ptr(raw), raw.size, owned().owner)
        index.ntotal = rows
    return index


@contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """Let one query be searched by the calling thread alone: FAISS gives threads whole queries, and waking them costs.

    The number is OpenMP's for the calling thread, not for the process.
    """
    threads = _faiss.omp_get_max_threads()
    if queries > 1 or threads == 1:
        yield
        return
    _faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        _faiss.omp_set_num_threads(threads)


def _scan(
    view: Any,  # noqa: ANN401 - FAISS has no types
    queries: Vectors | NDArray[np.uint8],
    *,
    top_k: int,
    mask: NDArray[np.bool_] | None,
) -> tuple[Distances, NDArray[np.int64]]:
    """Return distances and rows [n, top_k] of the nearest rows that `mask` holds; it holds at least `top_k`."""
    if top_k == 0:
        return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
    parameters = None
    if mask is not None:
        bits = np.packbits(mask, bitorder="little")
        parameters = _faiss.SearchParameters(sel=_faiss.IDSelectorBitmap(len(mask), _faiss.swig_ptr(bits)))
    with _threads_for(len(queries)):
        distances, rows = view.search(queries, top_k, params=parameters)
    return distances, rows
