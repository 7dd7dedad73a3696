"""Passages -> context windows: what a reader sees of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from odqa import settings
from odqa.protocols import Encoding


@dataclass(frozen=True, slots=True)
class Window:
    """`[CLS] question [SEP] context [SEP]`, with token types 0 up to the first [SEP] and 1 behind it.

    `passage` counts from 0. The context begins at `ids[context_start]`, which is the passage's token `first_token`, and
    has `context_tokens` tokens.
    """

    passage: int
    ids: list[int]
    token_types: list[int]
    context_start: int
    first_token: int

    @property
    def context_tokens(self) -> int:
        """Number of the passage's tokens in this window."""
        return len(self.ids) - self.context_start - 1


def windows(
    question_ids: Sequence[int],
    passages: Sequence[Encoding],
    *,
    cls_id: int,
    sep_id: int,
    max_tokens: int = settings.READER_TOKENS,
    doc_stride: int = settings.DOC_STRIDE_TOKENS,
    question_tokens: int = settings.READER_QUESTION_TOKENS,
) -> list[Window]:
    """Cut passages into windows of at most `max_tokens` tokens, in the order of the passages.

    A passage that fits is one window. A longer one is cut into full windows, the last one excepted, of which each
    shares exactly `doc_stride` tokens with the next: the overlap, not the step. So an answer of up to `doc_stride` + 1
    tokens stands whole in a window, and no window lies inside another. A passage without tokens gives no window.

    Args:
        question_ids: the question's word pieces, without special tokens; cut to `question_tokens`.
        passages: the passages' word pieces.
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        max_tokens: longest window, question and three special tokens included.
        doc_stride: tokens that neighbouring windows of one passage share.
        question_tokens: most tokens of the question.

    Raises:
        ValueError: a window with the longest question would not get on: it has `doc_stride` tokens of context or less.
    """
    if doc_stride < 0 or question_tokens < 0 or max_tokens - question_tokens - 3 <= doc_stride:
        raise ValueError(
            f"a window of {max_tokens} tokens with a question of {question_tokens} has no room for more than the "
            f"{doc_stride} tokens of doc_stride; make windows longer, or the question or doc_stride shorter"
        )
    head = [cls_id, *question_ids[:question_tokens], sep_id]
    room = max_tokens - len(head) - 1
    found = []
    for number, passage in enumerate(passages):
        for first in range(0, max(len(passage.ids) - doc_stride, min(len(passage.ids), 1)), room - doc_stride):
            context = passage.ids[first : first + room]
            types = [0] * len(head) + [1] * (len(context) + 1)
            found.append(Window(number, [*head, *context, sep_id], types, len(head), first))
    return found
