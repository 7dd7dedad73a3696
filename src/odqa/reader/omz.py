"""The profile "omz": windows and scores as the Open Model Zoo's question answering demo makes them, for comparison.

Its scores do not compare across windows and passages, and it never says "no answer": the default profile is better. It
is followed to the letter, but for what cannot be used:

- A question that does not fit its window makes the demo fail; here it is cut to what fits.
- A passage too short for half a window gives one window, as in the demo with embeddings; the plain one finds nothing.
- Texts are tokenised as everywhere in odqa. The demo lower-cases first, so that every offset behind an "İ" is wrong,
  and does not part CJK characters.
- The demo embeds each window; here the windows are cut from the passages of the index.

Source: Open Model Zoo, demos/bert_question_answering_embedding_demo and bert_question_answering_demo.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.protocols import Encoding, SpanCandidate
from odqa.reader.spans import TokenSpan
from odqa.reader.windows import Window
from odqa.types import Answer, Place, RetrievedPassage, Span

QUESTION_TOKENS = 32  # of every window kept free for the question, however long it is
ANSWER_TOKENS = 15  # longest answer


def is_omz(profile: str, threshold: float | None) -> bool:
    """Tell whether a profile is that of the demo, which takes no threshold.

    Raises:
        ValueError: there is no such profile, or "omz" was given a threshold.
    """
    if profile not in settings.PROFILES:
        raise ValueError(f"unknown profile {profile!r}: one of {', '.join(settings.PROFILES)}")
    if profile != settings.DEFAULT_PROFILE and threshold is not None:
        raise ValueError(f'the profile {profile} never says "no answer", so it takes no threshold: leave one out')
    return profile != settings.DEFAULT_PROFILE


def omz_windows(
    question_ids: Sequence[int], passages: Sequence[Encoding], *, cls_id: int, sep_id: int, max_tokens: int
) -> list[Window]:
    """Cut passages into windows that overlap by half, in the order of the passages.

    With `max_tokens` 384 a window holds 349 tokens of the passage and the next begins 174 tokens behind it, for as long
    as 174 tokens are left. So a passage of 348 or 349 tokens has a second window that lies inside the first. A passage
    without tokens gives no window.

    Raises:
        ValueError: `max_tokens` leaves no room for two tokens of the passage.
    """
    room = max_tokens - QUESTION_TOKENS - 3
    step = room // 2
    if step < 1:
        raise ValueError(
            f"the profile omz keeps {QUESTION_TOKENS} tokens of a window for the question: windows of {max_tokens} "
            "tokens are too short for it; use another reader or the default profile"
        )
    found = []
    for number, passage in enumerate(passages):
        for first in range(0, max(len(passage.ids) - step + 1, min(len(passage.ids), 1)), step):
            context = passage.ids[first : first + room]
            head = [cls_id, *question_ids[: max_tokens - 3 - len(context)], sep_id]
            types = [0] * len(head) + [1] * (len(context) + 1)
            found.append(Window(number, [*head, *context, sep_id], types, len(head), first))
    return found


def omz_span(start: NDArray[np.float32], end: NDArray[np.float32], window: Window) -> TokenSpan:
    """Return the best span of a window; equal scores go to the earlier start, then to the earlier end.

    A span of at most 15 tokens scores softmax(start)[i] * softmax(end)[j], the softmax over all positions of the
    window, question and padding included.

    Args:
        start: float32 [max_tokens], start logits with those of the padding.
        end: float32 [max_tokens], end logits.
        window: the window, with at least one token of the passage.
    """
    context = slice(window.context_start, window.context_start + window.context_tokens)
    products = _softmax(start)[context, None] * _softmax(end)[None, context]
    allowed = np.tril(np.triu(np.ones_like(products)), ANSWER_TOKENS - 1)
    first, last = divmod(int((products * allowed).argmax()), products.shape[1])
    return TokenSpan(window.first_token + first, window.first_token + last, float(products[first, last]))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    raised = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = raised / raised.sum()
    return shares


def omz_answers(
    candidates: Sequence[SpanCandidate], retrieved: Sequence[RetrievedPassage], *, n_best: int
) -> tuple[Answer, ...]:
    """Return the `n_best` answers, by their product alone; what stands at one place counts once.

    `score` and `probability` are both the product of the two softmax values. How a passage was ranked does not matter,
    but for equal products.

    Raises:
        ValueError: `n_best` is below 1.
    """
    if n_best < 1:
        raise ValueError(f"n_best must be at least 1, not {n_best}")
    found: dict[tuple[str, Span], Answer] = {}
    for candidate in sorted(candidates, key=lambda c: (-c.score, c.passage, c.span)):
        passage = retrieved[candidate.passage].passage
        span = Span(passage.span.start + candidate.span.start, passage.span.start + candidate.span.end)
        text = candidate.span.of(passage.text)
        answer = Answer(text, span, passage, candidate.score, candidate.score, (Place(passage, span),))
        found.setdefault((passage.doc_id, span), answer)
    return tuple(found.values())[:n_best]
