"""Imported models against the implementation that they come from; needs the extras `import` and `training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from small_networks import VOCABULARY, write_vocabulary

from odqa.models.convert import Precision, import_model
from odqa.models.opening import open_model
from odqa.models.runtime import Row

if TYPE_CHECKING:
    from transformers import BertModel

pytestmark = pytest.mark.slow

SHAPES = {
    "2 layers of 64": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128},
    "2 layers of 64, tanh": {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96,
        "hidden_act": "gelu_new",
    },
    "12 layers of 768": {"initializer_range": 0.02},  # with larger weights all tokens become alike in so many layers
}  # fmt: skip
LENGTHS = (5, 16, 33, 130, 384)


def random_model(kind: str, changes: dict[str, object]) -> BertModel:
    import torch
    import transformers

    torch.manual_seed(3)
    config = transformers.BertConfig(**{"vocab_size": len(VOCABULARY), "initializer_range": 0.05, **changes})
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                weight += torch.randn_like(weight) * 0.1
    return model


def rows() -> list[Row]:
    rng = np.random.default_rng(4)
    return [Row(rng.integers(4, len(VOCABULARY), n).tolist(), [0] * (n // 3) + [1] * (n - n // 3)) for n in LENGTHS]


def save(model: BertModel, folder: Path, form: str) -> None:
    import torch

    model.save_pretrained(folder, max_shard_size="100MB")
    if form == "bin":
        for path in folder.glob("model*.safetensors*"):
            path.unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    write_vocabulary(folder)


def best_spans(logits: NDArray[np.float32], row: Row) -> list[tuple[float, tuple[int, int]]]:
    """Rank all spans of the context of at most 30 tokens, the best first, by plain loops."""
    tokens = range(row.token_types.index(1), len(row.ids))
    spans = [(i, j) for i in tokens for j in tokens if i <= j < i + 30]
    return sorted(((float(logits[0, i]) + float(logits[1, j]), (i, j)) for i, j in spans), reverse=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("precision", "tolerance", "form"),
    [("fp32", 1e-3, "safetensors"), ("fp16", 2e-2, "safetensors"), ("fp32", 1e-3, "bin")],
)
def test_readers(shape: str, precision: Precision, tolerance: float, form: str, tmp_path: Path) -> None:
    import torch

    model = random_model("BertForQuestionAnswering", SHAPES[shape])
    save(model, tmp_path / "source", form)
    environment = {"ODQA_MODELS_DIR": str(tmp_path / "models")}
    spec = import_model(tmp_path / "source", name="mine", precision=precision, environment=environment)
    found = open_model(spec, environment=environment)[1].logits(rows())
    for row, pair in zip(rows(), found, strict=True):
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor([row.ids]), token_type_ids=torch.tensor([row.token_types]))
        logits = np.stack([wanted.start_logits[0].numpy(), wanted.end_logits[0].numpy()])
        np.testing.assert_allclose(np.stack(pair), logits, atol=tolerance)
        difference = float(np.abs(np.stack(pair) - logits).max())
        (best, span), (second, _), *_ = best_spans(logits, row)
        assert best - second > 4 * difference  # each score is a sum of two logits: rounding cannot decide
        assert best_spans(np.stack(pair), row)[0][1] == span


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 2e-2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_encoders(shape: str, precision: Precision, tolerance: float, tmp_path: Path) -> None:
    import torch

    model = random_model("BertModel", SHAPES[shape])
    save(model, tmp_path / "source", "safetensors")
    environment = {"ODQA_MODELS_DIR": str(tmp_path / "models")}
    spec = import_model(tmp_path / "source", name="mine", precision=precision, environment=environment)
    given = [Row(row.ids) for row in rows()]
    found = open_model(spec, environment=environment)[1].vectors(given)
    for row, vector in zip(given, found, strict=True):
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor([row.ids])).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, wanted, atol=tolerance)
