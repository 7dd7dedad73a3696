"""The paragraphs of the held-out articles in an index: what the fits of `calibrate.py` ask questions over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import data
from odqa import settings
from odqa.evaluation import Dataset, paragraph_index
from odqa.retriever.encoder import load_encoder
from odqa.retriever.hybrid import HybridRetriever
from odqa.store.index import Index

DISTRACTORS = 1200  # paragraphs of training articles beside the held-out ones, so that there is something to mistake


@contextmanager
def held_out_index(squad: Path) -> Iterator[tuple[data.Corpus, Index, HybridRetriever, dict[int, np.ndarray]]]:
    """Index the held-out paragraphs and some others; yield corpus, index, retriever, passage ids of each article."""
    corpus = data.load_squad(squad, held_out=True)
    others = data.load_squad(squad, held_out=False)
    paragraphs = tuple(corpus.paragraphs) + tuple(others.paragraphs[:DISTRACTORS])
    dataset = Dataset((), paragraphs, ("",) * len(paragraphs))
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    with (
        paragraph_index(dataset, encoder=encoder, with_titles=False) as folder,
        Index.open(folder) as index,
    ):
        ids = {}
        article_of = np.array(corpus.article_of + [-1] * (len(paragraphs) - len(corpus.paragraphs)))
        for article in range(len(corpus.titles)):
            # One passage per paragraph, in order: passage ids count from 1.
            ids[article] = np.flatnonzero(article_of != article).astype(np.int64) + 1
        yield corpus, index, HybridRetriever(index, encoder), ids


class Remembered:
    """An index whose full-text searches are made once; keeps `odqa.retriever.hybrid.SearchableIndex`."""

    def __init__(self, index: Index) -> None:
        """Stand before `index`."""
        self.search_dense, self.passages, self.count_matches = index.search_dense, index.passages, index.count_matches
        self._index, self._found = index, {}

    def search_text(self, expression: str, *, top_k: int, allowed: np.ndarray | None = None) -> list[tuple[int, float]]:
        """Search as the index does, where everything is allowed."""
        assert allowed is None
        if (expression, top_k) not in self._found:
            self._found[expression, top_k] = self._index.search_text(expression, top_k=top_k)
        return self._found[expression, top_k]
