"""How long does hybrid search take among 500,000 passages?

    python benchmarks/hybrid_search.py --squad dev-v1.1.json.gz --wiki wiki/

The passages are the corpus cut to pieces of about 100 words, then texts of words drawn as often as they occur in it;
the vectors are made. The questions are real, their vectors made: the encoder is not part of this. Searches by vectors
and by words alone stand beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from common import fresh_folder, in_turn_over, percentiles, run
from figures import Measured, Spread, figure
from made_index import ServingEncoder, build, grouped, made_vectors
from material import chosen, questions, real_vectors, short_passages
from odqa import settings
from odqa.retriever.hybrid import HybridRetriever
from odqa.store.index import Index

PASSAGES_PER_DOCUMENT = 40
BASE = 2000  # real passages that are encoded; the vectors are made from theirs


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Make the index, then search it in all modes in turn."""
    count = 400 if options.quick else options.passages
    asked = chosen(questions(options.squad), 4 if options.quick else options.questions)
    base = list(short_passages(options.wiki, 16 if options.quick else BASE))
    vectors = real_vectors(base)
    with fresh_folder(work) as folder:
        pieces = short_passages(options.wiki, count)
        build(folder / "index", grouped(pieces, PASSAGES_PER_DOCUMENT), made_vectors(vectors, count))
        with Index.open(folder / "index") as index:
            retriever = HybridRetriever(index, ServingEncoder(vectors))
            ways = {
                mode: lambda question, mode=mode: retriever.retrieve([question], mode=mode) for mode in settings.MODES
            }
            seconds = in_turn_over(ways, asked, options.rounds)
            held = index.status()
    figures = [figure("hybrid.p95", Spread.of(percentiles(seconds["hybrid"], 95)) * 1e3)]
    for mode, rounds in seconds.items():
        shown = (50,) if mode == "hybrid" else (50, 95)
        figures += [figure(f"{mode}: p{part}", Spread.of(percentiles(rounds, part)) * 1e3, "ms") for part in shown]
    words = float(np.mean([len(question.split()) for question in asked]))
    about = {"passages": held.passages, "documents": held.documents, "questions": len(asked), "words": round(words, 1)}
    return Measured(figures, about)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--passages", type=int, default=500_000, help="passages in the index")
    parser.add_argument("--questions", type=int, default=100, help="questions, spread evenly over the file")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
