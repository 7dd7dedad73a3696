"""A compiled network with its requests: as many batches run at once as it has streams. And how much is under way."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heapreplace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from odqa.errors import ModelError

if TYPE_CHECKING:
    import openvino

Feed = dict[int, NDArray[Any]]
# Work on one row grows by so much with each further processor that has a part in it. Measured with two processors: 0.02
# to 0.08 for rows of 96 to 384 tokens, 0.15 for 64.
SHARING_COST = 0.1
# Batches that wait behind those that run. Whoever fetches a result may have to wait for Python's lock, and a stream
# with nothing behind its batch is idle for so long: with two, indexing is 1.00 to 1.03 times as fast.
WAITING = 2


def last_end(costs: Iterable[float], streams: int) -> float:
    """Return when the last of several streams is done, if the dearest row goes first, always to the idle stream."""
    ends = [0.0] * streams
    for cost in sorted(costs, reverse=True):
        heapreplace(ends, ends[0] + cost)
    return max(ends)


class Traffic:
    """Counts the calls of networks that are under way: those of one process share its processors."""

    def __init__(self) -> None:
        """Start with nothing under way."""
        self.calls = 0
        self._lock = threading.Lock()

    @contextmanager
    def call(self) -> Iterator[bool]:
        """Count a call while it is under way; gives whether others are."""
        with self._lock:
            self.calls += 1
            beside = self.calls > 1
        try:
            yield beside
        finally:
            with self._lock:
                self.calls -= 1


class Streams:
    """Runs batches through a compiled network. Threads may share one; each gets requests of its own.

    Attributes:
        inputs: ports of the network.
        most: batches that run at once.
    """

    def __init__(self, compiled: openvino.CompiledModel, memory: memoryview | None = None, *, name: str) -> None:
        """Take a compiled network; `memory` is what it reads from, `name` what errors call it."""
        self.inputs = compiled.inputs
        self._compiled, self._name, self._process = compiled, name, os.getpid()
        self._memory = memory  # nothing here reads it: it must live as long as the network
        self.most = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._outputs = len(compiled.outputs)
        self._idle: list[openvino.InferRequest] = []
        self._lock = threading.Lock()

    def even(self, costs: Sequence[float]) -> bool:
        """Tell whether rows of these costs are done sooner in streams than in turn, with all processors at each.

        They are not where one of few rows is so long that the other processors would be idle for most of its time.
        """
        in_turn = sum(costs) / self.most * (1 + SHARING_COST * (self.most - 1))
        return last_end(costs, self.most) <= in_turn

    def run(self, feeds: Iterable[Feed]) -> Iterator[list[NDArray[np.float32]]]:
        """Yield the outputs of each batch, by position, in order; batches are taken `WAITING` before they are run.

        Raises:
            ModelError: the network was loaded before this process was made by a fork.
            RuntimeError: OpenVINO refuses a batch.
        """
        if os.getpid() != self._process:  # OpenVINO's threads do not survive a fork
            raise ModelError(f"{self._name} was loaded before this process was made by fork: load it after the fork")
        if self.most == 1:
            yield from map(self._alone, feeds)
            return
        running: deque[tuple[openvino.InferRequest, Feed]] = deque()  # feeds are held as long as they are read
        try:
            for feed in feeds:
                if len(running) == self.most + WAITING:
                    yield self._outcome(running)
                request = self._request(feed)
                request.start_async()
                running.append((request, feed))
            while running:
                yield self._outcome(running)
        finally:
            for request, _ in running:  # whoever asked has had enough; requests must be idle when they are lent again
                request.wait()
                self._give_back(request)

    def _alone(self, feed: Feed) -> list[NDArray[np.float32]]:
        request = self._request(feed)
        try:
            request.infer(share_outputs=True)  # they are copied below, without a dictionary of them
            return self._outputs_of(request)
        finally:
            self._give_back(request)

    def _outcome(self, running: deque[tuple[openvino.InferRequest, Feed]]) -> list[NDArray[np.float32]]:
        request, _ = running.popleft()
        request.wait()
        values = self._outputs_of(request)
        self._give_back(request)
        return values

    def _outputs_of(self, request: openvino.InferRequest) -> list[NDArray[np.float32]]:
        # Copies: the tensors are the request's own, and change with its next batch.
        return [np.array(request.get_output_tensor(at).data, dtype=np.float32) for at in range(self._outputs)]

    def _request(self, feed: Feed) -> openvino.InferRequest:
        """Take an idle request, or make one, that reads its inputs where they lie: hold them until it is done."""
        import openvino

        with self._lock:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        for at, values in feed.items():
            request.set_input_tensor(at, openvino.Tensor(values, shared_memory=True))
        return request

    def _give_back(self, request: openvino.InferRequest) -> None:
        with self._lock:
            self._idle.append(request)
