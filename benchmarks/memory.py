"""Does memory grow with the corpus? Peak memory of indexing at 1, 4 and 16 times a made corpus, and of searching.

    python benchmarks/memory.py                  1,000, 4,000 and 16,000 documents; searching 1,000,000 vectors
    python benchmarks/memory.py --vectors 0      indexing only

Each run is a process of its own with an encoder that holds nothing, so that what grows is what odqa holds: one file of
JSON lines and as many small files, each indexed anew and then once more without change.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import peak_of, run, say
from figures import Measured, figure
from memory_child import WIDTH, make_corpus, make_snapshot

FACTORS = (1, 4, 16)
CHILD = str(Path(__file__).with_name("memory_child.py"))


def indexing_peaks(work: Path, *, documents: int, factors: tuple[int, ...], files: bool) -> dict[str, dict[int, int]]:
    """Return the peaks in bytes of indexing made corpora: "anew" and "unchanged", by factor.

    Args:
        work: a folder for corpora and indexes; what is made in it is removed.
        documents: documents of the smallest corpus.
        factors: how many times as many the corpora have.
        files: whether each document is a file; else they are lines of one.
    """
    peaks: dict[str, dict[int, int]] = {"anew": {}, "unchanged": {}}
    for factor in factors:
        with tempfile.TemporaryDirectory(dir=work) as passing:
            corpus, index = Path(passing, "corpus"), Path(passing, "index")
            make_corpus(corpus, documents * factor, files=files)
            for name, of_run in peaks.items():
                of_run[factor] = peak_of([sys.executable, CHILD, "index", str(index), str(corpus)])
                say(f"{documents * factor} documents, {name}: {of_run[factor] / 1e6:.1f} MB")
    return peaks


def searching(work: Path, *, vectors: int) -> dict[str, int]:
    """Return what a process holds that maps and searches a snapshot of so many vectors."""
    folder = work / "snapshot"
    make_snapshot(folder, vectors)
    try:
        done = subprocess.run([sys.executable, CHILD, "search", str(folder)], stdout=subprocess.PIPE, check=True)
        held: dict[str, int] = json.loads(done.stdout)
        return held
    finally:
        shutil.rmtree(folder)


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Measure what the options say."""
    documents = 100 if options.quick else options.documents
    measured = Measured(settings={"documents": documents, "factors": FACTORS, "width": WIDTH})
    for files in (False, True):
        kind = "files" if files else "JSON lines"
        for name, of_run in indexing_peaks(work, documents=documents, factors=FACTORS, files=files).items():
            for factor, peak in of_run.items():
                measured.figures.append(figure(f"{kind}, {name}, {factor} x: peak", peak / 1e6, "MB"))
            growth = of_run[FACTORS[-1]] - of_run[FACTORS[0]]
            more = documents * (FACTORS[-1] - FACTORS[0])
            measured.figures.append(figure(f"{kind}, {name}: growth per document", growth / more, "bytes"))
    vectors = 20_000 if options.quick else options.vectors
    if vectors and sys.platform == "linux":
        held = searching(work, vectors=vectors)
        for name in ("snapshot_bytes", "own_bytes", "mapped_bytes"):
            measured.figures.append(figure(f"searching {vectors} vectors: {name}", held[name] / 1e6, "MB"))
    else:
        measured.left_out.append("searching: asked not to, or not on Linux, which alone tells mapped memory apart")
    return measured


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--documents", type=int, default=1000, help="documents of the smallest corpus")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="vectors to search; 0 leaves that out")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=_add)
