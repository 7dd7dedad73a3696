"""What both training runs share: seeds, the learning rate schedule, padding, checkpoints, the log."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor, nn

from from_ir import BUNDLED, state_of
from network import base_folder

PAD_TO = 8  # lengths are padded to multiples of this: few shapes, little waste
CLS, SEP = 101, 102


def seed_everything(seed: int) -> None:
    """Seed Python and PyTorch."""
    random.seed(seed)
    torch.manual_seed(seed)


def start_from(model: nn.Module, where: str, kind: str) -> None:
    """Give a new network its first weights: the base model's ("base"), or the bundled network's ("bundled")."""
    if where == "bundled":
        model.load_state_dict(state_of(BUNDLED / f"{kind}.xml", model))


def plain_tokenizer() -> Tokenizer:
    """BERT WordPiece, lower-cased, that adds no special tokens and knows none in user text."""
    vocabulary = WordPiece.read_file(str(base_folder() / "vocab.txt"))
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word piece, no password
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def pad(rows: Sequence[Sequence[int]], value: int = 0) -> Tensor:
    """Stack rows of ids, padded to the longest, rounded up to `PAD_TO`."""
    width = -(-max(map(len, rows)) // PAD_TO) * PAD_TO
    out = torch.full((len(rows), width), value, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.as_tensor(row)
    return out


def optimizer_for(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; what is frozen is left out."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def rate_at(progress: float, *, peak: float, warm_up: float = 0.08) -> float:
    """Linear warm-up over the first share of training, linear decay to 0; `progress` in [0, 1]."""
    return peak * (progress / warm_up if progress < warm_up else max(0.0, (1 - progress) / (1 - warm_up)))


class Run:
    """One training run in a folder: its log, its newest checkpoint, and where to go on after an interruption."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: torch.optim.AdamW, *, every_seconds: float) -> None:
        """Take up the newest checkpoint of the folder, if there is one."""
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self.every_seconds, self.saved_at = every_seconds, time.monotonic()
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        newest = folder / "checkpoint.pt"
        if newest.exists():
            state = torch.load(newest, weights_only=True, map_location="cpu")
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
            self.step = state["step"]
            self.log(event="resumed", step=self.step)

    def log(self, **fields: object) -> None:
        """Append one JSON line to log.jsonl, and print it."""
        line = json.dumps({"time": round(time.time(), 1), **fields})
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save(self, *, force: bool = False) -> None:
        """Write the checkpoint when it is due; written beside and renamed, so a kill leaves the old one."""
        if not force and time.monotonic() - self.saved_at < self.every_seconds:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "step": self.step,
        }
        beside = self.folder / "checkpoint.tmp"
        torch.save(state, beside)
        beside.replace(self.folder / "checkpoint.pt")
        self.saved_at = time.monotonic()
