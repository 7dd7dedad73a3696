"""How long does a person wait for a command that starts from nothing?

    python benchmarks/cold_start.py --wiki wiki/

Whole processes, from the start to the exit: `odqa query` on an index of 5,000 documents, `import odqa`, `odqa --help`,
and an empty Python beside them, in turn. The index has the articles' own text and made vectors, which cost the same.
Files are where the system keeps them: after the first run in memory, as on a machine where odqa is in use. One more
figure has the index dropped from that memory before each run, where the system allows it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common import fresh_folder, in_turn, run
from figures import Measured, Spread, figure
from made_index import build, made_vectors
from material import articles, documents, questions, real_vectors

BASE = 64  # articles whose beginnings are encoded; the vectors are made from theirs
MOST_PASSAGES = 400  # of an article, on average, so that there are vectors enough


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Make an index, then start the commands in turn."""
    count = 20 if options.quick else options.documents
    question = questions(options.squad)[0]
    with fresh_folder(work) as folder:
        index = folder / "index"
        base = real_vectors(list(itertools.islice(articles(options.wiki), BASE)))
        passages = build(index, documents(options.wiki, count), made_vectors(base, count * MOST_PASSAGES))
        query = [*odqa_command(), "query", question, "--index-dir", str(index)]
        ways = {
            "cold.query": command(query),
            "dropped": lambda: (drop(index), command(query)()),
            "cold.import": command([sys.executable, "-c", "import odqa"]),
            "cold.help": command([*odqa_command(), "--help"]),
            "python": command([sys.executable, "-c", "pass"]),
        }
        seconds = in_turn(ways, rounds=options.rounds if options.quick else 4 * options.rounds)
    names = {
        "dropped": "cold `odqa query`, the index dropped from the system's memory first",
        "python": "an empty Python, whole process",
    }
    return Measured(
        [figure(names.get(name, name), Spread.of(found), "s") for name, found in seconds.items()],
        {"documents": count, "passages": passages},
    )


def odqa_command() -> list[str]:
    """Return how this Python's odqa is started."""
    script = Path(sys.executable).with_name("odqa")
    return [str(script)] if script.exists() else [sys.executable, "-m", "odqa"]


def command(words: Sequence[str]) -> Callable[[], object]:
    """Return a call that runs a command to its end; what it writes goes nowhere.

    Python may keep what it compiles: pip compiles what it installs, so nobody waits for that at every start.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=environment)


def drop(folder: Path) -> None:
    """Ask the system to forget what it holds of the files of a folder (POSIX)."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if hasattr(os, "posix_fadvise"):
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--documents", type=int, default=5000, help="documents in the index")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
