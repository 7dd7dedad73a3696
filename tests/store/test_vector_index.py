"""FAISS beside brute force: ties, tombstones, filters, more neighbours than vectors, many segments."""

from __future__ import annotations

import threading

import faiss
import numpy as np
import pytest
from store_cases import brute_force

from odqa.store.vector_index import GATHERED_ROWS, SegmentedVectorIndex


def _assert_equal_to_oracle(
    index: SegmentedVectorIndex,
    vectors: dict[int, np.ndarray],
    queries: np.ndarray,
    *,
    top_k: int,
    allowed: set[int] | None = None,
) -> None:
    given = None if allowed is None else np.array(list(allowed), dtype=np.int64)
    distances, ids = index.search(queries, top_k=top_k, allowed=given)
    assert distances.dtype == np.float32 and ids.dtype == np.int64
    assert distances.shape == ids.shape == (len(queries), top_k)
    for row, query in enumerate(queries):
        expected_distances, expected_ids = brute_force(vectors, query, top_k=top_k, allowed=allowed)
        assert ids[row].tolist() == expected_ids
        np.testing.assert_allclose(distances[row], expected_distances, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_random_walk_equals_brute_force_with_ties(seed: int) -> None:
    """Small whole numbers make many equal distances; the order among them has to be that of the ids."""
    rng = np.random.default_rng(seed)
    index, vectors, next_id = SegmentedVectorIndex(4), {}, 1
    for step in range(25):
        count = int(rng.integers(0, 120))
        ids = next_id + np.cumsum(rng.integers(1, 4, size=count))
        rows = rng.integers(-2, 3, size=(count, 4)).astype(np.float32)
        index.add(ids, rows)
        vectors |= dict(zip(ids.tolist(), rows, strict=True))
        next_id = int(ids[-1]) + 1 if count else next_id
        doomed = [i for i in vectors if rng.random() < 0.15]
        index.remove(np.array(doomed, dtype=np.int64))
        for i in doomed:
            del vectors[i]
        assert len(index) == len(vectors)
        queries = rng.integers(-2, 3, size=(2, 4)).astype(np.float32)
        _assert_equal_to_oracle(index, vectors, queries, top_k=int(rng.integers(1, 40)))
        if step % 3 == 0:
            allowed = {i for i in range(next_id) if rng.random() < rng.random()}
            _assert_equal_to_oracle(index, vectors, queries, top_k=20, allowed=allowed)
    _assert_equal_to_oracle(index, vectors, queries, top_k=len(vectors) + 7)


@pytest.mark.parametrize("allowed_rows", [1, GATHERED_ROWS, GATHERED_ROWS + 1, 4000])
@pytest.mark.parametrize("mapped", [False, True])
def test_gathered_scan_and_bitmap_agree_with_brute_force(allowed_rows: int, mapped: bool) -> None:
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((4000, 16)).astype(np.float16)
    ids = np.arange(10, 4010, dtype=np.int64)
    index = SegmentedVectorIndex(16)
    index.add_codes(ids, rows, mapped=mapped)
    index.remove(ids[::5])
    vectors = {int(i): row for n, (i, row) in enumerate(zip(ids, rows, strict=True)) if n % 5}
    allowed = set(rng.choice(ids, size=allowed_rows, replace=False).tolist())
    _assert_equal_to_oracle(index, vectors, rng.standard_normal((1, 16)).astype(np.float32), top_k=9, allowed=allowed)


def test_all_vectors_equal_come_in_the_order_of_their_ids() -> None:
    index = SegmentedVectorIndex(3)
    index.add(np.arange(1, 3001), np.ones((3000, 3), dtype=np.float32))
    _, ids = index.search(np.zeros((1, 3), dtype=np.float32), top_k=50)
    assert ids[0].tolist() == list(range(1, 51))


def test_allowed_none_is_all_and_empty_is_none() -> None:
    index = SegmentedVectorIndex(2)
    index.add(np.array([3, 5]), np.array([[0, 0], [1, 1]], dtype=np.float32))
    query = np.zeros((1, 2), dtype=np.float32)
    assert index.search(query, top_k=3)[1].tolist() == [[3, 5, -1]]
    distances, ids = index.search(query, top_k=3, allowed=np.empty(0, dtype=np.int64))
    assert ids.tolist() == [[-1, -1, -1]] and np.isinf(distances).all()
    assert index.search(query, top_k=1, allowed=np.array([5, 99, 5]))[1].tolist() == [[5]]


def test_empty_index_and_no_queries() -> None:
    index = SegmentedVectorIndex(2)
    assert index.search(np.zeros((1, 2), dtype=np.float32), top_k=2)[1].tolist() == [[-1, -1]]
    assert index.search(np.zeros((0, 2), dtype=np.float32), top_k=2)[1].shape == (0, 2)
    index.remove(np.array([4]))
    assert len(index) == 0


def test_rounding_is_that_of_half_precision_and_memory_is_not_copied() -> None:
    codes = np.array([[0.1, 1000.03]], dtype=np.float16)
    index = SegmentedVectorIndex(2)
    index.add_codes(np.array([1], dtype=np.int64), codes, mapped=True)
    query = codes.astype(np.float32)
    assert index.search(query, top_k=1)[0].tolist() == [[0.0]]
    codes[0] = 0  # only to show that FAISS reads these very bytes
    np.testing.assert_allclose(index.search(query, top_k=1)[0], [[(query**2).sum()]], rtol=1e-6)


def test_overflowing_distance_is_a_missing_neighbour() -> None:
    index = SegmentedVectorIndex(2)
    index.add(np.array([1]), np.ones((1, 2), dtype=np.float32))
    distances, ids = index.search(np.full((1, 2), 3e38, dtype=np.float32), top_k=1)
    assert ids.tolist() == [[-1]] and np.isinf(distances).all()


@pytest.mark.parametrize(
    "ids, rows",
    [
        ([1, 2], np.ones((1, 2))),
        ([1], np.ones((1, 3))),
        ([2, 1], np.ones((2, 2))),
        ([1], np.array([[np.nan, 0]])),
        ([1], np.array([[70000.0, 0]])),
        ([0], np.ones((1, 2))),
    ],
)
def test_unfit_vectors_are_refused(ids: list[int], rows: np.ndarray) -> None:
    index = SegmentedVectorIndex(2)
    with pytest.raises(ValueError):
        index.add(np.array(ids), rows.astype(np.float32))
    assert len(index) == 0


def test_unfit_queries_are_refused() -> None:
    index = SegmentedVectorIndex(2)
    for query, top_k in ((np.zeros((1, 3)), 1), (np.zeros(2), 1), (np.array([[np.nan, 0]]), 1), (np.zeros((1, 2)), 0)):
        with pytest.raises(ValueError):
            index.search(query.astype(np.float32), top_k=top_k)


def test_ids_must_lie_above_those_before() -> None:
    index = SegmentedVectorIndex(1)
    index.add(np.array([5]), np.ones((1, 1), dtype=np.float32))
    index.remove(np.array([5]))
    with pytest.raises(ValueError, match="above 5"):
        index.add(np.array([5]), np.ones((1, 1), dtype=np.float32))


def test_thread_count_of_the_process_is_left_alone() -> None:
    before = faiss.omp_get_max_threads()
    index = SegmentedVectorIndex(2)
    index.add(np.array([1]), np.ones((1, 2), dtype=np.float32))
    index.search(np.zeros((3, 2), dtype=np.float32), top_k=1)
    assert faiss.omp_get_max_threads() == before


def test_searches_run_while_others_add_and_remove() -> None:
    """Vector i lies at i on a line: whatever is living, neighbours come in order and are never removed ones."""
    index = SegmentedVectorIndex(1)
    failures: list[str] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            distances, ids = index.search(np.zeros((1, 1), dtype=np.float32), top_k=30)
            found = ids[0][ids[0] >= 0]
            if (np.diff(found) <= 0).any() or not np.array_equal(distances[0][: len(found)], found.astype("f4") ** 2):
                failures.append(str(ids))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(1, 1000, 10):
        index.add(np.arange(start, start + 10), np.arange(start, start + 10, dtype=np.float32).reshape(-1, 1))
        index.remove(np.arange(start, start + 5))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
