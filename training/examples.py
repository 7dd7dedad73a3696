"""The reader's training examples: a question with its window, built anew in each epoch, in batches of like length."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

import data
import loop

WINDOW_TOKENS, QUESTION_TOKENS = 384, 64
CROPPED_TOKENS = 160  # long windows cost twice as much a token; most long paragraphs are cropped
# Replaced words make new examples of old ones, as in TinyBERT (Jiao et al. 2020); only a teacher can judge them.
REPLACED_EXAMPLES, REPLACED_PIECES, NEIGHBOURS = 0.5, 0.1, 8
BLOCK = 4096  # questions that are sorted by length together


@dataclass(frozen=True)
class Example:
    """A question, the window that holds its answer, and perhaps one that does not (ids without [CLS], [SEP])."""

    question: list[int]
    context: list[int]
    spans: list[tuple[int, int]]  # first and last token of the answer; the likeliest occurrence first
    wrong: list[int] | None


class Builder:
    """Makes examples; every random choice depends on the seed and the question's number alone."""

    def __init__(
        self,
        corpus: data.Corpus,
        *,
        negatives: list[list[int]],
        wrong_share: float,
        cropped: float,
        seed: int,
        cropped_tokens: int = CROPPED_TOKENS,
        neighbours: list[list[int]] | None = None,
    ) -> None:
        """Tokenise all paragraphs once. With `neighbours` of all pieces, words of half of the examples are replaced."""
        self.corpus, self.wrong_share, self.cropped, self.seed = corpus, wrong_share, cropped, seed
        self.cropped_tokens = cropped_tokens
        self.tokenizer = loop.plain_tokenizer()
        self.paragraphs = self.tokenizer.encode_batch(corpus.paragraphs)
        self.asked = [len(e.ids) for e in self.tokenizer.encode_batch([q.text for q in corpus.questions])]
        self.negatives, self.neighbours = negatives, neighbours

    def room(self, number: int, *, epoch: int) -> int:
        """Return the most tokens that the question's paragraph may have in its window."""
        cropped = random.Random(f"crop/{self.seed}/{epoch}/{number}").random() < self.cropped
        return self.cropped_tokens if cropped else WINDOW_TOKENS

    def build(self, number: int, *, epoch: int) -> Example | None:
        """Build the example of a question, or None when its answer does not fall on whole tokens."""
        rng = random.Random(f"{self.seed}/{epoch}/{number}")
        room = self.room(number, epoch=epoch)
        question = self.corpus.questions[number]
        text = question.text.rstrip("?") if rng.random() < 0.15 else question.text
        question_ids = self.tokenizer.encode(text).ids[:QUESTION_TOKENS]
        paragraph = self.paragraphs[question.paragraph]
        ends = [end for _, end in paragraph.offsets]

        def tokens_of(at: int) -> tuple[int, int]:
            return bisect.bisect_right(ends, at), bisect.bisect_left(ends, at + len(question.answer))

        start, end = tokens_of(question.start)
        room = min(room, WINDOW_TOKENS - 3 - len(question_ids))
        if end >= len(ends) or end < start or end - start >= room:
            return None
        first = 0
        if len(ends) > room:
            first = rng.randint(max(0, end - room + 1), min(start, len(ends) - room))
        context = paragraph.ids[first : first + room]
        others = [tokens_of(at) for at in question.elsewhere]
        spans = [(s - first, e - first) for s, e in [(start, end), *others] if first <= s <= e < first + len(context)]
        wrong = None
        if self.negatives[number] and rng.random() < self.wrong_share:
            other = self.paragraphs[rng.choice(self.negatives[number])].ids
            width = max(64, len(context))
            cut = rng.randint(0, max(0, len(other) - width))
            wrong = other[cut : cut + min(width, room)]
        if self.neighbours is not None and rng.random() < REPLACED_EXAMPLES:
            question_ids, context = self.replaced(question_ids, rng), self.replaced(context, rng)
        return Example(question_ids, context, spans, wrong)

    def replaced(self, pieces: list[int], rng: random.Random) -> list[int]:
        """Put neighbours in the places of some pieces."""
        return [rng.choice(self.neighbours[p]) if rng.random() < REPLACED_PIECES else p for p in pieces]


def batches_of(builder: Builder, numbers: list[int], *, epoch: int, batch_tokens: int, seed: int) -> list[list[int]]:
    """Cut questions into batches of about `batch_tokens` padded tokens, sorted by length within shuffled blocks."""
    rng = random.Random(f"{seed}/{epoch}")
    order = numbers[:]
    rng.shuffle(order)
    lengths = {
        number: min(len(builder.paragraphs[question.paragraph].ids), builder.room(number, epoch=epoch)) + asked + 3
        for number, (question, asked) in enumerate(zip(builder.corpus.questions, builder.asked, strict=True))
    }
    batches = []
    for at in range(0, len(order), BLOCK):
        block = sorted(order[at : at + BLOCK], key=lengths.__getitem__)
        batch: list[int] = []
        cut = []
        for number in block:
            width = min(WINDOW_TOKENS, lengths[number])
            if batch and (len(batch) + 1) * width * (1 + builder.wrong_share) > batch_tokens:
                cut.append(batch)
                batch = []
            batch.append(number)
        cut.append(batch)
        rng.shuffle(cut)
        batches += cut
    return batches


def neighbours_of(embeddings: Tensor, tokenizer: Tokenizer) -> list[list[int]]:
    """Return for each piece those nearest to it among the pieces of its kind (that begin a word, or go on with one)."""
    goes_on = torch.tensor([(tokenizer.id_to_token(i) or "").startswith("##") for i in range(len(embeddings))])
    named = torch.tensor([(tokenizer.id_to_token(i) or "[").startswith("[") for i in range(len(embeddings))])
    directions = torch.nn.functional.normalize(embeddings, dim=-1)
    nearest = []
    for rows, kind in zip(directions.split(2000), goes_on.split(2000), strict=True):
        likeness = (rows @ directions.T).masked_fill(named | (kind[:, None] != goes_on), -1.0)
        nearest.append(likeness.topk(NEIGHBOURS + 1).indices[:, 1:])  # the nearest is the piece itself
    return torch.cat(nearest).tolist()
