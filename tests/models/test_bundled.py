"""The models in the package: whole, of the shapes that the registry says, and indifferent to padding."""

from __future__ import annotations

import numpy as np
import pytest

from odqa.models.opening import open_model
from odqa.models.registry import ModelSpec, models, verify
from odqa.models.runtime import Network, Row, Tokenizer

BUNDLED = [spec for spec in models() if spec.source == "bundled"]
TEXTS = ["Who wrote the first program?", "Ada Lovelace wrote it in 1843. " * 9, "The engine was never built. " * 40]


def rows(tokenizer: Tokenizer) -> list[Row]:
    return [Row([tokenizer.cls_id, *e.ids[:382], tokenizer.sep_id]) for e in tokenizer.encode_batch(TEXTS)]


def run(spec: ModelSpec, network: Network, given: list[Row]) -> list[np.ndarray]:
    if spec.task == "encode":
        return list(network.vectors(given))
    return [np.stack(pair, axis=1) for pair in network.logits(given)]


@pytest.mark.parametrize("spec", BUNDLED, ids=lambda spec: spec.name)
def test_a_bundled_model_works_as_it_is_described(spec: ModelSpec) -> None:
    verify(spec)
    tokenizer, network = open_model(spec)
    given = rows(tokenizer)
    found = run(spec, network, given)
    wanted = [(spec.width,)] * 3 if spec.task == "encode" else [(len(row.ids), 2) for row in given]
    assert [values.shape for values in found] == wanted
    for row, values in zip(given, found, strict=True):
        np.testing.assert_allclose(run(spec, network, [row])[0], values, atol=1e-4)
    assert np.abs(found[0].ravel()[:12] - found[1].ravel()[:12]).max() > 0.01  # no constant


@pytest.mark.parametrize("spec", BUNDLED, ids=lambda spec: spec.name)
def test_padding_changes_nothing(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, network = open_model(spec)
    given = rows(tokenizer)[:2]
    found = run(spec, network, given)
    monkeypatch.setattr("odqa.models.runtime.LENGTH_BUCKETS", (384,))
    for padded, values in zip(run(spec, network, given), found, strict=True):
        np.testing.assert_allclose(padded, values, atol=1e-3)
