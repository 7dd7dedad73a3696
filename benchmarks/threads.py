"""How many answers a second do 8 threads get from one open index, as in a server?

    python benchmarks/threads.py --squad dev-v1.1.json.gz

Compared in turn with one thread that asks the same questions. The paragraphs of the file are the index.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import fresh_folder, in_turn, run, times_as_fast
from figures import Measured, Spread, figure
from made_index import paragraph_index
from material import chosen, questions


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Index the paragraphs, then ask in both ways in turn."""
    asked = chosen(questions(options.squad), 8 if options.quick else options.questions)
    names = {"one": "1 thread", "many": f"{options.threads} threads"}
    with (
        fresh_folder(work) as folder,
        paragraph_index(folder, options) as (qa, passages),
        ThreadPoolExecutor(options.threads) as pool,
    ):
        ways = {
            "one": lambda: [qa.query(question) for question in asked],
            "many": lambda: list(pool.map(qa.query, asked)),
        }
        seconds = in_turn(ways, rounds=options.rounds)
    figures = [figure("threads.eight", times_as_fast(seconds["many"], seconds["one"]))]
    for name, of_rounds in seconds.items():
        rate = Spread.of([len(asked) / one for one in of_rounds])
        figures.append(figure(f"{names[name]}: answers per second", rate, "answers/s"))
    about = {"questions": len(asked), "passages": passages, "threads": options.threads, "rounds": options.rounds}
    return Measured(figures, about)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--questions", type=int, default=200, help="questions, spread evenly over the file")
    parser.add_argument("--threads", type=int, default=8, help="threads that ask at once")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
