"""What the product is compared with computes the same as it does. Needs the extras `bench` and `training`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from material import paragraphs
from odqa import settings
from odqa.models import registry
from odqa.models.opening import open_model
from odqa.models.runtime import Row
from odqa.retriever.encoder import DenseEncoder, load_encoder
from weights import BertWeights, bundled_weights

pytestmark = pytest.mark.slow

Rows = list[list[int]]


def texts() -> list[str]:
    return [*[piece.text for piece in paragraphs(None)][:5], "A very short one."]


@pytest.fixture(scope="module")
def encoder() -> DenseEncoder:
    return load_encoder(settings.DEFAULT_ENCODER)


@pytest.fixture(scope="module")
def rows(encoder: DenseEncoder) -> Rows:
    words = encoder.tokenizer
    return [[words.cls_id, *one.ids[:382], words.sep_id] for one in words.encode_batch(texts())]


@pytest.fixture(scope="module")
def ours(rows: Rows) -> np.ndarray:
    """The dense halves alone, which is what the other libraries compute."""
    _, network = open_model(registry.find(settings.DEFAULT_ENCODER))
    return network.vectors([Row(row, [1] * len(row)) for row in rows])


@pytest.fixture(scope="module")
def weights() -> BertWeights:
    return bundled_weights("encoder")


@pytest.mark.parametrize("linear", ["qdq", "fused"])
def test_onnx_runtime_gives_the_vectors_of_openvino(
    linear: str, weights: BertWeights, rows: Rows, ours: np.ndarray
) -> None:
    from onnx_model import Form, OnnxEncoder, largest_difference

    found = OnnxEncoder(weights, Form(linear=linear)).vectors(rows)
    apart = np.linalg.norm(ours[:, None] - ours[None], axis=2)[~np.eye(len(ours), dtype=bool)]
    assert largest_difference(ours, found) < 0.05 < apart.min() / 5


def test_a_network_that_is_not_the_same_is_noticed(weights: BertWeights, rows: Rows, ours: np.ndarray) -> None:
    from onnx_model import Form, OnnxEncoder, largest_difference

    name = "encoder.layer.2.output.dense"
    rough = replace(weights.linear[name], smooth=np.ones_like(weights.linear[name].smooth))
    other = replace(weights, linear={**weights.linear, name: rough})
    assert largest_difference(ours, OnnxEncoder(other, Form()).vectors(rows)) > 0.1


def test_pytorch_gives_what_int8_is_near_to(weights: BertWeights, rows: Rows, ours: np.ndarray) -> None:
    from pytorch_model import TorchBert

    assert np.einsum("nw,nw->n", ours, TorchBert(weights).vectors(rows)).min() > 0.95


def test_the_reader_in_pytorch_points_to_the_same_words() -> None:
    from pytorch_model import TorchBert

    words, network = open_model(registry.find(settings.DEFAULT_READER))
    asked = words.encode("Who designed the tower of Cape Dorrit?").ids
    windows, types = [], []
    for text in texts()[:4]:
        context = words.encode(text).ids[:300]
        windows.append([words.cls_id, *asked, words.sep_id, *context, words.sep_id])
        types.append([0] * (len(asked) + 2) + [1] * (len(context) + 1))
    ours = network.logits([Row(ids, kinds) for ids, kinds in zip(windows, types, strict=True)])
    found = TorchBert(bundled_weights("reader")).logits(windows, types)
    for (start, end), (other_start, other_end) in zip(ours, found, strict=True):
        assert np.corrcoef(start, other_start)[0, 1] > 0.98
        assert np.corrcoef(end, other_end)[0, 1] > 0.98
