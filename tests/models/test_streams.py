"""Where several batches wait they run at once, and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino
import pytest

from odqa import settings
from odqa.models import registry, runtime
from odqa.models.opening import open_model
from odqa.models.runtime import Network, Row
from odqa.models.streams import WAITING, Feed, Streams, Traffic, last_end


def rows(count: int, *, seed: int = 3) -> list[Row]:
    rng = random.Random(seed)
    return [Row([101, *(rng.randrange(1000, 20000) for _ in range(rng.randrange(3, 90))), 102]) for _ in range(count)]


@pytest.fixture(scope="module")
def network() -> Network:
    return open_model(registry.find(settings.DEFAULT_ENCODER))[1]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and calls of any size are worth the second network."""
    monkeypatch.setattr(runtime, "STREAM_BATCH_TOKENS", 128)
    monkeypatch.setattr(runtime, "WORTH_TOKENS", 0)


def loaded(network: Network) -> Streams:
    """Wait until the network is loaded for several batches at once."""
    network.vectors(rows(2)) if len(network._outputs) == 1 else network.logits(rows(2))
    assert network._loader is not None
    network._loader.join()
    assert network._together is not None
    return network._together


@pytest.mark.usefixtures("eager")
def test_batches_at_once_give_what_one_after_another_gives(network: Network) -> None:
    given = rows(40)
    alone = np.concatenate([network.vectors([row]) for row in given])
    loaded(network)
    together = network.vectors(given)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together, network.vectors(given))


@pytest.mark.usefixtures("eager")
def test_readers_too() -> None:
    reader = open_model(registry.find(settings.DEFAULT_READER))[1]
    loaded(reader)
    given = [Row(row.ids, [0] * 2 + [1] * (len(row.ids) - 2)) for row in rows(30)]
    for row, (start, end) in zip(given, reader.logits(given), strict=True):
        ((alone_start, alone_end),) = reader.logits([row])
        assert start.shape == end.shape == (row.tokens,)
        np.testing.assert_allclose(np.stack([start, end]), np.stack([alone_start, alone_end]), atol=1e-3)


@pytest.mark.usefixtures("eager")
def test_threads_get_their_own(network: Network) -> None:
    loaded(network)
    given = [rows(9, seed=seed) for seed in range(12)]
    wanted = [network.vectors(one) for one in given]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, expected in zip(pool.map(network.vectors, given), wanted, strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-5)
    assert runtime._traffic.calls == 0


def test_a_call_of_few_tokens_runs_row_by_row(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    class Watched:
        def run(self, feeds: Iterable[Feed]) -> Iterator[list[np.ndarray]]:
            found = list(feeds)
            ran.append([feed[0].shape for feed in found])
            yield from streams.run(found)

    streams = network._alone
    monkeypatch.setattr(network, "_together", None)
    monkeypatch.setattr(network, "_alone", Watched())
    network.vectors([Row([101] * 60)] * 3)
    network.vectors([Row([101] * 60)] * 40)
    assert ran == [[(1, 64)] * 3, [(24, 64), (16, 64)]]


@pytest.mark.parametrize(
    ("tokens", "in_streams"),
    [((64, 64), True), ((144, 128), True), ((240, 48), False), ((192, 96), False), ((100,) * 3, False), ((9, 8), True)],
)
def test_few_rows_run_in_streams_if_none_waits_long_for_another(
    network: Network, monkeypatch: pytest.MonkeyPatch, tokens: tuple[int, ...], in_streams: bool
) -> None:
    ran = []

    class Recorder:
        most = 2
        even = Streams.even

        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, feeds: Iterable[Feed]) -> Iterator[list[np.ndarray]]:
            ran.append(self.name)
            yield from ([np.zeros((len(feed[0]), 1024), np.float32)] for feed in feeds)

    monkeypatch.setattr(network, "_alone", Recorder("in turn"))
    monkeypatch.setattr(network, "_together", Recorder("in streams"))
    given = [Row([101] * count) for count in tokens]
    network.vectors(given)
    with runtime._traffic.call():  # another call has the other processors
        network.vectors(given)
    assert ran == ["in streams" if in_streams else "in turn", "in streams"]


def test_the_last_stream_ends_with_its_last_row() -> None:
    assert last_end([3, 1, 2], 2) == 3
    assert last_end([5, 1, 1], 2) == 5
    assert last_end([2, 2, 2], 2) == 4
    assert last_end([2, 2, 2], 4) == 2


def test_what_cannot_be_loaded_twice_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    network = open_model(registry.find(settings.DEFAULT_ENCODER))[1]
    before = network.vectors(rows(5))

    def compile_no_more(*_: object) -> Streams:
        raise RuntimeError("no memory")

    monkeypatch.setattr(network, "_compile", compile_no_more)
    monkeypatch.setattr(runtime, "WORTH_TOKENS", 0)
    for _ in range(3):
        np.testing.assert_array_equal(network.vectors(rows(5)), before)
    assert network._loader is not None
    network._loader.join()
    assert network._together is None


def test_a_large_network_is_never_loaded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MOST_WEIGHT_BYTES", 1000)
    monkeypatch.setattr(runtime, "WORTH_TOKENS", 0)
    network = open_model(registry.find(settings.DEFAULT_ENCODER))[1]
    network.vectors(rows(5))
    assert network._loader is None
    assert network._model is None


def test_little_work_does_not_load_it_a_second_time() -> None:
    network = open_model(registry.find(settings.DEFAULT_ENCODER))[1]
    network.vectors(rows(20))
    for _ in range(3):
        network.vectors(rows(1))
    assert network._together is None


def test_a_row_beside_the_work_of_another_network_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = open_model(registry.find(settings.DEFAULT_ENCODER))[1]
    monkeypatch.setattr(runtime, "WORTH_TOKENS", 3 * runtime.ROW_TOKENS)
    short = [Row([101, 2000, 102])]
    for _ in range(4):
        network.vectors(short)  # alone
    assert network._crowded_tokens == 0
    with runtime._traffic.call():  # as of a thread that reads
        for done in range(1, 4):
            assert network._loader is None
            network.vectors(short)
            assert network._crowded_tokens == done * runtime.ROW_TOKENS
    assert network._loader is not None
    network._loader.join()
    assert network._together is not None


def test_each_stream_makes_its_kernels_before_a_question_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    class Recorder:
        most = 3

        def run(self, feeds: Iterable[Feed]) -> Iterator[list[np.ndarray]]:
            for feed in feeds:
                ran.append(feed[0].shape)
                yield [np.zeros((feed[0].shape[0], 1024), np.float32)]

    network = open_model(registry.find(settings.DEFAULT_ENCODER))[1]
    network.vectors([Row([101] * 40)])
    network.vectors([Row([101] * 9)])
    monkeypatch.setattr(runtime, "WORTH_TOKENS", 0)
    monkeypatch.setattr(network, "_compile", lambda *_: Recorder())
    with runtime._traffic.call():
        network.vectors([Row([101] * 70)])
    assert network._loader is not None
    network._loader.join()
    assert {shape: ran.count(shape) for shape in ran if shape != (1, 80)} == {(1, 16): 3, (1, 48): 3}
    assert isinstance(network._together, Recorder)


def test_what_fails_is_not_under_way() -> None:
    traffic = Traffic()
    with pytest.raises(RuntimeError), traffic.call() as beside:
        assert (beside, traffic.calls) == (False, 1)
        with traffic.call() as beside:
            assert (beside, traffic.calls) == (True, 2)
        raise RuntimeError("refused")
    assert traffic.calls == 0


class CountingRequest:
    """Gives what it is fed, when it is waited for; knows whether it is at work."""

    def __init__(self) -> None:
        self.fed: np.ndarray | None = None
        self.inputs: dict[int, np.ndarray] = {}

    def set_input_tensor(self, at: int, tensor: openvino.Tensor) -> None:
        assert self.fed is None, "a request at work was lent"
        self.inputs[at] = tensor.data

    def start_async(self) -> None:
        assert self.fed is None, "a request at work was lent"
        if self.inputs[0][0] < 0:
            raise RuntimeError("refused")
        self.fed = self.inputs[0]

    def wait(self) -> None:
        assert self.fed is not None
        self.given, self.fed = self.fed, None
        if self.given[0] == 13:
            raise RuntimeError("failed")

    def get_output_tensor(self, _at: int) -> CountingRequest:
        return self

    @property
    def data(self) -> np.ndarray:
        return self.given


class CountingNetwork:
    inputs = outputs = ("one",)

    def __init__(self) -> None:
        self.requests: list[CountingRequest] = []

    def get_property(self, name: str) -> int:
        assert name == "OPTIMAL_NUMBER_OF_INFER_REQUESTS"
        return 3

    def create_infer_request(self) -> CountingRequest:
        self.requests.append(CountingRequest())
        return self.requests[-1]


def feeds(*values: float) -> list[dict[int, np.ndarray]]:
    return [{0: np.array([value], np.float32)} for value in values]


def test_no_more_under_way_than_streams_and_those_that_wait_and_in_order() -> None:
    compiled = CountingNetwork()
    streams = Streams(compiled, name="x")  # type: ignore[arg-type]
    for _ in range(3):
        assert [float(value[0]) for (value,) in streams.run(feeds(*range(10)))] == list(range(10))
    assert len(compiled.requests) == 3 + WAITING
    assert list(streams.run([])) == []


@pytest.mark.parametrize("bad", [-1, 13])
def test_what_fails_and_what_is_given_up_leaves_no_request_at_work(bad: float) -> None:
    compiled = CountingNetwork()
    streams = Streams(compiled, name="x")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        list(streams.run(feeds(1, 2, 3, bad, 4, 5)))
    run = streams.run(feeds(*range(8)))
    assert float(next(run)[0][0]) == 0
    run.close()
    assert all(request.fed is None for request in streams._idle)
    assert [float(value[0]) for (value,) in streams.run(feeds(*range(5)))] == list(range(5))
