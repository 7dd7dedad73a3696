"""What do batches of questions bring?

    python benchmarks/batch_questions.py --squad dev-v1.1.json.gz

1,000 questions go to one open index in one process, in turn: in batches, as `odqa query --questions` takes them, and
one after another. The paragraphs of the file are the index.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import fresh_folder, in_turn, run, times_as_fast
from figures import Measured, Spread, figure
from made_index import paragraph_index
from material import chosen, questions


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Index the paragraphs, then ask in both ways in turn."""
    asked = chosen(questions(options.squad), 8 if options.quick else options.questions)
    with fresh_folder(work) as folder, paragraph_index(folder, options) as (qa, passages):
        ways = {
            "in batches": lambda: list(qa.query_many(asked)),
            "one at a time": lambda: [qa.query(question) for question in asked],
        }
        seconds = in_turn(ways, rounds=options.rounds)
    figures = [figure("batch.one", times_as_fast(seconds["in batches"], seconds["one at a time"]))]
    for name, of_rounds in seconds.items():
        rate = Spread.of([len(asked) / one for one in of_rounds])
        figures.append(figure(f"{name}: questions per second", rate, "questions/s"))
    return Measured(figures, {"questions": len(asked), "passages": passages, "rounds": options.rounds})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--questions", type=int, default=1000, help="questions, spread evenly over the file")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
