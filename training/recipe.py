"""One bundled model from the training file to the package: every step in order, each done once.

    python recipe.py encoder --squad train-v1.1.json.gz --run ../runs/encoder
    python recipe.py reader --squad train-v1.1.json.gz --run ../runs/reader

Started again after an interruption it goes on with the step, and within the training with the batch, where it was. It
ends by writing the network as int8 IR, its registry entry (size, checksums, calibration, figures), the golden values of
the tests and the model card. The encoder goes first: the reader's calibration depends on what is retrieved. A third
kind, "teacher", is trained and not shipped: a reader learns from it (`--teacher ../runs/teacher/teacher.pt`). With
`--wiki` the bundled encoder learns from itself and a wider one (`distil_encoder.py`). Options that are not known here
are handed to the training script (`--rate 1.2e-4`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NEGATIVES, TEACHERS = "negatives.json", "teachers"

# Keep freed memory, in large pages. Without this glibc gives the buffers of each batch back to the system and gets them
# anew, page by page: training is 1.3 times as fast with it. Other systems take no notice.
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass(frozen=True)
class Step:
    """A script with its arguments and the file in the run's folder that says that it is done."""

    script: str
    arguments: tuple[str, ...]
    result: str


def steps(options: argparse.Namespace) -> list[Step]:
    """Return the steps of a recipe, in order."""
    kind, run, squad = options.kind, str(options.run), ("--squad", str(options.squad))
    few = ("--limit-articles", str(options.limit_articles)) if options.limit_articles else ()
    count = ("--count", str(options.count))
    length = ("--steps" if kind == "encoder" else "--epochs", str(options.length)) if options.length else ()
    seed = ("--seed", str(options.seed))
    mined = run + "/" + NEGATIVES
    samples = ("--samples", str(options.samples))
    fit = "fusion" if kind == "encoder" else "reader"
    often = ("--checkpoint-seconds", str(options.checkpoint_seconds))
    start = ("--start", "mpnet" if kind == "teacher" else options.start)
    training = ("--out", run, "--negatives", mined, *start, *length, *few, *seed, *often, *options.others)
    shares = ("--shares", *map(str, options.average)) if options.average else ()
    mine = Step("mine.py", (*squad, "--out", mined, *few), NEGATIVES)
    if kind == "teacher":
        return [mine, Step("train_reader.py", (*squad, *training), "teacher.pt")]
    train = [Step(f"train_{kind}.py", (*squad, *training), f"{kind}.pt")]
    if options.wiki is not None:
        texts = ("--wiki", str(options.wiki), *(("--without", str(options.without)) if options.without else ()))
        texts = (*squad, *texts, "--articles", str(options.articles), *few, *seed)
        judged = ("--teachers", f"{run}/{TEACHERS}", "--negatives", mined, "--out", run)
        train = [
            Step("judge_texts.py", (*texts, "--out", f"{run}/{TEACHERS}"), f"{TEACHERS}.done"),
            Step("distil_encoder.py", (*texts, *judged, *length, *often, *options.others), "encoder.pt"),
        ]
    if shares:
        train.append(Step("average.py", (kind, "--run", run, *shares), "average.done"))
    return [
        mine,
        *train,
        Step("export.py", (kind, *squad, "--run", run, *samples, *few, *seed), "export.done"),
        Step("calibrate.py", (fit, *squad, "--out", f"{run}/calibration.json", *count, *seed), "calibration.json"),
        Step("compare.py", (kind, *squad, "--run", run, *count, *seed), "comparison.json"),
        Step("golden.py", (kind, "--run", run), "golden.done"),
        Step("card.py", (kind, "--run", run, *start, *shares), "card.done"),
    ]


def main() -> None:
    """Run what is not done yet; stop at the first step that fails, with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["encoder", "reader", "teacher"])
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run: checkpoint, log, results")
    parser.add_argument("--start", choices=["base", "bundled"], default="base", help="the first weights")
    parser.add_argument(
        "--length", type=float, help="steps of the encoder, epochs of the others (default: the recipe's)"
    )
    parser.add_argument(
        "--average",
        type=float,
        nargs=3,
        metavar=("NEW", "BUNDLED", "BASE"),
        help="export the mean of the trained, the bundled and the base weights, with these shares",
    )
    parser.add_argument("--wiki", type=Path, help="encoder: learn from teachers, on these articles as well")
    parser.add_argument("--without", type=Path, help="with --wiki: SQuAD file whose articles are not to be seen")
    parser.add_argument("--articles", type=int, default=2000, help="with --wiki: how many articles are taken")
    parser.add_argument("--count", type=int, default=6000, help="most held-out questions for calibration, comparison")
    parser.add_argument("--samples", type=int, default=300, help="texts that the quantisation is calibrated on")
    parser.add_argument("--limit-articles", type=int, help="train on the first articles only, to try the recipe")
    parser.add_argument("--checkpoint-seconds", type=float, default=300, help="least time between checkpoints")
    parser.add_argument("--seed", type=int, default=17)
    options, options.others = parser.parse_known_args()
    if options.wiki is not None:
        if options.kind != "encoder":
            parser.error("--wiki is for the encoder")
        options.start = "bundled"
    if options.kind == "encoder" and options.length is not None:
        options.length = round(options.length)
    options.run.mkdir(parents=True, exist_ok=True)
    for step in steps(options):
        if (options.run / step.result).exists():
            print(f"{step.script}: done before", flush=True)
            continue
        began = time.monotonic()
        command = [sys.executable, str(HERE / step.script), *step.arguments]
        print(" ".join(command), flush=True)
        code = subprocess.run(command, check=False, env={**MEMORY, **os.environ}).returncode  # noqa: S603 - our own
        if code:
            raise SystemExit(code)
        if step.result.endswith(".done"):
            (options.run / step.result).touch()
        print(f"{step.script}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
