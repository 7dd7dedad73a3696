"""What both training runs share: seeds, the learning rate schedule, padding, checkpoints, the log."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
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
MEAN_FROM = 0.4  # share of training before the weights whose mean is taken


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

    def learn(self, loss: Tensor, *, steps: int, peak: float) -> None:
        """Take one of so many steps down the gradient of `loss`, at the learning rate of that step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at((self.step + 0.5) / steps, peak=peak)
        self.optimizer.step()
        self.step += 1

    def keep_for_mean(self, *, steps: int, count: int) -> None:
        """Keep the weights of this step, if it is one of the `count` whose mean is wanted: the last is that of `steps`.

        They are evenly spread over what is behind `MEAN_FROM` of the training.
        """
        wanted = {round(steps * (1 - (1 - MEAN_FROM) * number / count)) for number in range(count)}
        if self.step in wanted:
            torch.save(self.model.state_dict(), self.folder / f"weights-{self.step:06}.pt")

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of the weights that were kept, or those of now if there are none.

        The mean of the last part of a training generalises better than its end (Izmailov et al. 2018).
        """
        kept = [torch.load(path, weights_only=True) for path in sorted(self.folder.glob("weights-*.pt"))]
        kept = kept or [self.model.state_dict()]
        return {name: sum(one[name].float() for one in kept) / len(kept) for name in kept[0]}

    def finish(self, result: Mapping[str, object], name: str) -> None:
        """Write the last checkpoint, and what the training ends with as a file of the folder."""
        self.save(force=True)
        torch.save(result, self.folder / name)
        self.log(event="done", step=self.step)

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
