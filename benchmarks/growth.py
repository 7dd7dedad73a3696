"""Does a passage take longer to index the more passages there are?

    python benchmarks/growth.py --wiki wiki/           the store and the ingest, without the network
    python benchmarks/growth.py --wiki wiki/ --real    and the whole of it, up to 10,000 passages

Indexes of 1,000, 10,000 and 100,000 passages are made in turn, from texts of words drawn as often as they occur in the
corpus, so that texts are alike at all sizes. The encoder serves vectors without computing, which would hide what grows:
the network takes the same time for every passage. The final snapshot counts.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

from common import fresh_folder, in_turn, ratio, run, say
from figures import Measured, Spread, figure
from made_index import ServingEncoder, identity
from material import MADE_DOCUMENT_WORDS, MadeText, Piece, articles, real_vectors, write_lines
from odqa import settings
from odqa.indexing import Indexer
from odqa.ingest.chunker import PassageChunker
from odqa.protocols import Encoder
from odqa.retriever.encoder import load_encoder
from odqa.store.index import Index
from odqa.types import IndexProgress

PASSAGES_PER_DOCUMENT = 12  # about
BASE = 64
COUNTED = 2000  # articles whose words are counted
POINTS = 20  # of the curve


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Index corpora of three sizes in turn."""
    sizes = (30, 60, 120) if options.quick else (1000, 10_000, 100_000)
    rounds = 1 if options.quick else min(options.rounds, 3)
    measured = Measured(settings={"sizes": sizes, "rounds": rounds})
    rows = real_vectors(list(itertools.islice(articles(options.wiki), BASE)))
    with fresh_folder(work) as folder:
        files = {size: corpus_of(folder, options.wiki, size) for size in sizes}
        found = timings(files, lambda: ServingEncoder(rows), folder, rounds)
        for key, size in zip(("growth.10k", "growth.100k"), sizes[1:], strict=True):
            measured.figures.append(figure(key, ratio(found[size], found[sizes[0]])))
        for size, per_passage in found.items():
            name = f"without the network, {size:,} passages: time per passage"
            measured.figures.append(figure(name, Spread.of(per_passage) * 1e3, "ms"))
        measured.curves["growth"] = curve(files[sizes[-1]], ServingEncoder(rows), folder)
        if options.real:
            encoder = load_encoder(settings.DEFAULT_ENCODER)
            real = timings({size: files[size] for size in sizes[:2]}, lambda: encoder, folder, rounds)
            name = f"with the network, {sizes[1]:,} against {sizes[0]:,} passages"
            measured.figures.append(figure(name, ratio(real[sizes[1]], real[sizes[0]]), "x"))
        else:
            measured.left_out.append("with the network: asked for with --real")
    return measured


def corpus_of(folder: Path, wiki: Path | None, passages: int) -> Path:
    """Write a corpus of about so many passages."""
    made = MadeText(article.text for article in itertools.islice(articles(wiki), COUNTED))
    numbers = range(max(1, passages // PASSAGES_PER_DOCUMENT))
    pieces = (Piece(f"Made {number}", made.text(MADE_DOCUMENT_WORDS)) for number in numbers)
    return write_lines(folder / f"{passages}.jsonl", pieces)


def timings(
    files: dict[int, Path], encoder: Callable[[], Encoder], folder: Path, rounds: int
) -> dict[int, list[float]]:
    """Return the seconds per passage of each size in each round."""
    passages: dict[int, int] = {}

    def once(size: int) -> None:
        with fresh_folder(folder) as passing:
            passages[size] = index(files[size], encoder(), passing / "index")
        say(f"{passages[size]} passages indexed")

    ways = {str(size): lambda size=size: once(size) for size in files}
    seconds = in_turn(ways, rounds=rounds, warm=0)
    return {size: [one / passages[size] for one in seconds[str(size)]] for size in files}


def index(
    corpus: Path, encoder: Encoder, folder: Path, *, progress: Callable[[IndexProgress], None] | None = None
) -> int:
    """Index a corpus into a new index; return the number of passages."""
    with Index.create(folder, identity()) as opened:
        chunker = PassageChunker(encoder.tokenizer)
        return Indexer(opened, encoder=encoder, chunker=chunker, progress=progress).run([corpus], prune=False).passages


def curve(corpus: Path, encoder: Encoder, folder: Path) -> list[dict[str, float]]:
    """Index once more and return how long a passage took, stretch by stretch."""
    marks: list[tuple[int, float]] = [(0, time.perf_counter())]

    def note(progress: IndexProgress) -> None:
        if progress.passages > marks[-1][0]:
            marks.append((progress.passages, time.perf_counter()))

    with fresh_folder(folder) as passing:
        index(corpus, encoder, passing / "index", progress=note)
    chosen = [marks[at * (len(marks) - 1) // POINTS] for at in range(POINTS + 1)]
    return [
        {"passages": until, "milliseconds": round(1e3 * (ended - began) / (until - since), 4)}
        for (since, began), (until, ended) in itertools.pairwise(chosen)
        if until > since
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--real", action="store_true", help="measure with the real encoder, too (minutes per round)")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments)
