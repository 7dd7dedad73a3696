"""A second look at the best passages: does one of their sentences say what the question says?

BM25 counts words wherever they stand in a passage, and a vector holds a whole passage in one point. Neither sees that
the words of the question stand together in a single sentence, which is what a passage with the answer mostly has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from odqa import settings
from odqa.words import stem, stemmed_sentences, telling, words_of

Pair = tuple[str, str]


class Evidence(NamedTuple):
    """What the best sentence of a passage says of the question, both in [0, 1]; the two may be different sentences."""

    coverage: float  # weighted share of the question's telling words
    pairs: float  # weighted share of its pairs of neighbouring words, standing side by side


@dataclass(frozen=True, slots=True)
class _Seen:
    """The question's telling stems and pairs of stems, sentence by sentence."""

    stems: list[set[str]]
    pairs: list[set[Pair]]


def evidence(question: str, passages: Sequence[str]) -> list[Evidence]:
    """Return the evidence in each of the passages that compete for a question.

    A word weighs log((n + 1) / (d + 1/2)), where d of the n passages hold it: what all of them hold cannot tell them
    apart. A pair weighs as much as its two words; in it a stop word weighs `settings.STOP_WORD_WEIGHT`. A
    question of one word has no pairs: there its coverage counts as both.
    """
    words = words_of(question)
    wanted = {stem(word) for word in telling(words)}
    pairs = set(pairwise(map(stem, words)))
    seen = [_look(text, wanted, pairs) for text in passages]
    holders = [set().union(*one.stems) for one in seen]
    weights = {
        word: math.log((len(passages) + 1) / (sum(word in holder for holder in holders) + 0.5)) for word in wanted
    }
    of_pairs = {(a, b): sum(weights.get(word, settings.STOP_WORD_WEIGHT) for word in (a, b)) for a, b in pairs}
    return [_evidence(one, weights, of_pairs) for one in seen]


def _evidence(seen: _Seen, weights: Mapping[str, float], of_pairs: Mapping[Pair, float]) -> Evidence:
    # fsum: exact, so that a score does not depend on the order of a set, which changes from one process to the next.
    whole, whole_pairs = math.fsum(weights.values()), math.fsum(of_pairs.values())
    coverage = max(math.fsum(weights[word] for word in stems) for stems in seen.stems) / whole if whole else 0.0
    if not of_pairs:
        return Evidence(coverage, coverage)
    return Evidence(coverage, max(math.fsum(of_pairs[pair] for pair in pairs) for pairs in seen.pairs) / whole_pairs)


def _look(text: str, wanted: set[str], pairs: set[Pair]) -> _Seen:
    said = [stems for _, _, stems in stemmed_sentences(text)]
    return _Seen(
        [wanted.intersection(sentence) for sentence in said],
        [pairs.intersection(pairwise(sentence)) for sentence in said],
    )
