"""Leaving frequent words out of a full-text search, so that its time does not grow with the index.

FTS5 scores every passage that holds any word of a question. Among many passages the frequent words cost nearly all of
that time and tell passages apart the least, so a question is searched by its rarest words, as many as may be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from odqa import settings


def rarest(words: Sequence[str], counts: Sequence[int], *, most: int) -> set[str]:
    """Return the rarest words whose passages are `most` at most, added up; the very rarest in any case.

    Args:
        words: distinct words.
        counts: passages that hold each of them; `most` stands for that many and more.
        most: passages that may be scored.
    """
    kept: set[str] = set()
    total = 0
    for count, word in sorted(zip(counts, words, strict=True)):
        total += count
        if kept and (total > most or count >= most):
            break
        kept.add(word)
    return kept


def near_pairs(words: Sequence[str], kept: set[str]) -> list[str]:
    """Return FTS5 expressions for neighbouring words that stand near each other, of which one is kept at least.

    Args:
        words: the quoted words of a question, in order.
        kept: those that are searched for alone.
    """
    return [f"NEAR({a} {b}, {settings.NEAR_TOKENS})" for a, b in pairwise(words) if a in kept or b in kept]
