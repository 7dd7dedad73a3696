"""How fast is one search among 100,000 and 1,000,000 vectors, and how much of the exact answer does it find?

    python benchmarks/vector_search.py --squad dev-v1.1.json.gz --wiki wiki/
    python benchmarks/vector_search.py --squad … --wiki … --candidates    FAISS's other types as well (hours)

Both types of odqa's store, searched through an index on disk as a question does it (SQLite included), take turns with
an exact scan of float32 vectors (FAISS, IndexFlatL2) at each of some real questions; the binary one with other numbers
of candidates, too. The vectors are real passages' and, beyond those, made by perturbing them:
`a + t (b - c)` brought back to length 1, with a, b, c drawn among the real ones and t such that the step is as long as
the median distance to a nearest neighbour. Recall@5 is the share of the exact five nearest that is found.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from common import fresh_folder, in_turn_over, percentiles, run, say, times_as_fast
from figures import Measured, Spread, figure
from made_index import build
from material import MadeVectors, Piece, chosen, questions, real_vectors, short_passages
from odqa import settings
from odqa.retriever.encoder import load_encoder
from odqa.store import vector_index
from odqa.store.index import Index

TOP_K = 5
LEAST_RECALL = 0.99
BASE = 5000  # real passages
TRAINING_ROWS = 100_000
LISTS_PER_ROOT = 4  # lists of an inverted file, for each vector of the root of their number

Search = Callable[[np.ndarray], np.ndarray]  # float32 [n, width] -> positions int64 [n, TOP_K]
Blocks = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Kind:
    """A type of index: `make` builds it, and gives its searches by the name of the setting ("" for the product's)."""

    name: str
    offered: bool  # by odqa's store, else only by FAISS
    make: Callable[[Blocks, int], Iterable[tuple[str, Callable[[], Search]]]]


def stored(index: Index, kind: str) -> Kind:
    """Return a type of the store; `index` holds the vectors under the ids from 1 on."""

    def search(queries: np.ndarray) -> np.ndarray:
        return index.search_dense(queries, top_k=TOP_K)[1] - 1

    def make(_blocks: Blocks, _width: int) -> Iterator[tuple[str, Callable[[], Search]]]:
        index.choose_vector_index(kind)
        index.write_snapshot()
        index.prepare()
        yield "", lambda: search
        names = ("LEAST_CANDIDATES", "CANDIDATES_PER_NEIGHBOUR", "CANDIDATE_SHARE")
        before = [getattr(vector_index, name) for name in names]
        try:
            for candidates in CANDIDATES if kind == "binary" else ():
                vector_index.LEAST_CANDIDATES, vector_index.CANDIDATES_PER_NEIGHBOUR = candidates, 1
                vector_index.CANDIDATE_SHARE = 0.0
                yield f"{candidates} candidates", lambda: search
        finally:
            for name, value in zip(names, before, strict=True):
                setattr(vector_index, name, value)

    return Kind(kind, True, make)


def factory(description: str, parameters: str = "", values: Sequence[int] = ()) -> Kind:
    """Return a type of FAISS, trained on the first rows, with each value of a search parameter (`{}`) as a setting."""

    def make(blocks: Blocks, width: int) -> Iterator[tuple[str, Callable[[], Search]]]:
        counted = sum(len(block) for block in blocks())
        lists = int(LISTS_PER_ROOT * counted**0.5)
        index = faiss.index_factory(width, description.format(lists=lists), faiss.METRIC_L2)
        index.train(np.concatenate(list(_first(blocks(), TRAINING_ROWS))))
        for block in blocks():
            index.add(block)
        for value in values or (0,):
            setting = parameters.format(value)
            yield setting, lambda setting=setting: _at(index, setting)

    return Kind(f"FAISS {description.format(lists='n')}", False, make)


def _at(index: Any, setting: str) -> Search:  # noqa: ANN401 - FAISS has no types
    if setting:
        faiss.ParameterSpace().set_index_parameters(index, setting)
    return lambda queries: index.search(queries, TOP_K)[1]


def _first(blocks: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block[:rows]
        rows -= len(block)
        if rows <= 0:
            return


CANDIDATES = (50, 100, 200, 400, 800)
OTHERS = (
    factory("SQ8"),
    factory("HNSW32_SQ8", "efSearch={}", (16, 32, 64, 128, 256)),
    factory("IVF{lists},SQ8", "nprobe={}", (4, 8, 16, 32, 64, 128)),
    factory("IVF{lists},RaBitQ,Refine(SQ8)", "k_factor_rf=20,nprobe={}", (8, 16, 32, 64, 128)),
)


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Measure every type at both sizes."""
    sizes = (300, 600) if options.quick else tuple(options.sizes)
    pieces = list(short_passages(options.wiki, 24 if options.quick else BASE))
    base = real_vectors(pieces)
    asked = chosen(questions(options.squad), 4 if options.quick else options.questions)
    queries = load_encoder(settings.DEFAULT_ENCODER).encode_questions(asked)
    made = MadeVectors(base)
    measured = Measured(settings={"real vectors": len(base), "step": round(made.step, 4), "questions": len(asked)})
    for key, size in zip(("vectors.100k", "vectors.1m"), sizes, strict=False):

        def blocks(size: int = size) -> Iterator[np.ndarray]:
            return itertools.chain([base[:size]], made.blocks(max(0, size - len(base))))

        with fresh_folder(work) as folder:
            build(folder / "index", ([Piece("", f"passage {number}")] for number in range(size)), blocks())
            with Index.open(folder / "index", writable=True) as index:
                kinds = [stored(index, "flat"), stored(index, "binary")]
                points = measure_size([*kinds, *OTHERS], blocks, queries, options)
        measured.curves[f"recall {size}"] = points
        good = [one for one in points if one["offered"] and not one["setting"] and one["recall"] >= LEAST_RECALL]
        if good:
            best = max(good, key=lambda one: one["times_as_fast"][1])
            name = f"{best['kind']} {best['setting']}".strip()
            note = f"{name}: recall@5 {best['recall']:.4f}, {best['milliseconds']:.2f} ms"
            measured.figures.append(figure(key, Spread(*best["times_as_fast"]), note=note))
        else:
            measured.left_out.append(f"{size} vectors: no type that odqa offers reaches a recall of {LEAST_RECALL}")
        for one in points:
            name = f"{size:,} vectors, {one['kind']} {one['setting']}".strip()
            measured.figures.append(
                figure(f"{name}: p50", one["milliseconds"], "ms", note=f"recall {one['recall']:.4f}")
            )
    return measured


def measure_size(
    kinds: Sequence[Kind], blocks: Blocks, queries: np.ndarray, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure every type at one size; the exact scan takes its turn beside each."""
    width = queries.shape[1]
    exact = faiss.IndexFlatL2(width)
    for block in blocks():
        exact.add(block)
    _, truth = exact.search(queries, TOP_K)
    points = []
    for kind in kinds:
        if not kind.offered and not (options.candidates or options.quick):
            continue
        say(f"{exact.ntotal} vectors: {kind.name}")
        for setting, at in kind.make(blocks, width):
            search = at()
            found = np.concatenate([search(query[None]) for query in queries])
            recall = float(np.mean([len(set(a) & set(b)) / TOP_K for a, b in zip(found, truth, strict=True)]))
            ways = {"exact": lambda query: exact.search(query[None], TOP_K), "it": lambda query: search(query[None])}  # noqa: B023 - timed at once
            seconds = in_turn_over(ways, list(queries[: options.timed]), options.rounds)
            halves = {name: percentiles(rounds, 50) for name, rounds in seconds.items()}
            faster = times_as_fast(halves["it"], halves["exact"])
            points.append(
                {
                    "kind": kind.name,
                    "setting": setting,
                    "offered": kind.offered,
                    "recall": round(recall, 4),
                    "milliseconds": round(1e3 * Spread.of(halves["it"]).median, 3),
                    "exact_milliseconds": round(1e3 * Spread.of(halves["exact"]).median, 3),
                    "times_as_fast": [round(part, 2) for part in (faster.least, faster.median, faster.most)],
                }
            )
    return points


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--sizes", type=int, nargs=2, default=(100_000, 1_000_000), help="vectors")
    parser.add_argument("--questions", type=int, default=200, help="questions for the recall")
    parser.add_argument("--timed", type=int, default=30, help="questions of them that are timed")
    parser.add_argument("--candidates", action="store_true", help="measure other types of FAISS as well")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
