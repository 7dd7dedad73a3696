"""The reference way: one text at a time, padded to a fixed length, one synchronous request; everything in memory.

As the question answering demo of the Open Model Zoo does it, with odqa's tokenizer, which is faster than the demo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino

from odqa.models.registry import BUNDLED
from odqa.models.runtime import Tokenizer
from odqa.reader.omz import omz_span, omz_windows

CONTEXT_TOKENS = 384
QUESTION_TOKENS = 32


class StaticNetwork:
    """A network at a fixed shape of one row, in OpenVINO.

    Args:
        path: the .xml.
        tokens: length of the row.
        precision: "f32", as odqa computes, or None for what OpenVINO takes by itself (bf16 where the processor has it).
    """

    def __init__(self, path: Path, tokens: int, *, precision: str | None) -> None:
        """Compile it with OpenVINO's defaults besides the precision."""
        core = openvino.Core()
        model = core.read_model(path)
        model.reshape({port: [1, tokens] for port in model.inputs})
        options = {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(model, "CPU", options)
        self.tokens = tokens
        self._names = [port.any_name for port in model.inputs]
        self._outputs = compiled.outputs
        self._request = compiled.create_infer_request()
        self._feed = {name: np.zeros((1, tokens), np.int32) for name in self._names}
        if "position_ids" in self._feed:
            self._feed["position_ids"][0] = np.arange(tokens)

    def run(self, ids: Sequence[int], types: Sequence[int] = ()) -> list[np.ndarray]:
        """Pad one row and run it; returns all outputs of the row."""
        for name in self._names:
            if name != "position_ids":
                self._feed[name][:] = 0
        self._feed["input_ids"][0, : len(ids)] = ids
        self._feed["attention_mask"][0, : len(ids)] = 1
        if len(types):
            self._feed["token_type_ids"][0, : len(types)] = types
        found = self._request.infer(self._feed)
        return [found[output][0] for output in self._outputs]


class ReferenceEncoder:
    """Encodes texts one after another."""

    def __init__(self, path: Path, tokens: int, *, precision: str | None = "f32") -> None:
        """Take the network at one length: 384 for contexts, 32 for questions."""
        self._network = StaticNetwork(path, tokens, precision=precision)
        self._tokenizer = Tokenizer(BUNDLED / "vocab.txt", lower_case=True)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts, cut to what fits -> float32 [len(texts), width]."""
        words, room = self._tokenizer, self._network.tokens - 2
        rows = []
        for text in texts:
            (vector,) = self._network.run([words.cls_id, *words.encode(text).ids[:room], words.sep_id])
            rows.append(vector)
        return np.stack(rows)


class ReferenceReader:
    """Reads passages one window after another, each padded to 384 tokens."""

    def __init__(self, path: Path, *, precision: str | None = "f32") -> None:
        """Take the network at 384 tokens."""
        self._network = StaticNetwork(path, CONTEXT_TOKENS, precision=precision)
        self._tokenizer = Tokenizer(BUNDLED / "vocab.txt", lower_case=True)

    def answer(self, question: str, passages: Sequence[str]) -> str:
        """Return the span with the highest product of probabilities over all windows."""
        words = self._tokenizer
        texts = [words.encode(passage) for passage in passages]
        best, answer = 0.0, ""
        asked = words.encode(question).ids
        for window in omz_windows(
            asked, texts, cls_id=words.cls_id, sep_id=words.sep_id, max_tokens=self._network.tokens
        ):
            start, end = self._network.run(window.ids, window.token_types)[:2]
            span = omz_span(start, end, window)
            if span.score > best:
                offsets = texts[window.passage].offsets
                answer = passages[window.passage][offsets[span.first][0] : offsets[span.last][1]]
                best = span.score
        return answer


class ReferenceSearch:
    """Exact search by L2 distance among vectors in memory."""

    def __init__(self, vectors: np.ndarray) -> None:
        """Hold vectors float32 [n, width]."""
        self._vectors = vectors

    def nearest(self, vector: np.ndarray, top_k: int) -> list[int]:
        """Return the rows of the nearest vectors, nearest first."""
        distances = ((self._vectors - vector) ** 2).sum(axis=1)
        nearest = np.argpartition(distances, min(top_k, len(distances)) - 1)[:top_k]
        return nearest[np.argsort(distances[nearest])].tolist()
