"""How much memory do indexing and asking take at their peak?

    python benchmarks/peak_memory.py --wiki wiki/

Each step is a process of its own, and its peak is what the system says: mapped files and the models count. Indexing
60,000 passages really encodes one batch of passages in 16 and serves made vectors for the others, which changes the
time, not the peak; `--real` encodes all. The index of 1,000,000 passages has short texts and made vectors, and a whole
`odqa query` is asked of it. How memory grows with the corpus is told by memory.py.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cold_start import odqa_command
from common import fresh_folder, peak_of, run
from figures import Measured, figure
from made_index import ServingEncoder, build, grouped, index_lines, made_vectors
from material import (
    MADE_DOCUMENT_WORDS,
    MadeText,
    Piece,
    articles,
    enough,
    questions,
    real_vectors,
    write_lines,
)
from odqa import settings
from odqa.protocols import TokenIds
from odqa.retriever.encoder import load_encoder

PASSAGES_PER_DOCUMENT = 12  # of the corpus that is indexed, about
VECTORS_PER_DOCUMENT = 200
SHORT_WORDS = 12
REAL_SHARE = 16  # one batch in so many is really encoded
BASE = 64


class MostlyServing(ServingEncoder):
    """The real encoder for the first batch and every 16th; the others get rows of a table."""

    def __init__(self, rows: np.ndarray) -> None:
        """Load the real encoder beside the table."""
        super().__init__(rows)
        self._real = load_encoder(settings.DEFAULT_ENCODER)
        self._calls = itertools.count()

    def encode_passages(
        self, passages: Sequence[str], *, titles: Sequence[str], ids: Sequence[TokenIds] | None = None
    ) -> np.ndarray:
        """Passages -> float32 [len(passages), width]."""
        if next(self._calls) % REAL_SHARE == 0:
            return self._real.encode_passages(passages, titles=titles, ids=ids)
        return super().encode_passages(passages, titles=titles, ids=ids)


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Measure both peaks."""
    passages, vectors = (60, 400) if options.quick else (options.passages, options.vectors)
    with fresh_folder(work) as folder:
        pieces = enough(articles(options.wiki), passages // PASSAGES_PER_DOCUMENT, words=MADE_DOCUMENT_WORDS)
        lines = write_lines(folder / "corpus.jsonl", pieces)
        step = "index-all" if options.real else "index"
        indexing = peak_of([sys.executable, __file__, "--child", step, str(lines), str(folder / "index")])

        base = real_vectors(list(itertools.islice(articles(options.wiki), BASE)))
        made = MadeText(article.text for article in itertools.islice(articles(options.wiki), BASE))
        short = (Piece("Made", made.text(SHORT_WORDS)) for _ in range(vectors))
        large = folder / "large"
        build(large, grouped(short, VECTORS_PER_DOCUMENT), made_vectors(base, vectors))
        query = [*odqa_command(), "query", questions(options.squad)[0], "--index-dir", str(large)]
        asking = peak_of(query)
        bare = peak_of([sys.executable, "-c", "import odqa.pipeline, openvino, faiss"])
    return Measured(
        [
            figure("memory.index", indexing / 1e9),
            figure("memory.query", asking / 1e9),
            figure("a process that only loads the libraries", bare / 1e9, "GB"),
        ],
        {"passages indexed": passages, "vectors asked": vectors, "really encoded": options.real},
    )


def child(words: list[str]) -> None:
    """Index a corpus, as the process whose peak is measured."""
    step, lines, folder = words
    rows = np.random.default_rng(0).standard_normal((4096, 1024), dtype=np.float32) / 32
    encoder = load_encoder(settings.DEFAULT_ENCODER) if step == "index-all" else MostlyServing(rows)
    index_lines(Path(folder), Path(lines), encoder)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--passages", type=int, default=60_000, help="passages that are indexed, about")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="vectors of the index that is asked")
    parser.add_argument("--real", action="store_true", help="encode every passage (some 20 minutes)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        run(__file__, __doc__, measure, add=arguments)
