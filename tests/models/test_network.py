from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as op
import pytest
import small_networks
from small_networks import VOCABULARY, expected_logits, expected_vector

from odqa.errors import DamagedModelError, ModelError
from odqa.models import runtime
from odqa.models.opening import open_model
from odqa.models.runtime import BATCH_TOKENS, Network, Row, bucket

LENGTHS = [3, 40, 17, 16, 1, 33, 40, 5]


def rows_of(lengths: list[int], *, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [Row(rng.integers(1, len(VOCABULARY), n).tolist(), [0] * (n // 2) + [1] * (n - n // 2)) for n in lengths]


def encoder(folder: Path, **options: object) -> Network:
    path = folder / "network.xml"
    small_networks.write_encoder(path, **options)
    inputs = options.get("inputs", small_networks.ALL_INPUTS)
    return Network(path, path.with_suffix(".bin"), inputs=inputs, outputs=["embedding"], per_token=False)


def reader(folder: Path, **options: object) -> Network:
    path = folder / "network.xml"
    small_networks.write_reader(path, **options)
    inputs = options.get("inputs", small_networks.ALL_INPUTS[:3])
    return Network(path, path.with_suffix(".bin"), inputs=inputs, outputs=["output_s", "output_e"], per_token=True)


SHAPES = [
    {},
    {"named": False},
    {"shape": (1, 64)},
    {"shape": (1, -1)},
    {"shape": (-1, 64)},
    {"shape": (1, 64), "baked": True},
    {"shape": (2, 64), "baked": True},
    {"kind": np.int64},
]


@pytest.mark.parametrize("options", [*SHAPES, {"inputs": ("attention_mask", "input_ids")}])
def test_encoders_of_every_form_give_the_same_vectors(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = [Row(row.ids) for row in rows_of(LENGTHS)]
    positions = "inputs" not in options
    wanted = np.stack([expected_vector(row.ids, positions=positions) for row in rows])
    found = encoder(tmp_path, **options).vectors(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "options", [*SHAPES, {"inputs": ("token_type_ids", "input_ids", "attention_mask"), "named": False}]
)
def test_readers_of_every_form_give_the_same_logits(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = rows_of(LENGTHS)
    found = reader(tmp_path, **options).logits(rows)
    for row, (start, end) in zip(rows, found, strict=True):
        wanted = expected_logits(row.ids, row.token_types)
        np.testing.assert_allclose(start, wanted[0], atol=1e-5)
        np.testing.assert_allclose(end, wanted[1], atol=1e-5)


def test_padding_and_neighbours_do_not_change_a_vector(tmp_path: Path) -> None:
    network = encoder(tmp_path)
    rows = [Row(row.ids) for row in rows_of(list(range(1, 80)))]
    together = network.vectors(rows)
    for i in (0, 15, 16, 40, 78):
        np.testing.assert_allclose(together[i], network.vectors([rows[i]])[0], atol=1e-6)
    np.testing.assert_array_equal(network.vectors(rows[::-1])[::-1], together)


def test_batches_are_bounded_and_complete(tmp_path: Path) -> None:
    network = reader(tmp_path)
    lengths = np.random.default_rng(3).integers(1, 385, 120).tolist()
    seen: list[int] = []
    for members, (batch, tokens) in network._batches(lengths, BATCH_TOKENS):
        assert len(members) == batch
        assert batch * tokens <= BATCH_TOKENS
        assert tokens in runtime.LENGTH_BUCKETS
        assert all(bucket(lengths[member]) == tokens for member in members)
        seen += members
    assert sorted(seen) == list(range(len(lengths)))


def test_buckets() -> None:
    assert [bucket(n) for n in (1, 16, 17, 128, 129, 256, 257, 384, 385, 512, 513)] == [
        16, 16, 32, 128, 144, 256, 272, 384, 448, 512, 640,
    ]  # fmt: skip


def test_results_are_copies_and_stay(tmp_path: Path) -> None:
    network = reader(tmp_path)
    first, second = rows_of([20], seed=1), rows_of([20], seed=2)
    before = network.logits(first)[0][0]
    kept = before.copy()
    network.logits(second)
    np.testing.assert_array_equal(before, kept)
    assert network.logits([]) == []
    with pytest.raises(ValueError, match="at least one row"):
        network.vectors([])


def test_threads_share_a_network(tmp_path: Path) -> None:
    network = encoder(tmp_path)
    rows = [Row(row.ids) for row in rows_of([1 + i % 40 for i in range(120)])]
    barrier = threading.Barrier(4)

    def work(part: int) -> np.ndarray:
        barrier.wait()
        return np.concatenate([network.vectors([row]) for row in rows[part::4]])

    with ThreadPoolExecutor(4) as pool:
        for part, found in enumerate(pool.map(work, range(4))):
            np.testing.assert_allclose(found, [expected_vector(row.ids) for row in rows[part::4]], atol=1e-5)


def test_one_core_for_the_process() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len({id(core) for core in pool.map(lambda _: runtime.core(), range(8))}) == 1


def test_rows_too_long_for_a_fixed_network(tmp_path: Path) -> None:
    network = encoder(tmp_path, shape=(1, 64), baked=True)
    network.vectors(rows_of([64]))
    with pytest.raises(ValueError, match=r"network\.xml takes 64 tokens, a row has 65"):
        network.vectors(rows_of([3, 65]))


def test_rows_that_mean_nothing() -> None:
    for ids, types in (([], []), ([1, 2], [0])):
        with pytest.raises(ValueError, match="a row needs ids"):
            Row(ids, types)


def test_networks_that_do_not_fit_their_entry(tmp_path: Path) -> None:
    path = tmp_path / "network.xml"
    small_networks.write_encoder(path)

    def build(inputs: Sequence[str], outputs: Sequence[str]) -> Network:
        return Network(path, path.with_suffix(".bin"), inputs=inputs, outputs=outputs, per_token=False)

    with pytest.raises(ModelError, match=r"network\.xml has the outputs .*embedding.* says \['output_s', 'output_e'\]"):
        build(inputs=small_networks.ALL_INPUTS, outputs=["output_s", "output_e"])
    small_networks.write_encoder(path, named=False)
    with pytest.raises(ModelError, match=r"network\.xml has the inputs .* says \['input_ids', 'attention_mask'\]"):
        build(inputs=["input_ids", "attention_mask"], outputs=["embedding"])
    path.write_text("<net", encoding="utf-8")
    with pytest.raises(ModelError, match=r"OpenVINO cannot load .*network\.xml"):
        build(inputs=["input_ids"], outputs=["embedding"])


def test_networks_with_other_inputs(tmp_path: Path) -> None:
    ids = op.parameter([-1], np.int32, name="input_ids")
    path = tmp_path / "network.xml"
    openvino.save_model(openvino.Model([op.result(op.convert(ids, np.float32))], [ids], "flat"), path)
    with pytest.raises(ModelError, match=r"instead of \[batch, tokens\]"):
        Network(path, path.with_suffix(".bin"), inputs=["input_ids"], outputs=["embedding"], per_token=True)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    ids = op.parameter([-1, -1], np.int32, name="input_ids")
    mean = op.reduce_mean(op.log(op.convert(ids, np.float32)), op.constant(np.array([1], np.int32)), True)
    path = tmp_path / "network.xml"
    openvino.save_model(openvino.Model([op.result(mean)], [ids], "log"), path)
    network = Network(path, path.with_suffix(".bin"), inputs=["input_ids"], outputs=["embedding"], per_token=False)
    assert network.vectors([Row([1] * 16)]).tolist() == [[0.0]]
    with pytest.raises(ModelError, match="not finite"):
        network.vectors([Row([1] * 16), Row([0] * 16)])


def test_open_model_verifies_before_it_parses(tmp_path: Path) -> None:
    spec = small_networks.reader_spec(tmp_path)
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    tokenizer, network = open_model(spec, environment=environment)
    ids = tokenizer.encode("the cat").ids
    np.testing.assert_allclose(network.logits([Row(ids)])[0][0], expected_logits(ids, [0, 0])[0], atol=1e-6)
    path = tmp_path / spec.name / "network.xml"
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(DamagedModelError, match=r"network\.xml"):
        open_model(spec, environment=environment)
