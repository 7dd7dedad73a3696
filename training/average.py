"""Average the weights of a finished round with those that it started from, and with the base model's.

    python average.py encoder --run ../runs/encoder --shares 0.6 0.25 0.15

Weights of one training line lie in one basin, and their mean is often better than any of them (Wortsman et al. 2022): a
round on little data wanders less far from what the earlier ones knew. Which shares are best is asked of the held-out
articles. The trained weights are kept beside as KIND-trained.pt; run it between training and export, in a
recipe by `--average`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import loop
from from_ir import BUNDLED, state_of
from network import EncoderNetwork, ReaderNetwork

BASE_SEED = 17  # of the first round, whose head the base network gets


def averaged(kind: str, trained: dict[str, torch.Tensor], shares: dict[str, float]) -> dict[str, torch.Tensor]:
    """Return the weighted mean of the trained, the bundled and the base network's weights.

    Raises:
        SystemExit: the shares do not sum up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise SystemExit(f"shares must sum up to 1, not to {sum(shares.values())}")
    loop.seed_everything(BASE_SEED)
    base = EncoderNetwork() if kind == "encoder" else ReaderNetwork()
    states = {"new": trained, "base": base.state_dict()}
    if shares.get("bundled"):
        states["bundled"] = state_of(BUNDLED / f"{kind}.xml", base)
    return {
        name: sum(share * states[which][name].float() for which, share in shares.items() if share) for name in trained
    }


def main() -> None:
    """Run the averaging from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["encoder", "reader"])
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--shares", type=float, nargs=3, metavar=("NEW", "BUNDLED", "BASE"), required=True)
    options = parser.parse_args()
    result, kept = options.run / f"{options.kind}.pt", options.run / f"{options.kind}-trained.pt"
    if not kept.exists():
        result.replace(kept)
    shares = dict(zip(("new", "bundled", "base"), options.shares, strict=True))
    torch.save(averaged(options.kind, torch.load(kept, weights_only=True), shares), result)


if __name__ == "__main__":
    main()
