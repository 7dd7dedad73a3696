"""A second look at the best passages: does one of their sentences say what the question says?

BM25 counts words wherever they stand in a passage, and a vector holds a whole passage in one point. Neither sees that
the words of the question stand together in a single sentence, which is what a passage with the answer mostly has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from odqa import settings
from odqa.words import held_stems, stem, stemmed_sentences, telling, words_of


class Evidence(NamedTuple):
    """What the best sentence of a passage says of the question, both in [0, 1]; the two may be different sentences."""

    coverage: float  # weighted share of the question's telling words
    pairs: float  # weighted share of its pairs of neighbouring words, standing side by side


class Look:
    """The evidence in each of the passages that compete for a question; passages count from 0.

    A word weighs log((n + 1) / (d + 1/2)), where d of the n passages hold it: what all of them hold cannot tell them
    apart. A pair weighs as much as its two words; in it a stop word weighs `settings.STOP_WORD_WEIGHT`. A
    question of one word has no pairs: there its coverage counts as both.

    Which of the words a passage holds is found soon; which of its sentences holds them takes six times as long. So the
    first is done at once, and says how much evidence there can be.
    """

    def __init__(self, question: str, passages: Sequence[str]) -> None:
        """Find out which of the question's words each passage holds."""
        words = words_of(question)
        wanted = {stem(word) for word in telling(words)}
        self._passages = passages
        self._held = [held_stems(text, wanted) for text in passages]
        self._weights = {
            word: math.log((len(passages) + 1) / (sum(word in held for held in self._held) + 0.5)) for word in wanted
        }
        self._of_pairs = {
            (a, b): sum(self._weights.get(word, settings.STOP_WORD_WEIGHT) for word in (a, b))
            for a, b in pairwise(map(stem, words))
        }
        # fsum: exact, so that no score depends on the order of a set, which changes from one process to the next.
        self._whole, self._whole_pairs = math.fsum(self._weights.values()), math.fsum(self._of_pairs.values())

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self._passages)

    def most(self, passage: int) -> Evidence:
        """Return what a passage says at most: what it would if all that it holds stood in one sentence."""
        held = self._held[passage]
        lacking = self._weights.keys() - held
        return self._evidence([held], [[pair for pair in self._of_pairs if lacking.isdisjoint(pair)]])

    def evidence(self, passage: int) -> Evidence:
        """Return what a passage says."""
        said = [stems for _, _, stems in stemmed_sentences(self._passages[passage])]
        held, pairs = self._held[passage], set(self._of_pairs)
        return self._evidence(
            [held.intersection(stems) for stems in said] if len(held) > 1 else [held],
            [pairs.intersection(pairwise(stems)) for stems in said],
        )

    def _evidence(self, stems: Iterable[Iterable[str]], pairs: Iterable[Iterable[tuple[str, str]]]) -> Evidence:
        """Take the best of what sentences hold of the question."""
        coverage = max(math.fsum(self._weights[word] for word in held) for held in stems)
        share = coverage / self._whole if self._whole else 0.0
        if not self._of_pairs:
            return Evidence(share, share)
        of_pairs = max(math.fsum(self._of_pairs[pair] for pair in held) for held in pairs)
        return Evidence(share, of_pairs / self._whole_pairs)
