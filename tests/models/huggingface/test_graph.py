from __future__ import annotations

from collections import Counter
from typing import Any

import bert_cases
import numpy as np
import openvino
import pytest

from odqa.models.huggingface import graph
from odqa.models.huggingface.bert import Linear, TensorSource, bert_config, read_bert
from odqa.models.huggingface.graph import Dense, Normalise, SpanHead, VectorHead
from odqa.models.runtime import core

LENGTHS = (1, 2, 17, 60)
CONFIGS = [
    {},
    {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    {"hidden_act": "relu"},
    {"hidden_act": "silu", "num_hidden_layers": 1},
    {"hidden_act": "tanh", "hidden_size": 40, "num_attention_heads": 8, "intermediate_size": 33},
    {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512, "num_hidden_layers": 1},
    {"pruned_heads": {"0": [1], "1": [0, 2]}},
    {"pruned_heads": {"0": [0, 1, 2]}},
    {"num_hidden_layers": 3, "pruned_heads": {"1": [0, 1, 2], "2": [2]}},
]


def random_rows(config: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(7)
    return [(rng.integers(0, config["vocab_size"], n), np.repeat([0, 1], [n // 2, n - n // 2])) for n in LENGTHS]


def network(config: dict[str, Any], tensors: dict[str, np.ndarray], head: VectorHead | None = None) -> openvino.Model:
    source, settings = TensorSource(tensors), bert_config(config)
    span = SpanHead(source.linear("qa_outputs", 2, settings.hidden_size)) if head is None else None
    return graph.build(read_bert(source, settings), head or span)


def run(model: openvino.Model, rows: list[tuple[np.ndarray, np.ndarray]], *, junk: bool = False) -> list[np.ndarray]:
    """Run rows in one batch, padded to the longest and a few more, with random ids and types if `junk`, else zeros."""
    rng = np.random.default_rng(11)
    shape = (len(rows), max(len(ids) for ids, _ in rows) + 5)
    ids, types = (
        rng.integers(0, high, shape).astype(np.int32) if junk else np.zeros(shape, np.int32) for high in (50, 2)
    )
    mask = np.zeros(shape, np.int32)
    for place, (own_ids, own_types) in enumerate(rows):
        n = len(own_ids)
        ids[place, :n], types[place, :n], mask[place, :n] = own_ids, own_types, 1
    positions = np.tile(np.arange(shape[1], dtype=np.int32), (len(rows), 1))
    feed = dict(zip(graph.ENCODER_INPUTS, (ids, mask, types, positions), strict=True))
    names = [port.any_name for port in model.inputs]
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({name: feed[name] for name in names})
    return [results[port].copy() for port in compiled.outputs]


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_readers_give_the_logits_of_the_reference(changes: dict[str, Any]) -> None:
    config = bert_cases.config(**changes)
    tensors = bert_cases.tensors(config)
    model, rows = network(config, tensors), random_rows(config)
    assert [port.any_name for port in model.inputs] == list(graph.READER_INPUTS)
    assert [port.any_name for port in model.outputs] == list(graph.READER_OUTPUTS)
    assert all(port.element_type == openvino.Type.i32 and str(port.partial_shape) == "[?,?]" for port in model.inputs)
    found = run(model, rows)
    for place, (ids, types) in enumerate(rows):
        wanted = bert_cases.logits(tensors, config, ids, types)
        assert np.ptp(wanted, axis=1).min() > 0.1 or len(ids) == 1  # no constant
        np.testing.assert_allclose([values[place, : len(ids)] for values in found], wanted, atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["plain", "normal", "dense"])
def test_encoders_give_the_vectors_of_the_reference(pooling: str, kind: str) -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config, prefix="", head=False)
    rng = np.random.default_rng(5)
    linear = Linear(rng.normal(size=(20, 48)).astype(np.float32), rng.normal(size=20).astype(np.float32))
    steps = {"plain": (), "normal": (Normalise(),), "dense": (Dense(linear, "tanh"), Normalise())}[kind]
    model = network(config, tensors, VectorHead(pooling, steps))
    assert [port.any_name for port in model.inputs] == list(graph.ENCODER_INPUTS)
    assert [port.any_name for port in model.outputs] == ["embedding"]
    rows = random_rows(config)
    (found,) = run(model, rows)
    assert found.shape == (len(rows), 20 if kind == "dense" else 48)
    for place, (ids, types) in enumerate(rows):
        states = bert_cases.hidden_states(tensors, config, ids, types, prefix="")
        vector = states.mean(0) if pooling == "mean" else states[0]
        if kind == "dense":
            vector = np.tanh(vector @ linear.weight.T + linear.bias)
        if kind != "plain":
            vector = vector / np.linalg.norm(vector)
        np.testing.assert_allclose(found[place], vector, atol=2e-5)


def test_what_stands_in_the_padding_has_no_influence() -> None:
    config = bert_cases.config()
    tensors, rows = bert_cases.tensors(config), random_rows(config)
    model = network(config, tensors)
    for plain, junk in zip(run(model, rows), run(model, rows, junk=True), strict=True):
        for place, (ids, _) in enumerate(rows):
            np.testing.assert_array_equal(plain[place, : len(ids)], junk[place, : len(ids)])
    model = network(config, tensors, VectorHead())
    np.testing.assert_array_equal(run(model, rows), run(model, rows, junk=True))


def test_a_row_that_is_all_padding_gives_finite_numbers() -> None:
    config = bert_cases.config()
    model = network(config, bert_cases.tensors(config), VectorHead("mean", (Normalise(),)))
    empty = np.zeros(0, np.int32)
    assert np.isfinite(run(model, [(empty, empty)])[0]).all()


@pytest.mark.parametrize("head", [None, VectorHead()])
def test_positions_beyond_the_table_are_nothing(head: VectorHead | None) -> None:
    config = bert_cases.config(max_position_embeddings=20)
    tensors = bert_cases.tensors(config)
    rows = random_rows(config)
    found = run(network(config, tensors, head), rows)
    name = "bert.embeddings.position_embeddings.weight"
    tensors[name] = np.concatenate([tensors[name], np.zeros((80, 48), np.float32)])
    config["max_position_embeddings"] = 100
    np.testing.assert_array_equal(found, run(network(config, tensors, head), rows))


def test_position_ids_are_heeded() -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config)
    compiled = core().compile_model(network(config, tensors, VectorHead()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ids = np.array([[4, 5, 6]], np.int32)
    ones, places = np.ones_like(ids), np.array([[2, 0, 1]], np.int32)
    turned = dict(tensors)
    table = turned["bert.embeddings.position_embeddings.weight"].copy()
    table[:3] = table[[2, 0, 1]]
    turned["bert.embeddings.position_embeddings.weight"] = table
    wanted = bert_cases.hidden_states(turned, config, ids[0], [0, 0, 0]).mean(0)
    np.testing.assert_allclose(compiled([ids, ones, ones * 0, places])[0][0], wanted, atol=2e-5)


def test_removed_heads_make_the_network_smaller() -> None:
    kinds = []
    for removed in ({}, {"0": [0, 1, 2]}):
        config = bert_cases.config(pruned_heads=removed)
        kinds.append(Counter(node.get_type_name() for node in network(config, bert_cases.tensors(config)).get_ops()))
    # Four dense layers and two products of a layer without heads are gone.
    assert kinds[0]["MatMul"] - kinds[1]["MatMul"] == 6
    assert kinds[0]["Softmax"] - kinds[1]["Softmax"] == 1


def test_names_do_not_depend_on_what_was_built_before() -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config)
    first, second = (
        [node.get_friendly_name() for node in network(config, tensors).get_ordered_ops()] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first)
