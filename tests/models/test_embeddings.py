"""Int8 tables are looked up before they are scaled; no number changes, and what is of another form is left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino
import pytest
from openvino import opset15 as ops

from odqa import settings
from odqa.models import registry
from odqa.models.embeddings import keep_embeddings_small
from odqa.models.runtime import core

RNG = np.random.default_rng(7)
ROWS, WIDTH = 50, 6
IDS = np.array([[0, 5, 3], [3, 3, 1]], np.int32)  # rows or columns

Factor = Callable[[], np.ndarray]


def by_row() -> np.ndarray:
    return RNG.normal(size=(ROWS, 1)).astype(np.float32)


def everywhere() -> np.ndarray:
    return np.array([[0.25]], np.float32)


def a_number() -> np.ndarray:
    return np.array(0.25, np.float32)


def by_column() -> np.ndarray:
    return RNG.normal(size=(1, WIDTH)).astype(np.float32)


def model_of(
    *factors: tuple[str, Factor], dtype: type = np.int8, axis: int = 0
) -> tuple[openvino.Model, list[np.ndarray]]:
    """Look rows of a table up that is scaled as a whole; return what must come out for `IDS`, too."""
    ids = ops.parameter([-1, -1], np.int32, name="ids")
    limits = (0, 255) if dtype == np.uint8 else (-128, 127)
    table = RNG.integers(*limits, (ROWS, WIDTH)).astype(dtype)
    value, wanted = ops.convert(ops.constant(table), "f32"), table.astype(np.float32)
    for kind, factor in factors:
        value = getattr(ops, kind)(value, ops.constant(held := factor()))
        wanted = getattr(np, kind)(wanted, held)
    found = ops.gather(value, ids, ops.constant(axis))
    rows = np.take(wanted, IDS, axis=axis)
    return openvino.Model([ops.relu(found), found], [ids]), [np.maximum(rows, 0), rows]


def results(model: openvino.Model) -> list[np.ndarray]:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(value) for value in compiled([IDS]).values()]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    "factors",
    [
        (("multiply", by_row),),
        (("multiply", by_column),),
        (("multiply", everywhere),),
        (("multiply", a_number),),
        (("subtract", by_row), ("multiply", by_row)),
        (("subtract", everywhere), ("multiply", by_column)),
        (),
    ],
)
def test_rows_are_scaled_after_they_are_looked_up(factors: tuple[tuple[str, Factor], ...], dtype: type) -> None:
    model, wanted = model_of(*factors, dtype=dtype)
    assert keep_embeddings_small(model) == 1
    for expected, found in zip(wanted, results(model), strict=True):
        np.testing.assert_array_equal(expected, found)
    first = next(op for op in model.get_ops() if op.get_type_name() == "Gather")
    assert first.input_value(0).get_element_type().to_string() in ("i8", "u8", "f32")
    assert first.input_value(0).get_node().get_type_name() == "Constant"
    assert keep_embeddings_small(model) == 0  # nothing is left to do


@pytest.mark.parametrize(
    ("factors", "dtype", "axis"),
    [
        ((("multiply", by_row),), np.int8, 1),  # columns are looked up
        ((("multiply", by_row),), np.float16, 0),  # no int8
        ((("add", by_row),), np.int8, 0),  # neither scaled nor shifted
    ],
)
def test_what_is_of_another_form_is_left_alone(factors: tuple[tuple[str, Factor], ...], dtype: type, axis: int) -> None:
    model, wanted = model_of(*factors, dtype=dtype, axis=axis)
    assert keep_embeddings_small(model) == 0
    for expected, found in zip(wanted, results(model), strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("name", [settings.DEFAULT_ENCODER, settings.DEFAULT_READER])
def test_the_bundled_networks_hold_no_float_table(name: str) -> None:
    spec = registry.find(name)
    paths = {file.role: registry.folder(spec) / file.name for file in spec.files}
    model = core().read_model(paths["network"], paths["weights"])
    assert keep_embeddings_small(model) == 3  # of words, positions and types
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(model, "CPU", options).export_model().getvalue()
    assert len(compiled) < 1.3 * sum(file.size or 0 for file in spec.files)
