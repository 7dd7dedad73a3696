"""Logits -> spans: the exact n best of one window, on whole words. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odqa import settings

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The passage's tokens `first` to `last`, both included, and the score of that span."""

    first: int
    last: int
    score: float


def word_bounds(continues: NDArray[np.bool_]) -> tuple[Words, Words]:
    """Return the first and the last token of each token's word.

    Args:
        continues: bool [tokens]; True where a token continues the word before it ("##...").

    Returns:
        Two int64 arrays [tokens]. Token 0 begins a word whatever it is.
    """
    begins = ~continues
    begins[:1] = True
    places = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    return places[word], np.append(places[1:], len(continues))[word] - 1


def best_spans(
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    *,
    context_start: int,
    word_first: Words,
    word_last: Words,
    n_best: int,
    answer_tokens: int = settings.ANSWER_TOKENS,
) -> list[TokenSpan]:
    """Return the `n_best` spans of a window, best first.

    A span of tokens i <= j < i + `answer_tokens` of the context scores start[i] + end[j] - start[0] - end[0]. Position
    0 is [CLS], which stands for "no answer in this window": the score is the log-odds of the span against that, with no
    softmax over the window, so that it compares across windows and passages. A reader that was not trained to answer
    "no answer" gets the same formula; its [CLS] is an arbitrary but fixed position, and its scores are worth as much.

    A span must not cut a word: it is widened to the whole words of i and j, and of several spans that become one the
    best score counts. Equal scores are ordered by position.

    Args:
        start: float32 [tokens of the window], start logits without padding.
        end: float32 [tokens of the window], end logits.
        context_start: the context's first token in the window; [SEP] behind the context is the window's last.
        word_first: int64 [context tokens], the first token of each context token's word, counted in the passage.
        word_last: int64 [context tokens], the last one. Both ascend.
        n_best: most spans.
        answer_tokens: longest span before it is widened.

    Raises:
        ValueError: the lengths do not agree, or `n_best` or `answer_tokens` is below 1.
    """
    tokens = len(word_first)
    if not len(start) == len(end) == context_start + tokens + 1 or len(word_last) != tokens or context_start < 1:
        raise ValueError(f"lengths do not agree: {len(start)}, {len(end)}, {context_start} + {tokens} + 1")
    if n_best < 1 or answer_tokens < 1:
        raise ValueError(f"n_best and answer_tokens must be at least 1, not {n_best} and {answer_tokens}")
    context = slice(context_start, context_start + tokens)
    band = _band(start[context], end[context], answer_tokens=answer_tokens)
    null = float(start[0]) + float(end[0])
    wanted = n_best
    while True:
        # Several token spans may widen to one, so take ever more of the best until enough differ or none is left.
        wanted = min(wanted * 2, band.size)
        i, length = np.nonzero((band >= _nth_largest(band, wanted)) & (band > -np.inf))
        first, last, scores = word_first[i], word_last[i + length], band[i, length]
        order = np.lexsort((last, first, -scores))
        distinct: dict[tuple[int, int], float] = {}
        ranked = zip(first[order].tolist(), last[order].tolist(), scores[order].tolist(), strict=True)
        for begin, finish, score in ranked:
            distinct.setdefault((begin, finish), score - null)
        if len(distinct) >= n_best or wanted == band.size:
            return [TokenSpan(*key, score) for key, score in list(distinct.items())[:n_best]]


def _band(starts: NDArray[np.float32], ends: NDArray[np.float32], *, answer_tokens: int) -> NDArray[np.float64]:
    """Return float64 [tokens, reach]: at [i, d] start[i] + end[i + d], and -inf where i + d is behind the context."""
    reach = max(1, min(answer_tokens, len(ends)))
    padded = np.full(len(ends) + reach - 1, -np.inf)
    padded[: len(ends)] = ends
    # Row i is padded[i : i + reach], as sliding_window_view gives it, in a tenth of the time.
    shifted = np.ndarray((len(ends), reach), np.float64, padded, strides=padded.strides * 2)
    band: NDArray[np.float64] = starts.astype(np.float64)[:, None] + shifted
    return band


def _nth_largest(values: NDArray[np.float64], count: int) -> float:
    return float(np.partition(values, values.size - count, axis=None)[values.size - count]) if count else np.inf
