"""Train the reader: one window per question with its answer, and for some a retrieved wrong passage beside it.

Each window has its own null position ([CLS]). The loss of a window is the usual cross-entropy of start and end, with
[CLS] as the target where the passage does not answer. Where a question comes with a wrong passage, a second term
normalises over both windows at once, on logits relative to each window's null (shared normalisation, Clark and Gardner
2018): so span scores relative to the null compare across passages.
"""

from __future__ import annotations

import argparse
import bisect
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import data
import loop
from network import ReaderNetwork

WINDOW_TOKENS, QUESTION_TOKENS = 384, 64
CROPPED_TOKENS = 160  # long windows cost twice as much a token; most long paragraphs are cropped
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
        self, corpus: data.Corpus, *, negatives: list[list[int]], wrong_share: float, cropped: float, seed: int
    ) -> None:
        """Tokenise all paragraphs once."""
        self.corpus, self.wrong_share, self.cropped, self.seed = corpus, wrong_share, cropped, seed
        self.tokenizer = loop.plain_tokenizer()
        self.paragraphs = self.tokenizer.encode_batch(corpus.paragraphs)
        self.negatives = negatives

    def room(self, number: int, *, epoch: int) -> int:
        """Return the most tokens that the question's paragraph may have in its window."""
        cropped = random.Random(f"crop/{self.seed}/{epoch}/{number}").random() < self.cropped
        return CROPPED_TOKENS if cropped else WINDOW_TOKENS

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
        return Example(question_ids, context, spans, wrong)


def batches_of(builder: Builder, numbers: list[int], *, epoch: int, batch_tokens: int, seed: int) -> list[list[int]]:
    """Cut questions into batches of about `batch_tokens` padded tokens, sorted by length within shuffled blocks."""
    rng = random.Random(f"{seed}/{epoch}")
    order = numbers[:]
    rng.shuffle(order)
    lengths = {
        number: min(len(builder.paragraphs[question.paragraph].ids), builder.room(number, epoch=epoch))
        for number, question in enumerate(builder.corpus.questions)
    }
    batches = []
    for at in range(0, len(order), BLOCK):
        block = sorted(order[at : at + BLOCK], key=lengths.__getitem__)
        batch: list[int] = []
        cut = []
        for number in block:
            width = min(WINDOW_TOKENS, lengths[number] + 20)
            if batch and (len(batch) + 1) * width * (1 + builder.wrong_share) > batch_tokens:
                cut.append(batch)
                batch = []
            batch.append(number)
        cut.append(batch)
        rng.shuffle(cut)
        batches += cut
    return batches


def likeliest(spans: list[tuple[int, int]], start_logits: Tensor, end_logits: Tensor) -> tuple[int, int]:
    """Return the span that the network itself scores highest (hard EM, Min et al. 2019)."""
    return max(spans, key=lambda span: float(start_logits[span[0]] + end_logits[span[1]]))


def loss_of(model: ReaderNetwork, examples: list[Example], *, device: str, own_choice: bool) -> tuple[Tensor, int]:
    """Return the loss of a batch and the number of real tokens in it.

    Of several occurrences of an answer, the target is the network's own choice (`own_choice`) or the likeliest by the
    words around it.
    """
    rows, types, spans, owner = [], [], [], []
    for number, example in enumerate(examples):
        for context in [example.context] + ([example.wrong] if example.wrong else []):
            head = [loop.CLS, *example.question, loop.SEP]
            rows.append([*head, *context, loop.SEP])
            types.append([0] * len(head) + [1] * (len(context) + 1))
            right = context is example.context
            spans.append([(len(head) + s, len(head) + e) for s, e in example.spans] if right else [(0, 0)])
            owner.append(number)
    ids, kinds = loop.pad(rows).to(device), loop.pad(types).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        start_logits, end_logits = model(ids, (ids != 0).long(), kinds)
    outside = (kinds == 0).index_fill(1, torch.tensor([0], device=device), False)
    outside |= (
        torch.arange(ids.shape[1], device=device) >= torch.tensor([len(r) - 1 for r in rows], device=device)[:, None]
    )
    first_choice, last_choice = start_logits.detach(), end_logits.detach()
    chosen = [
        likeliest(row, first_choice[i], last_choice[i]) if own_choice and len(row) > 1 else row[0]
        for i, row in enumerate(spans)
    ]
    starts, ends = [span[0] for span in chosen], [span[1] for span in chosen]
    total = torch.zeros((), device=device)
    pairs = [i for i in range(len(rows) - 1) if owner[i] == owner[i + 1]]
    for logits, targets in ((start_logits, starts), (end_logits, ends)):
        allowed = logits.float().masked_fill(outside, -1e4)
        target = torch.tensor(targets, device=device)
        total = total + torch.nn.functional.cross_entropy(allowed, target) / 2
        if pairs:
            relative = (allowed - allowed[:, :1])[:, 1:]
            at = torch.tensor(pairs, device=device)
            both = torch.cat([relative[at], relative[at + 1]], dim=1)
            total = total + torch.nn.functional.cross_entropy(both, target[at] - 1) * len(pairs) / len(rows) / 2
    return total, sum(map(len, rows))


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, reader.pt")
    parser.add_argument("--start", choices=["base", "bundled"], default="base", help="the first weights")
    parser.add_argument("--negatives", type=Path, help="file of mine.py; without it, BM25 alone finds wrong passages")
    parser.add_argument("--epochs", type=float, default=0.8)
    parser.add_argument("--rate", type=float, default=1.5e-4)
    parser.add_argument("--batch-tokens", type=int, default=5000)
    parser.add_argument("--wrong-share", type=float, default=0.15, help="share of questions with a wrong passage")
    parser.add_argument("--cropped", type=float, default=0.7, help="share of long paragraphs that are cropped")
    parser.add_argument("--freeze-embeddings", action="store_true", help="do not train word embeddings: faster")
    parser.add_argument("--own-choice-after", type=float, default=0.3, help="share of training (not --start bundled)")
    parser.add_argument("--limit-articles", type=int, help="use only the first articles, to try the recipe")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--checkpoint-seconds", type=float, default=300, help="least time between checkpoints")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    loop.seed_everything(options.seed)
    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    negatives = data.negatives_of(corpus, options.negatives)
    builder = Builder(
        corpus, negatives=negatives, wrong_share=options.wrong_share, cropped=options.cropped, seed=options.seed
    )
    numbers = list(range(len(corpus.questions)))
    plan: list[tuple[int, list[int]]] = []
    for epoch in range(-(-int(options.epochs * 1000) // 1000)):
        cut = batches_of(builder, numbers, epoch=epoch, batch_tokens=options.batch_tokens, seed=options.seed)
        plan += [(epoch, batch) for batch in cut[: round(len(cut) * min(1.0, options.epochs - epoch))]]

    model = ReaderNetwork()
    loop.start_from(model, options.start, "reader")
    model.bert.embeddings.word_embeddings.weight.requires_grad_(not options.freeze_embeddings)
    model.to(options.device)
    optimizer = loop.optimizer_for(model, options.rate)
    run = loop.Run(options.out, model, optimizer, every_seconds=options.checkpoint_seconds)
    run.log(
        event="start",
        steps=len(plan),
        questions=len(numbers),
        **{
            k: str(v)
            for k, v in vars(options).items()
            if k in ("start", "epochs", "rate", "batch_tokens", "seed", "wrong_share", "cropped", "freeze_embeddings")
        },
    )
    model.train()
    began, tokens, losses = time.monotonic(), 0, []
    while run.step < len(plan):
        epoch, chosen = plan[run.step]
        examples = [e for n in chosen if (e := builder.build(n, epoch=epoch)) is not None]
        own_choice = options.start == "bundled" or run.step >= options.own_choice_after * len(plan)
        loss, count = loss_of(model, examples, device=options.device, own_choice=own_choice)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = loop.rate_at((run.step + 0.5) / len(plan), peak=options.rate)
        optimizer.step()
        run.step += 1
        tokens += count
        losses.append(loss.item())
        if run.step % 25 == 0:
            rate = tokens / (time.monotonic() - began)
            run.log(step=run.step, of=len(plan), loss=round(sum(losses) / len(losses), 4), tokens_per_s=round(rate))
            losses = []
        run.save()
    run.save(force=True)
    torch.save(model.state_dict(), options.out / "reader.pt")
    run.log(event="done", step=run.step)


if __name__ == "__main__":
    main()
