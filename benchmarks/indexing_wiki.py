"""How fast are full passages of a real corpus indexed?

    python benchmarks/indexing_wiki.py --wiki wiki/

Compared in turn with the reference loop on the same network. Full passages leave little to padding and batches, so the
whole of `odqa index`, writing to disk included, stands against a loop that holds its vectors in memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import fresh_folder, in_turn, run, times_as_fast
from figures import Measured, Spread, figure
from indexing_squad import indexed
from material import full_passages, mean_tokens, write_lines
from odqa import settings
from odqa.models.registry import BUNDLED
from odqa.retriever.encoder import load_encoder
from reference import CONTEXT_TOKENS, ReferenceEncoder


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Time indexing and the reference loop in turn on the same passages."""
    count = 6 if options.quick else options.passages
    pieces = full_passages(options.wiki, count)
    texts = [f"{piece.title} {piece.text}" for piece in pieces]  # odqa puts the title in front of the passage, too
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    exact = ReferenceEncoder(BUNDLED / "encoder.xml", CONTEXT_TOKENS)
    free = ReferenceEncoder(BUNDLED / "encoder.xml", CONTEXT_TOKENS, precision=None)
    with fresh_folder(work) as folder:
        lines = write_lines(folder / "passages.jsonl", pieces)
        ways = {
            "odqa index": lambda: indexed(folder, lines, encoder, count),
            "reference": lambda: exact.encode(texts),
            "reference, own precision": lambda: free.encode(texts),
        }
        seconds = in_turn(ways, rounds=options.rounds)
    measured = Measured(
        [figure("wiki.reference", times_as_fast(seconds["odqa index"], seconds["reference"]))],
        {"passages": count, "tokens": round(mean_tokens(texts), 1), "rounds": options.rounds},
    )
    own = times_as_fast(seconds["odqa index"], seconds["reference, own precision"])
    measured.figures.append(figure("against the reference loop at OpenVINO's own precision", own, "x"))
    for name, of_rounds in seconds.items():
        rate = Spread.of([count / one for one in of_rounds])
        measured.figures.append(figure(f"{name}: passages per second", rate, "passages/s"))
    return measured


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--passages", type=int, default=3000, help="passages of at least 320 tokens")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
