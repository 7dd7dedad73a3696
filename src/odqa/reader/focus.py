"""Focus: which part of a passage is read, if not the whole.

The answer mostly stands in or next to the sentences that say what the question says. Of a passage that is not the best
one, reading those is enough; which part that is costs next to nothing to find (docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from odqa.types import Span
from odqa.words import stem, stemmed_sentences, telling, words_of

_EDGE = 0.7  # what a sentence at the edge of the part counts; one in its middle counts 1


def focus(question: str, text: str, *, characters: int) -> Span:
    """Return the run of whole sentences in which the question's words stand closest together.

    A sentence counts the square of its words' weights: one with three of them says more than three with one each. A
    word weighs log((n + 1) / (d + 1/2)), where d of the n sentences hold it. Sentences in the middle of the run count
    more than those at its edges, so the best ones have neighbours on both sides, and the run ends where more would only
    move it away from them. Sentences of more than `settings.SENTENCE_WORDS` words are cut.

    Args:
        question: text.
        text: the passage.
        characters: longest run, in code points; a single sentence longer than that is cut to it.

    Returns:
        The part of `text`; all of it if it is no longer than `characters` or holds none of the question's words.
    """
    whole = Span(0, len(text))
    if len(text) <= characters:
        return whole
    wanted = {stem(word) for word in telling(words_of(question))}
    found = [sentence for sentence in stemmed_sentences(text) if sentence[2]]
    seen = [wanted.intersection(stems) for _, _, stems in found]
    weights = {word: math.log((len(found) + 1) / (sum(word in s for s in seen) + 0.5)) for word in sorted(wanted)}
    values = [math.fsum(weights[word] for word in words) ** 2 for words in seen]
    if not any(values):
        return whole
    places = [(end - len(text[start:end].lstrip()), end) for start, end, _ in found]
    return _best_run(places, values, characters)


def _best_run(places: Sequence[tuple[int, int]], values: Sequence[float], characters: int) -> Span:
    """Return the best run of sentences, of equal ones the longest, of these the first."""
    middles = [(start + end) / 2 for start, end in places]
    sums = [0.0, *accumulate(values)]
    best, found = (-1.0, 0), Span(0, 0)
    for first, (start, _) in enumerate(places):
        for last in range(first, len(places)):
            end = places[last][1]
            if end - start > characters and last > first:
                break
            middle, half = (start + end) / 2, max(1.0, (end - start) / 2)
            away = sum(values[at] * abs(middles[at] - middle) for at in range(first, last + 1))
            value = sums[last + 1] - sums[first] - (1 - _EDGE) * away / half
            if (value, end - start) > best:
                best, found = (value, end - start), Span(start, min(end, start + characters))
    return found
