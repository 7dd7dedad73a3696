from __future__ import annotations

import bert_cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import random_rows, run

from odqa.models.huggingface import graph
from odqa.models.huggingface.bert import Bert, TensorSource, bert_config, read_bert
from odqa.models.huggingface.graph import SpanHead
from odqa.models.huggingface.sparsity import without_zeros

CONFIG = bert_cases.config(hidden_size=96, intermediate_size=96, num_hidden_layers=1)  # three heads of 32
AT = "bert.encoder.layer.0."
QUERY, KEY, VALUE = (f"{AT}attention.self.{part}" for part in ("query", "key", "value"))
OUTPUT, WIDEN, NARROW = (f"{AT}{part}.dense" for part in ("attention.output", "intermediate", "output"))

Arrays = dict[str, np.ndarray]


def zeroed(*places: tuple[str, object], **more: object) -> Arrays:
    """Return the weights with zeros at some places."""
    tensors = bert_cases.tensors(CONFIG | more)
    for name, place in places:
        tensors[name] = tensors[name].copy()
        tensors[name][place] = 0
    return tensors


def read(tensors: Arrays, config: dict[str, object] = CONFIG) -> Bert:
    return read_bert(TensorSource(tensors), bert_config(config))


def assert_same_outputs(tensors: Arrays, bert: Bert, config: dict[str, object] = CONFIG) -> None:
    head = SpanHead(TensorSource(tensors).linear("qa_outputs", 2, bert.hidden_size))
    rows = random_rows(config)
    found = run(graph.build(bert, head), rows)
    for place, (ids, types) in enumerate(rows):
        wanted = bert_cases.logits(tensors, config, ids, types)
        np.testing.assert_allclose([values[place, : len(ids)] for values in found], wanted, atol=2e-5)


def sizes(bert: Bert) -> tuple[int, int, int, int]:
    """Return heads, rows of queries and keys, rows of values, and neurons of the first layer."""
    layer = bert.layers[0]
    assert layer.query.weight.shape == layer.key.weight.shape
    assert layer.value.weight.shape[0] == layer.output.weight.shape[1]
    assert layer.widen.weight.shape[0] == layer.narrow.weight.shape[1]
    return (layer.heads, len(layer.query.bias), len(layer.value.bias), len(layer.widen.bias))


ALL = slice(None)
CASES = {
    "nothing": ([], (3, 96, 96, 96)),
    "blocks that no row or column is made of": ([(WIDEN + ".weight", (slice(32), slice(32)))], (3, 96, 96, 96)),
    "neurons without outgoing weights": ([(NARROW + ".weight", (ALL, slice(64, 96)))], (3, 96, 96, 64)),
    "neurons without incoming weights": ([(WIDEN + ".weight", slice(64, 96))], (3, 96, 96, 64)),
    "neurons of both kinds": (
        [(WIDEN + ".weight", slice(32)), (NARROW + ".weight", (ALL, slice(32, 80)))], (3, 96, 96, 16),
    ),
    "too few to make a kernel faster": ([(WIDEN + ".weight", slice(15))], (3, 96, 96, 96)),
    "as many as fill steps": ([(WIDEN + ".weight", slice(20))], (3, 96, 96, 80)),
    "all neurons": ([(WIDEN + ".weight", ALL)], (3, 96, 96, 0)),
    "all neurons, outgoing": ([(NARROW + ".weight", ALL)], (3, 96, 96, 0)),
    "a head without outgoing weights": ([(OUTPUT + ".weight", (ALL, slice(32, 64)))], (2, 64, 64, 96)),
    "a head with constant values": ([(VALUE + ".weight", slice(32, 64))], (2, 64, 64, 96)),
    "a head half of each": (
        [(VALUE + ".weight", slice(32, 50)), (OUTPUT + ".weight", (ALL, slice(50, 64)))], (2, 64, 64, 96),
    ),
    "all heads": ([(VALUE + ".weight", ALL)], (0, 0, 0, 96)),
    "columns of values in every head": (
        [(OUTPUT + ".weight", (ALL, [*range(16), *range(40, 60), *range(64, 96)]))], (2, 64, 32, 96),
    ),
    "columns of queries in every head": (
        [(part, [*range(20), *range(33, 60), *range(70, 96)]) for part in (QUERY + ".weight", QUERY + ".bias")],
        (3, 48, 96, 96),
    ),
    "queries that are constant but not zero": ([(QUERY + ".weight", ALL)], (3, 96, 96, 96)),
    "keys that are constant": ([(KEY + ".weight", ALL)], (3, 48, 96, 96)),
    "columns of keys in one head alone": ([(KEY + ".weight", slice(32))], (3, 96, 96, 96)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_zeros_are_dropped_and_the_outputs_stay(case: str) -> None:
    places, wanted = CASES[case]
    tensors = zeroed(*places)
    smaller = without_zeros(read(tensors))
    assert sizes(smaller) == wanted
    assert_same_outputs(tensors, smaller)


def test_a_model_without_zeros_stays_as_it_is() -> None:
    bert = read(zeroed())
    for found, wanted in zip(without_zeros(bert).arrays(), bert.arrays(), strict=True):
        assert found is wanted


def test_removed_heads_and_zeros_together() -> None:
    config = CONFIG | {"num_hidden_layers": 3, "pruned_heads": {"0": [1], "2": [0, 1, 2]}, "hidden_act": "gelu_new"}
    tensors = bert_cases.tensors(config)
    tensors[VALUE + ".weight"][:32] = 0
    for layer in range(3):
        tensors[f"bert.encoder.layer.{layer}.intermediate.dense.weight"][layer * 30 :] = 0
    smaller = without_zeros(read(tensors, config))
    assert [(layer.heads, len(layer.widen.bias)) for layer in smaller.layers] == [(1, 0), (3, 32), (0, 64)]
    assert_same_outputs(tensors, smaller, config)


@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.1, 0.3, 0.6]))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_any_pattern_of_blocks_gives_the_outputs_of_the_dense_weights(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    tensors = zeroed()
    for name in (QUERY, KEY, VALUE, OUTPUT, WIDEN, NARROW):
        rows, columns = (size // 16 for size in tensors[f"{name}.weight"].shape)
        blocks = rng.random((rows, columns)) < density * rng.random((rows, 1)) * 2
        tensors[f"{name}.weight"] *= np.kron(blocks, np.ones((16, 16), np.float32))
    smaller = without_zeros(read(tensors))
    assert all(a <= b for a, b in zip(sizes(smaller), (3, 96, 96, 96), strict=True))
    assert_same_outputs(tensors, smaller)
