"""The lexical half in the bundled network's graph, against the same in NumPy. Needs the extra `training`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from odqa import settings
from odqa.models import registry
from odqa.models.opening import open_model
from odqa.models.runtime import Row

pytestmark = pytest.mark.slow

TEXTS = [
    "The lamp of the harbour is kept by Mara Venn, who climbs the tower at dusk; the lamp is old.",
    "Zubrowka",
    "of the and",
    "",
    "A quince is a hard fruit with a strong scent. " * 30,
]


def test_the_graph_computes_what_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    import openvino

    import lexical
    from export import dense_head

    graph = openvino.Core().read_model(registry.BUNDLED / "encoder.xml")
    weights = next(
        op.data
        for op in graph.get_ops()
        if op.get_type_name() == "Constant" and list(op.shape) == [30522] and op.get_element_type() == openvino.Type.f32
    )
    words, network = open_model(registry.find(settings.DEFAULT_ENCODER))
    rows = [[words.cls_id, *one.ids[:382], words.sep_id] for one in words.encode_batch(TEXTS)]
    whole = network.vectors([Row(row) for row in rows])
    dense = network.vectors([Row(row, [1] * len(row)) for row in rows])

    rest, quotient = lexical.codes()
    turned = lexical.complement(dense_head(graph))
    np.testing.assert_allclose(turned @ turned.T, np.eye(len(turned)), atol=1e-5)
    expected = dense.copy()
    for place, row in enumerate(rows):
        bag = np.zeros(rest.shape[1])
        for piece in set(row):
            count = row.count(piece)
            code = rest[piece % len(rest)].astype(float) * quotient[piece // len(rest)]
            bag += weights[piece] * count / (count + 1) * code
        if bag.any():
            expected[place] += (lexical.SHARE**0.5 * bag / np.linalg.norm(bag)) @ turned
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(whole, expected, atol=1e-4)
