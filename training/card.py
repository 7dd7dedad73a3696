"""The end of a training run: figures into the registry, and the run's facts and figures into the model's card.

A card is `cards/NAME.json`; docs/generate.py shows it in docs/models.md. Rounds add up: a run that started from the
bundled weights is one more round, a run from the base weights is the first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from export import MODELS, NAMES

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "training" / "cards"
SETTINGS = (
    "start",
    "base_share",
    "windows",
    "epochs",
    "steps",
    "rate",
    "temperature",
    "title_share",
    "wrong_share",
    "cropped",
    "cropped_tokens",
    "freeze_embeddings",
    "teacher_share",
    "mean_of",
    "batch_tokens",
    "seed",
)


def facts_of(run: Path) -> dict[str, Any]:
    """Read what a run did from its log: settings, batches, questions, last loss."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    start = next(line for line in reversed(lines) if line.get("event") == "start")
    losses = [line["loss"] for line in lines if "loss" in line]
    done = next(line for line in reversed(lines) if line.get("event") == "done")
    facts = {key: start[key] for key in SETTINGS if start.get(key) not in (None, "None")}
    return {
        **facts,
        "batches": done["step"],
        "questions": start["questions"],
        "last_loss": losses[-1] if losses else None,
    }


def figures_of(kind: str, run: Path) -> dict[str, dict[str, float]]:
    """Collect the figures of the run's last steps: what was fitted, and int8 against float32."""
    calibration = json.loads((run / "calibration.json").read_text(encoding="utf-8"))
    comparison = json.loads((run / "comparison.json").read_text(encoding="utf-8"))
    return {
        f"held-out articles, `training/calibrate.py {'fusion' if kind == 'encoder' else 'reader'}`": calibration,
        f"int8, held-out articles, `training/compare.py {kind}`": comparison["int8"],
        f"float32, held-out articles, `training/compare.py {kind}`": comparison["float32"],
    }


def measured_of(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Name the held-out figures of the int8 network as the registry does."""
    names = {"recall@5": "held_out_top_5_percent", "f1": "held_out_f1_percent", "em": "held_out_exact_match_percent"}
    int8 = next(values for name, values in figures.items() if name.startswith("int8"))
    return {names[key]: round(100 * value, 1) for key, value in int8.items() if key in names}


def main() -> None:
    """Write the card and the figures of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(NAMES))
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--start", choices=["base", "bundled"], default="base", help="the first weights of the run")
    parser.add_argument("--shares", type=float, nargs=3, help="shares of new, bundled, base weights, if averaged")
    options = parser.parse_args()
    name = NAMES[options.kind]
    figures = figures_of(options.kind, options.run)

    path = CARDS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rounds"] if path.exists() else []
    shares = zip(options.shares or (), ("new", "bundled", "base"), strict=False)
    averaged = {"average": ", ".join(f"{share:g} {which}" for share, which in shares)} if options.shares else {}
    rounds = [*(before if options.start == "bundled" else []), {**facts_of(options.run), **averaged}]
    CARDS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"rounds": rounds, "figures": figures}, indent=2) + "\n", encoding="utf-8")

    registry = MODELS / "registry.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    entry = next(e for e in entries if e["name"] == name)
    # Figures of the weights that were there before are not true of these.
    entry["measured"] = measured_of(figures)
    registry.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py")], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
