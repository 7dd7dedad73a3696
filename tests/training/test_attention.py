"""Integer attention in a network of one attention, in the form in which NNCF leaves it: needs the extra `training`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

pytestmark = pytest.mark.slow

HEADS, SIZE, TOKENS = 2, 4, 9
WIDTH = HEADS * SIZE
RNG = np.random.default_rng(7)
FACTORS = RNG.uniform(0.5, 2, (1, 1, WIDTH)).astype(np.float32)


def rounded(values: ov.Node) -> ov.Node:
    low, high = (opset13.constant(np.float32(bound)) for bound in (-4 * 128 / 127, 4))
    return opset13.fake_quantize(values, low, high, low, high, 256)


def network() -> ov.Model:
    """Queries, keys and values of the input itself; the context smoothed, rounded and multiplied."""
    given = opset13.parameter([-1, -1, WIDTH], np.float32, name="states")
    mask = opset13.parameter([-1, 1, 1, -1], np.float32, name="mask")

    def heads(order: tuple[int, ...], *, round_it: bool) -> ov.Node:
        weight = RNG.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32)
        made = opset13.add(opset13.matmul(given, opset13.constant(weight), False, True), np.float32(0.1))
        flat = opset13.reshape(rounded(made) if round_it else made, np.array([0, 0, HEADS, SIZE]), True)
        return opset13.transpose(flat, np.array(order))

    query, key = heads((0, 2, 1, 3), round_it=True), heads((0, 2, 1, 3), round_it=True)
    value = heads((0, 2, 1, 3), round_it=False)
    scale = opset13.constant(np.float32(SIZE**-0.5))
    context = opset13.scaled_dot_product_attention(query, key, value, mask, scale)
    flat = opset13.reshape(opset13.transpose(context, np.array([0, 2, 1, 3])), np.array([0, 0, WIDTH]), True)
    smooth = opset13.multiply(flat, opset13.constant(FACTORS))
    smooth.set_friendly_name("context/nncf_smooth_quant")
    weight = opset13.constant(RNG.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32))
    product = opset13.matmul(rounded(smooth), weight, False, True)
    product.set_friendly_name("product")
    return ov.Model([opset13.result(product)], [given, mask], "one attention")


def rows(count: int) -> list[dict[str, np.ndarray]]:
    return [
        {
            "states": RNG.normal(0, 1, (1, tokens, WIDTH)).astype(np.float32),
            "mask": np.zeros((1, 1, 1, tokens), np.float32),
        }
        for tokens in RNG.integers(1, TOKENS, count)
    ]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))


@pytest.mark.parametrize("round_first", [True, False])
def test_it_computes_what_the_network_computed_but_for_rounding(*, round_first: bool) -> None:
    from attention import integer_attention

    model, asked = network(), rows(40)
    run = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = [run(row)[0] for row in asked]
    integer_attention(model, rows(40), round_first=round_first)
    run = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    off = np.concatenate([(run(row)[0] - one).ravel() for row, one in zip(asked, expected, strict=True)])
    assert 0 < np.square(off).mean() < 0.001 * np.concatenate([np.square(one).ravel() for one in expected]).mean()


@pytest.mark.parametrize("round_first", [True, False])
def test_both_factors_of_the_context_are_rounded_and_its_smoothing_is_found(*, round_first: bool) -> None:
    from attention import integer_attention
    from from_ir import smoothing_of

    model = network()
    integer_attention(model, rows(5), round_first=round_first)
    ops = model.get_ordered_ops()
    [softmax] = [one for one in ops if one.get_type_name() == "Softmax"]
    [shares] = [port.get_node() for port in softmax.output(0).get_target_inputs()]
    [context] = [port.get_node() for port in shares.output(0).get_target_inputs()]
    values = context.input_value(1).get_node().input_value(0).get_node().input_value(0).get_node()
    [after] = [port.get_node() for port in context.output(0).get_target_inputs()]
    kinds = [one.get_type_name() for one in (shares, values, after)]
    assert kinds == ["FakeQuantize", "FakeQuantize", "FakeQuantize" if round_first else "Transpose"]
    product = next(one for one in ops if one.get_friendly_name() == "product")
    np.testing.assert_array_equal(smoothing_of(ov.Core(), product.input_value(0)), FACTORS.reshape(1, -1))
    with pytest.raises(ValueError, match="has integer attention already"):
        integer_attention(model, rows(5), round_first=round_first)
