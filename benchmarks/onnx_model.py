"""The bundled int8 encoder for ONNX Runtime: the same int8 weights and levels as an ONNX graph, at its best settings.

OpenVINO cannot write ONNX, so the graph is built here from the weights that `weights.py` reads. Several forms of it are
tried, and the fastest is what the product is compared with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import say, timed
from weights import BertWeights, Levels, Linear

CONTRIB = "com.microsoft"  # operations of ONNX Runtime's own, which its optimiser makes as well
OPSET = 20
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@dataclass(frozen=True, slots=True)
class Form:
    """How the graph is written, and how it is run.

    Attributes:
        linear: "qdq" (QuantizeLinear and DequantizeLinear around products, which the optimiser fuses) or "fused"
            (MatMulIntegerToFloat, the operation that it fuses them to, with the bias).
        threads: threads of the session.
        streams: batches that run at once, each with as many threads.
        spin: whether threads wait actively.
        batch_tokens: tokens of a batch, padding included.
    """

    linear: str = "qdq"
    threads: int = 1
    streams: int = 1
    spin: bool = True
    batch_tokens: int = 1536


class _Graph:
    """Collects nodes and constants."""

    def __init__(self, weights: BertWeights, form: Form) -> None:
        self.weights, self.form = weights, form
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._numbers = itertools.count()

    def op(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: object) -> str:
        names = [f"{kind}_{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, values: object) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def levels(self, x: str, name: str, levels: Levels, *, back: bool = True) -> str:
        """Round to the levels: as uint8, or `back` to float at once."""
        scale = self.constant(f"{name}.scale", np.float32(levels.scale))
        zero = self.constant(f"{name}.zero", np.uint8(levels.zero))
        x = self.op("QuantizeLinear", x, scale, zero)
        return self.op("DequantizeLinear", x, scale, zero) if back else x

    def rounded(self, x: str, name: str) -> str:
        """Smooth and round what goes into a linear layer."""
        one = self.weights.linear[name]
        if not (one.smooth == 1).all():
            x = self.op("Mul", x, self.constant(f"{name}.smooth", one.smooth))
        return self.levels(x, f"{name}.in", one.levels, back=self.form.linear == "qdq")

    def linear(self, x: str, name: str) -> str:
        """Multiply what `rounded` gave, add the bias, and round the result where the network does."""
        one = self.weights.linear[name]
        x = self._fused(x, name, one) if self.form.linear == "fused" else self._quantised(x, name, one)
        return self.levels(x, f"{name}.after", one.after) if one.after else x

    def _fused(self, x: str, name: str, one: Linear) -> str:
        weight = self.constant(f"{name}.weight", np.ascontiguousarray(one.numbers.T))
        scale = self.constant(f"{name}.weight.scale", one.scale)
        levels = (
            self.constant(f"{name}.in.scale", np.float32(one.levels.scale)),
            self.constant(f"{name}.in.zero", np.uint8(one.levels.zero)),
        )
        inputs = [x, weight, levels[0], scale, levels[1], ""]
        if one.bias is not None:
            inputs.append(self.constant(f"{name}.bias", one.bias))
        return self.op("MatMulIntegerToFloat", *inputs, domain=CONTRIB)

    def _quantised(self, x: str, name: str, one: Linear) -> str:
        weight = self.constant(f"{name}.weight", np.ascontiguousarray(one.numbers.T))
        scale = self.constant(f"{name}.weight.scale", one.scale)
        zero = self.constant(f"{name}.weight.zero", np.zeros(len(one.scale), np.int8))
        x = self.op("MatMul", x, self.op("DequantizeLinear", weight, scale, zero, axis=1))
        return x if one.bias is None else self.op("Add", x, self.constant(f"{name}.bias", one.bias))

    def norm(self, x: str, name: str) -> str:
        weight, bias = self.weights.norms[name]
        epsilon = self.weights.epsilon
        names = self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)
        return self.op("LayerNormalization", x, *names, epsilon=epsilon)

    def by_heads(self, x: str, order: Sequence[int]) -> str:
        shape = [0, 0, self.weights.heads, self.weights.hidden // self.weights.heads]
        return self.op(
            "Transpose", self.op("Reshape", x, self.constant("heads", np.array(shape, np.int64))), perm=list(order)
        )

    def attention(self, query: str, key: str, value: str, mask: str, number: int) -> str:
        w = self.weights
        scale = self.constant("attention.scale", np.float32((w.hidden // w.heads) ** -0.5))
        scores = self.op("MatMul", self.by_heads(query, (0, 2, 1, 3)), self.by_heads(key, (0, 2, 3, 1)))
        shares = self.op("Softmax", self.op("Add", self.op("Mul", scores, scale), mask), axis=-1)
        shares = self.shares(shares, f"encoder.layer.{number}.shares", *w.shares[number])
        mixed = self.op("Transpose", self.op("MatMul", shares, self.by_heads(value, (0, 2, 1, 3))), perm=[0, 2, 1, 3])
        return self.op("Reshape", mixed, self.constant("joined", np.array([0, 0, w.hidden], np.int64)))

    def shares(self, x: str, name: str, levels: Levels, factor: float) -> str:
        """Round probabilities to the levels, and multiply them."""
        scale = self.constant(f"{name}.scale", np.float32(levels.scale))
        zero = self.constant(f"{name}.zero", np.uint8(levels.zero))
        after = self.constant(f"{name}.after", np.float32(levels.scale * factor))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), after, zero)

    def layer(self, x: str, mask: str, number: int) -> str:
        prefix = f"encoder.layer.{number}"
        seen = self.rounded(x, f"{prefix}.attention.self.query")  # `build` has checked that key and value round alike
        parts = [self.linear(seen, f"{prefix}.attention.self.{name}") for name in ("query", "key", "value")]
        context = self.rounded(self.attention(*parts, mask, number), f"{prefix}.attention.output.dense")
        x = self.op("Add", self.linear(context, f"{prefix}.attention.output.dense"), x)
        x = self.norm(x, f"{prefix}.attention.output.LayerNorm")
        inner = self.linear(self.rounded(x, f"{prefix}.intermediate.dense"), f"{prefix}.intermediate.dense")
        outer = self.rounded(self.op("Gelu", inner), f"{prefix}.output.dense")
        return self.norm(self.op("Add", self.linear(outer, f"{prefix}.output.dense"), x), f"{prefix}.output.LayerNorm")

    def vector(self) -> str:
        """Build the whole network and return the name of its output."""
        x = ""
        for name, ids in (("word", INPUTS[0]), ("token_type", INPUTS[2]), ("position", INPUTS[3])):
            table = self.constant(f"{name}.table", self.weights.tables[f"embeddings.{name}_embeddings"])
            found = self.op("Gather", table, ids)
            x = found if not x else self.op("Add", x, found)
        x = self.norm(x, "embeddings.LayerNorm")
        real = self.op("Cast", INPUTS[1], to=TensorProto.FLOAT)
        absent = self.op("Sub", self.constant("one", np.float32(1)), real)
        away = self.op("Mul", absent, self.constant("away", np.float32(-1e9)))
        mask = self.op("Unsqueeze", away, self.constant("in front", np.array([1, 2], np.int64)))
        for number in range(self.weights.layers):
            x = self.layer(x, mask, number)
        tokens = self.constant("tokens", np.array([1], np.int64))
        weight = self.op("Unsqueeze", real, self.constant("behind", np.array([2], np.int64)))
        total = self.op("ReduceSum", self.op("Mul", x, weight), tokens, keepdims=0)
        mean = self.op("Div", total, self.op("ReduceSum", real, tokens, keepdims=1))
        return self.op("LpNormalization", self.linear(self.rounded(mean, "head"), "head"), axis=-1, p=2)


def build(weights: BertWeights, form: Form) -> onnx.ModelProto:
    """Build the encoder as an ONNX model; batch and length are free."""
    for number in range(weights.layers):
        parts = [weights.linear[f"encoder.layer.{number}.attention.self.{name}"] for name in ("query", "key", "value")]
        if any(one.levels != parts[0].levels or (one.smooth != parts[0].smooth).any() for one in parts):
            raise ValueError(f"layer {number} rounds differently for query, key and value: give each its own rounding")
    graph = _Graph(weights, form)
    output = graph.vector()
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"]) for name in INPUTS]
    width = len(weights.linear["head"].scale)
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])]
    constants = list(graph.constants.values())
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, initializer=constants)
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


class OnnxEncoder:
    """Runs the network in ONNX Runtime: rows sorted by length, in batches padded to their longest row."""

    def __init__(self, weights: BertWeights, form: Form) -> None:
        """Build the graph and let ONNX Runtime optimise it as far as it can."""
        self.form = form
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = form.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if form.spin else "0")
        self._session = onnxruntime.InferenceSession(
            build(weights, form).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def vectors(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Rows of ids with [CLS] and [SEP] -> float32 [len(rows), width], in the order of the rows."""
        found: list[np.ndarray] = [np.empty(0)] * len(rows)

        def run(members: list[int]) -> None:
            shape = len(members), max(len(rows[member]) for member in members)
            feed = {name: np.zeros(shape, np.int32) for name in INPUTS}
            feed["position_ids"][:] = np.arange(shape[1])
            for place, member in enumerate(members):
                feed["input_ids"][place, : len(rows[member])] = rows[member]
                feed["attention_mask"][place, : len(rows[member])] = 1
            (values,) = self._session.run(None, feed)
            for place, member in enumerate(members):
                found[member] = values[place]

        with ThreadPoolExecutor(self.form.streams) as pool:
            list(pool.map(run, self._batches([len(row) for row in rows])))
        return np.stack(found)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lambda member: -lengths[member])
        at = 0
        while at < len(order):
            most = max(1, self.form.batch_tokens // lengths[order[at]])
            yield order[at : at + most]
            at += most


def best_encoder(weights: BertWeights, rows: Sequence[Sequence[int]], *, cores: int, quick: bool) -> OnnxEncoder:
    """Try the forms on some rows, and return the fastest: first the graph, then threads, waiting and batch."""
    best = Form(threads=cores)
    steps: tuple[list[dict[str, object]], ...] = (
        [{"linear": linear} for linear in ("qdq", "fused")],
        [
            {"threads": threads, "streams": streams, "spin": spin}
            for threads, streams in dict.fromkeys([(1, 1), (cores, 1), (1, cores)])
            for spin in ((True, False) if threads > 1 else (False,))
        ],
        [{"batch_tokens": tokens} for tokens in ((1536,) if quick else (384, 768, 1536, 3072, 6144, 12288))],
    )
    for options in steps:
        times = {}
        for option in options:
            form = replace(best, **option)  # type: ignore[arg-type]
            encoder = OnnxEncoder(weights, form)
            encoder.vectors(rows[:8])
            times[form] = min(timed(lambda encoder=encoder: encoder.vectors(rows)) for _ in range(1 if quick else 3))
        best = min(times, key=lambda form: times[form])
    say(f"ONNX Runtime is fastest as {best}")
    return OnnxEncoder(weights, best)


def largest_difference(ours: np.ndarray, other: np.ndarray) -> float:
    """Return the largest L2 distance between two vectors of the same row; all have length 1."""
    return float(np.linalg.norm(ours - other, axis=1).max())
