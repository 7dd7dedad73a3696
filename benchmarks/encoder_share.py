"""How much of indexing is the network itself, and how near does the network come to what the machine can do?

    python benchmarks/encoder_share.py --squad dev-v1.1.json.gz

The share is the time during which a request of OpenVINO runs, over the time of indexing. Since indexing reads and
writes while the network runs, it says how seldom the network waits; what all else costs shows beside it, in the time
that the network takes alone. Operations are those of the int8 products on real tokens, two for each weight: what
padding costs and what is not int8 (attention, softmax, norms, GELU) counts as lost. The peak is the fastest of some
large int8 products through OpenVINO, measured in turn with it.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as op

from common import fresh_folder, in_turn, run, say, timed
from figures import Figure, Measured, Spread, figure
from made_index import index_lines
from material import Piece, chosen, mean_tokens, paragraphs, write_lines
from odqa import settings
from odqa.models import registry
from odqa.models.opening import open_model
from odqa.models.runtime import Row
from odqa.models.streams import Streams
from odqa.retriever.encoder import load_encoder
from weights import bundled_weights

SIZES = ((512, 1024, 1024), (2048, 1024, 1024), (2048, 2048, 2048), (4096, 1536, 1536))  # rows, inner width, columns
LEVELS = 256


class Busy:
    """Adds up the time during which at least one request runs, whichever thread it runs in."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start with nothing."""
        self.seconds = 0.0
        self._clock = clock
        self._running = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Note that a request begins."""
        with self._lock:
            if not self._running:
                self._since = self._clock()
            self._running += 1

    def end(self) -> None:
        """Note that it is done."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self.seconds += self._clock() - self._since


@contextmanager
def watched() -> Iterator[Busy]:
    """Watch all requests of this process: `infer`, and what is started and waited for.

    A request that is done before it is waited for counts up to the wait, so the share may be too high with those.
    """
    busy, request = Busy(), openvino.InferRequest
    before = request.infer, request.start_async, request.wait
    started: set[int] = set()

    def infer(self: Any, *words: Any, **named: Any) -> Any:  # noqa: ANN401 - OpenVINO's own
        busy.begin()
        try:
            return before[0](self, *words, **named)
        finally:
            busy.end()

    def start_async(self: Any, *words: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
        busy.begin()
        started.add(id(self))
        return before[1](self, *words, **named)

    def wait(self: Any) -> Any:  # noqa: ANN401 - as above
        found = before[2](self)
        if id(self) in started:
            started.discard(id(self))
            busy.end()
        return found

    request.infer, request.start_async, request.wait = infer, start_async, wait
    try:
        yield busy
    finally:
        request.infer, request.start_async, request.wait = before


def large_product(rows: int, inner: int, columns: int, *, performance: str) -> Streams:
    """Compile one int8 product [rows, inner] x [inner, columns] on activations of 256 levels."""
    given = op.parameter([rows, inner], np.float32)
    low, high = op.constant(np.float32(-1)), op.constant(np.float32(1))
    levels = op.fake_quantize(given, low, high, low, high, LEVELS)
    numbers = np.random.default_rng(0).integers(-127, 128, (columns, inner), dtype=np.int8)
    scale = np.full((columns, 1), 0.01, np.float32)
    weight = op.convert(op.constant(numbers), np.float32) * op.constant(scale)
    model = openvino.Model([op.result(op.matmul(levels, weight, False, True))], [given], "product")
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": performance, "ENABLE_CPU_PINNING": False}
    return Streams(openvino.Core().compile_model(model, "CPU", options), name="product")


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Measure the share while indexing, then the rate in turn with the peak."""
    count = 6 if options.quick else options.passages
    texts = chosen([piece.text for piece in paragraphs(options.squad)], count)
    measured = Measured(settings={"passages": count, "tokens": round(mean_tokens(texts), 1), "rounds": options.rounds})
    measured.figures += shares(texts, work, rounds=options.rounds)
    measured.figures += rates(texts, quick=options.quick, rounds=options.rounds)
    return measured


def shares(texts: list[str], work: Path, *, rounds: int) -> list[Figure]:
    """Index several times and watch the requests, and run the network alone in turn; the first time does not count."""
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    words, network = open_model(registry.find(settings.DEFAULT_ENCODER))
    rows = [Row([words.cls_id, *one.ids[:382], words.sep_id]) for one in words.encode_batch(texts)]
    found, alone = [], []
    with fresh_folder(work) as folder:
        lines = write_lines(folder / "paragraphs.jsonl", [Piece("", text) for text in texts])
        for number in range(rounds + 1):
            with fresh_folder(folder) as passing, watched() as busy:
                seconds = timed(lambda at=passing: index_lines(at / "index", lines, encoder))
            if not busy.seconds:
                raise SystemExit("no request was seen: odqa runs its network in another way; teach `watched` that one")
            network_seconds = timed(lambda: network.vectors(rows))
            if number:
                found.append(100 * busy.seconds / seconds)
                alone.append(100 * network_seconds / seconds)
    say("the share is measured; now the rate")
    return [
        figure("encoder.share", Spread.of(found)),
        figure("time of the network alone, on the same passages, of the time of indexing", Spread.of(alone), "%"),
    ]


def rates(texts: list[str], *, quick: bool, rounds: int) -> list[Figure]:
    """Time the network on the texts and large products in turn."""
    weights = bundled_weights("encoder")
    layers = [one for name, one in weights.linear.items() if name != "head"]
    per_token = 2 * sum(one.numbers.size for one in layers)
    words, network = open_model(registry.find(settings.DEFAULT_ENCODER))
    rows = [Row([words.cls_id, *one.ids[:382], words.sep_id]) for one in words.encode_batch(texts)]
    full = [Row([*rows[0].ids[:-1], *([1000] * (384 - len(rows[0].ids))), words.sep_id]) for _ in rows]
    per_row = 2 * weights.linear["head"].numbers.size
    operations = {
        "paragraphs": per_token * sum(len(row.ids) for row in rows) + per_row * len(rows),
        "full rows": (per_token * 384 + per_row) * len(full),
    }
    ways: dict[str, Callable[[], object]] = {
        "paragraphs": lambda: network.vectors(rows),
        "full rows": lambda: network.vectors(full),
    }
    # Both as a question alone runs and as many batches do: what is more counts.
    for size, performance in product(SIZES[:1] if quick else SIZES, ("LATENCY", "THROUGHPUT")):
        given = {0: np.random.default_rng(1).uniform(-1, 1, size[:2]).astype(np.float32)}
        streams, feeds = large_product(*size, performance=performance), [given] * (2 if quick else 20)
        name = "product {} x {} x {}, {}".format(*size, performance)
        ways[name] = lambda streams=streams, feeds=feeds: list(streams.run(feeds))
        operations[name] = 2 * len(feeds) * size[0] * size[1] * size[2]
    seconds = in_turn(ways, rounds=rounds)
    peaks = [max(operations[n] / s[at] for n, s in seconds.items() if n.startswith("product")) for at in range(rounds)]

    def share(name: str) -> Spread:
        return Spread.of([100 * operations[name] / one / peak for one, peak in zip(seconds[name], peaks, strict=True)])

    return [
        figure("encoder.peak", share("paragraphs")),
        figure("of the peak on full rows of 384 tokens", share("full rows"), "%"),
        figure("int8 peak", Spread.of(peaks) * 1e-9, "Gop/s"),
        figure("int8 operations per token", per_token / 1e6, "Mop"),
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--passages", type=int, default=1000, help="paragraphs, spread evenly over the file")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
