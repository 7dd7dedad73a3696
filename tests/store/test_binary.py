"""Binary codes beside brute force: candidates by Hamming distance, their vectors compared in full."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from store_cases import IDENTITY, brute_force, prepared

from odqa import settings
from odqa.store import vector_index
from odqa.store.binary import BinaryCodes, centre_of, code_bytes, to_bits
from odqa.store.index import Index
from odqa.store.lock import FolderLock
from odqa.store.vector_index import SegmentedVectorIndex, _BinarySegment


class Vectors:
    """The vectors that an index has binary codes of; counts how many it was asked for."""

    def __init__(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self.ids, self.rows, self.asked = ids, rows.astype(np.float16), 0

    def fetch(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert (np.diff(wanted) > 0).all()
        self.asked += len(wanted)
        known = np.intersect1d(wanted, self.ids)
        return known, self.rows[np.searchsorted(self.ids, known)]

    def index(self) -> SegmentedVectorIndex:
        width = self.rows.shape[1]
        centre = centre_of(self.rows, width=width)
        index = SegmentedVectorIndex(width)
        index.add_binary(self.ids, BinaryCodes(to_bits(self.rows, centre), centre), fetch=self.fetch)
        return index

    def as_dict(self, *, without: set[int] = frozenset()) -> dict[int, np.ndarray]:  # type: ignore[assignment]
        return {int(i): row for i, row in zip(self.ids, self.rows, strict=True) if int(i) not in without}


def made(count: int, width: int, *, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    return Vectors(np.cumsum(rng.integers(1, 4, size=count)), rng.standard_normal((count, width)))


def assert_exact(
    index: SegmentedVectorIndex,
    vectors: dict[int, np.ndarray],
    queries: np.ndarray,
    *,
    top_k: int,
    allowed: set[int] | None = None,
) -> None:
    given = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    distances, ids = index.search(queries, top_k=top_k, allowed=given)
    for row, query in enumerate(queries):
        expected_distances, expected_ids = brute_force(vectors, query, top_k=top_k, allowed=allowed)
        assert ids[row].tolist() == expected_ids
        np.testing.assert_allclose(distances[row], expected_distances, rtol=1e-5)


def test_a_bit_says_whether_a_value_lies_above_the_mean() -> None:
    rows = np.array([[1, -2, 3, 4, 5, 6, 7, 8, 9], [3, -2, 1, 4, 5, 6, 7, 8, 8]], dtype=np.float16)
    centre = centre_of(rows, width=9)
    assert centre.tolist() == [2, -2, 2, 4, 5, 6, 7, 8, 8.5]
    assert to_bits(rows, centre).tolist() == [[0b00000100, 1], [0b00000001, 0]]
    assert [code_bytes(width) for width in (1, 8, 9, 1024)] == [1, 1, 2, 128]
    assert centre_of(np.empty((0, 3), dtype=np.float16), width=3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("width", [3, 8, 20])
def test_all_are_candidates_of_a_small_index(width: int) -> None:
    vectors = made(150, width)
    index = vectors.index()
    dead = set(vectors.ids[::7].tolist())
    index.remove(np.array(sorted(dead)))
    known = vectors.as_dict(without=dead)
    assert len(index) == len(known)
    queries = np.random.default_rng(1).standard_normal((4, width)).astype(np.float32)
    assert_exact(index, known, queries, top_k=9)
    assert_exact(index, known, queries[:1], top_k=200)
    assert_exact(index, known, queries, top_k=9, allowed=set(vectors.ids[::2].tolist()) | {9999})
    assert_exact(index, known, queries, top_k=3, allowed=set())
    assert_exact(index, known, queries, top_k=3, allowed=dead)


def test_later_vectors_stand_beside_binary_ones() -> None:
    vectors = made(100, 6)
    index, known = vectors.index(), vectors.as_dict()
    later = np.random.default_rng(5).standard_normal((30, 6)).astype(np.float16)
    ids = np.arange(30) + int(vectors.ids[-1]) + 1
    index.add_codes(ids, later)
    index.remove(ids[:3])
    known |= {int(i): row for i, row in zip(ids[3:], later[3:], strict=True)}
    assert_exact(index, known, np.eye(6, dtype=np.float32), top_k=20)
    with pytest.raises(ValueError, match="come first"):
        index.add_binary(ids + 100, BinaryCodes(to_bits(later, np.zeros(6, "f4")), np.zeros(6, "f4")), fetch=print)  # type: ignore[arg-type]


def test_unfit_codes_are_refused() -> None:
    codes = BinaryCodes(np.zeros((2, 1), dtype=np.uint8), np.zeros(8, dtype=np.float32))
    for ids, width in (([1], 8), ([1, 2], 9), ([2, 1], 8), ([0, 1], 8)):
        with pytest.raises(ValueError):
            SegmentedVectorIndex(width).add_binary(np.array(ids), codes, fetch=print)  # type: ignore[arg-type]


def test_a_vector_that_is_gone_is_left_out() -> None:
    vectors = made(50, 8)
    index = vectors.index()
    vectors.ids, vectors.rows = vectors.ids[1:], vectors.rows[1:]
    assert_exact(index, vectors.as_dict(), np.eye(8, dtype=np.float32), top_k=49)
    assert index.search(np.zeros((1, 8), dtype=np.float32), top_k=50)[1][0, -1] == -1


def test_candidates_of_a_large_index_hold_the_nearest() -> None:
    """Questions near a vector: what is found is in the right order, with right distances, and hardly any is missed."""
    vectors = made(20_000, 256)
    index = vectors.index()
    rng = np.random.default_rng(3)
    near = vectors.rows[rng.integers(20_000, size=40)].astype(np.float32)
    queries = near + 0.8 * rng.standard_normal(near.shape).astype(np.float32)
    exact = ((vectors.rows.astype(np.float32)[None] - queries[:, None]) ** 2).sum(axis=2)
    distances, ids = index.search(queries, top_k=5)
    hits = 0
    for row in range(len(queries)):
        rows = np.searchsorted(vectors.ids, ids[row])
        np.testing.assert_allclose(distances[row], exact[row][rows], rtol=1e-4)
        assert (np.diff(distances[row]) >= 0).all()
        hits += ids[row][0] == vectors.ids[exact[row].argmin()]
    assert hits == len(queries)
    vectors.asked = 0
    index.search(queries[:1], top_k=5)
    assert vectors.asked == vector_index.LEAST_CANDIDATES
    index.search(queries[:1], top_k=100)
    assert vectors.asked == vector_index.LEAST_CANDIDATES + 400


@pytest.mark.parametrize("allowed_rows", [1, 4000, 4001, 6000])
def test_filters_are_exact_while_few_rows_are_allowed_and_never_leave_them(allowed_rows: int) -> None:
    vectors = made(9000, 64)
    index = vectors.index()
    index.remove(vectors.ids[::9])
    rng = np.random.default_rng(4)
    allowed = set(rng.choice(vectors.ids, size=allowed_rows, replace=False).tolist())
    living = vectors.as_dict(without=set(vectors.ids[::9].tolist()))
    query = rng.standard_normal((1, 64)).astype(np.float32)
    if allowed_rows <= vector_index.GATHERED_BINARY_ROWS:
        assert_exact(index, living, query, top_k=5, allowed=allowed)
    found = index.search(query, top_k=50, allowed=np.array(sorted(allowed)))[1][0]
    assert set(found.tolist()) <= {*(allowed & set(living)), -1}


def test_threads_of_the_process_are_left_alone() -> None:
    before = faiss.omp_get_max_threads()
    made(10, 8).index().search(np.zeros((1, 8), dtype=np.float32), top_k=2)
    assert faiss.omp_get_max_threads() == before


# ---- in an index ---------------------------------------------------------------------------------------------------


def answers(index: Index) -> list[list[list[float]]]:
    queries = np.eye(8, dtype=np.float32) * 3
    distances, ids = index.search_dense(queries, top_k=30)
    return [ids.tolist(), distances.tolist()]


def write(index: Index, numbers: range) -> None:
    index.write([prepared(f"d{n}", f"word{n} " * 9) for n in numbers])


def test_the_type_follows_the_size_and_can_be_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "BINARY_FROM_PASSAGES", 40)
    with Index.create(tmp_path / "index", IDENTITY) as index:
        write(index, range(5))
        index.refresh_snapshot()
        assert (index.status().snapshot_type, index.status().vector_index) == ("flat", "auto")
        write(index, range(5, 20))
        index.refresh_snapshot()
        assert len(index) >= 40 and index.status().snapshot_type == "binary"
        small, expected = index.status().snapshot_bytes, answers(index)
        index.choose_vector_index("flat")
        assert index.status().snapshot_type == "binary"  # until the next snapshot
        assert index.compact().bytes_after > 0
        assert (index.status().snapshot_type, index.status().vector_index) == ("flat", "flat")
        assert index.status().snapshot_bytes > small
        assert answers(index) == expected
        index.choose_vector_index("binary")
        index.refresh_snapshot()
        assert index.status().snapshot_type == "binary" and answers(index) == expected
        index.delete([f"d{n}" for n in range(18)])
        index.write_snapshot()
        assert index.status().snapshot_type == "binary"
        index.choose_vector_index("auto")
        index.write_snapshot()
        assert index.status().snapshot_type == "flat"
        with pytest.raises(ValueError, match="unknown vector index 'hnsw': one of auto, flat, binary"):
            index.choose_vector_index("hnsw")
    with Index.open(tmp_path / "index") as reader, pytest.raises(ValueError, match="opened for reading"):
        reader.choose_vector_index("flat")
    assert Index.check(tmp_path / "index").problems == ()


def test_readers_do_without_a_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        index.choose_vector_index("binary")
        write(index, range(9))
        expected = answers(index)
    for path in folder.glob("vectors-*"):
        path.unlink()
    with FolderLock.acquire(folder), Index.open(folder) as reader:
        assert answers(reader) == expected
        assert "there was no good snapshot of the vectors: they were rebuilt from odqa.sqlite" in reader.notices
        assert not list(folder.glob("vectors-*"))


def test_a_reader_follows_changes_of_a_binary_index(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index, Index.open(folder) as reader:
        index.choose_vector_index("binary")
        write(index, range(9))
        index.write_snapshot()
        assert answers(reader) == answers(index)
        write(index, range(7, 12))
        index.delete(["d0", "d11"])
        assert answers(reader) == answers(index)
        index.choose_vector_index("flat")
        index.compact()
        assert answers(reader) == answers(index)


def test_a_binary_snapshot_is_checked_and_mends_no_vector(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with Index.create(folder, IDENTITY) as index:
        index.choose_vector_index("binary")
        write(index, range(4))
        index.write_snapshot()
    with Index.open(folder, writable=True) as index, index._store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE vectors SET vector = x'{'00c4' * 8}' WHERE passage_id = 2")
        connection.exec_driver_sql("DELETE FROM vectors WHERE passage_id = 5")
        connection.commit()
    kinds = {problem.kind for problem in Index.check(folder).problems}
    assert kinds == {"snapshot-differs", "passage-without-vector"}
    report = Index.check(folder, repair=True)
    assert report.clean and len(report.lost) == 1  # the document of the vector that nobody holds
    assert Index.check(folder).problems == ()


def test_those_agree_best_with_the_highest_sum_of_the_values_whose_bits_are_set() -> None:
    rng = np.random.default_rng(5)
    for width in (8, 13, 64, 200):
        vectors = rng.standard_normal((30, width)).astype(np.float32)
        centre = rng.standard_normal(width).astype(np.float32)
        query = rng.standard_normal(width).astype(np.float32)
        held = made(30, width)
        segment = _BinarySegment(held.ids, BinaryCodes(to_bits(vectors, centre), centre), held.fetch)
        rows = rng.permutation(30)[:20]
        sums = {row: sum(query[i] - centre[i] for i in range(width) if vectors[row][i] > centre[i]) for row in rows}
        found = [sums[row] for row in segment._agreeing(query, rows, 7)]
        np.testing.assert_allclose(found, sorted(sums.values(), reverse=True)[:7], rtol=1e-6)


def test_candidates_grow_with_the_index() -> None:
    vectors = made(600_000, 8)
    index = vectors.index()
    index.search(vectors.rows[:1].astype(np.float32), top_k=5)
    assert vectors.asked == 240


def test_agreement_finds_what_the_hamming_distance_ranks_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many vectors are compared in full, but chosen among more: more of the nearest are found."""
    vectors = made(20_000, 256)
    index = vectors.index()
    rng = np.random.default_rng(4)
    queries = rng.standard_normal((30, 256)).astype(np.float32)
    exact = ((vectors.rows.astype(np.float32)[None] - queries[:, None]) ** 2).sum(axis=2).argsort(axis=1)[:, :5]
    monkeypatch.setattr(vector_index, "LEAST_CANDIDATES", 100)

    def recall() -> float:
        found = index.search(queries, top_k=5)[1]
        return float(np.mean([len(set(vectors.ids[a]) & set(b)) / 5 for a, b in zip(exact, found, strict=True)]))

    with_agreement = recall()
    monkeypatch.setattr(vector_index, "LEAST_NEAR", 100)
    monkeypatch.setattr(vector_index, "NEAR_SHARE", 0.0)
    assert with_agreement > recall() + 0.1


def test_lists_and_a_heap_hold_equally_near_codes() -> None:
    held = made(5000, 64)
    rng = np.random.default_rng(8)
    bits = rng.integers(0, 256, (5000, 8), dtype=np.uint8)
    segment = _BinarySegment(held.ids, BinaryCodes(bits, np.zeros(64, np.float32)), held.fetch)
    codes = rng.integers(0, 256, (3, 8), dtype=np.uint8)
    away = np.unpackbits(bits[None] ^ codes[:, None], axis=2).sum(axis=2)
    mask = rng.random(5000) < 0.2
    for allowed in (None, mask):
        hidden = np.zeros_like(mask) if allowed is None else ~mask
        nearest = np.sort(np.where(hidden, 65, away), axis=1)[:, :300]
        for most in (300, 299):  # in lists, and with a heap
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(vector_index, "LISTED_ROWS", most)
                rows = segment._near(codes, 300, allowed)
            assert not hidden[rows].any() and all(len(set(one)) == 300 for one in rows.tolist())
            np.testing.assert_array_equal(np.sort(np.take_along_axis(away, rows, axis=1), axis=1), nearest)
