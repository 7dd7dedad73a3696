"""Train the reader: one window per question with its answer, and for some a retrieved wrong passage beside it.

Each window has its own null position ([CLS]). The loss of a window is the usual cross-entropy of start and end, with
[CLS] as the target where the passage does not answer. Where a question comes with a wrong passage, a second term
normalises over both windows at once, on logits relative to each window's null (shared normalisation, Clark and Gardner
2018): so span scores relative to the null compare across passages.

`--start mpnet` trains a wider network, the teacher. With `--teacher`, part of the cross-entropy gives way to the
divergence from its distributions (Hinton et al. 2015): they say which other words would do, and where the answer is
not clear.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import data
import loop
from examples import CROPPED_TOKENS, Builder, Example, batches_of, neighbours_of
from network import ReaderNetwork
from teacher import FROZEN, MOVED, TeacherNetwork, judge_of

LOGGED = (
    *("start", "epochs", "rate", "batch_tokens", "seed", "wrong_share", "cropped", "cropped_tokens"),
    *("freeze_embeddings", "frozen", "mean_of"),
)
JUDGED = 150  # windows that the teacher's quantisation is calibrated on
TEMPERATURE = 2.0  # of the distributions that are compared with the teacher's


def likeliest(spans: list[tuple[int, int]], start_logits: Tensor, end_logits: Tensor) -> tuple[int, int]:
    """Return the span that the network itself scores highest (hard EM, Min et al. 2019)."""
    return max(spans, key=lambda span: float(start_logits[span[0]] + end_logits[span[1]]))


def divergence(logits: Tensor, judged: Tensor) -> Tensor:
    """Return how far the distributions of `logits` [rows, tokens] are from the teacher's, on the usual loss' scale."""
    own, wanted = torch.log_softmax(logits / TEMPERATURE, -1), torch.softmax(judged / TEMPERATURE, -1)
    return torch.nn.functional.kl_div(own, wanted, reduction="batchmean") * TEMPERATURE**2


def loss_of(
    model: nn.Module,
    examples: list[Example],
    *,
    device: str,
    own_choice: bool,
    judge: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    teacher_share: float = 0.0,
) -> tuple[Tensor, int]:
    """Return the loss of a batch and the number of real tokens in it.

    Of several occurrences of an answer, the target is the network's own choice (`own_choice`) or the likeliest by the
    words around it. `teacher_share` of the loss of start and end is their divergence from the teacher's.
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
    mask = (ids != 0).long()
    with torch.autocast(device, dtype=torch.bfloat16):
        start_logits, end_logits = model(ids, mask, kinds)
    judged = judge(ids, mask) if judge is not None else (None, None)
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
    for logits, targets, wanted in ((start_logits, starts, judged[0]), (end_logits, ends, judged[1])):
        allowed = logits.float().masked_fill(outside, -1e4)
        target = torch.tensor(targets, device=device)
        loss = torch.nn.functional.cross_entropy(allowed, target)
        if wanted is not None:
            away = divergence(allowed, wanted.masked_fill(outside, -1e4))
            loss = (1 - teacher_share) * loss + teacher_share * away
        total = total + loss / 2
        if pairs:
            relative = (allowed - allowed[:, :1])[:, 1:]
            at = torch.tensor(pairs, device=device)
            both = torch.cat([relative[at], relative[at + 1]], dim=1)
            total = total + torch.nn.functional.cross_entropy(both, target[at] - 1) * len(pairs) / len(rows) / 2
    return total, sum(map(len, rows))


def windows_of(builder: Builder, numbers: list[int]) -> list[list[int]]:
    """Return the rows of ids of some questions with their windows."""
    examples = [example for number in numbers if (example := builder.build(number, epoch=0)) is not None]
    return [[loop.CLS, *example.question, loop.SEP, *example.context, loop.SEP] for example in examples]


def first_network(options: argparse.Namespace) -> nn.Module:
    """Return the network that training begins with, on its device."""
    if options.start == "mpnet":
        return TeacherNetwork.from_base(frozen=options.frozen).to(options.device)
    model = ReaderNetwork()
    loop.start_from(model, options.start, "reader")
    model.bert.embeddings.word_embeddings.weight.requires_grad_(not options.freeze_embeddings)
    return model.to(options.device)


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, weights")
    parser.add_argument(
        "--start", choices=["base", "bundled", "mpnet"], default="base", help="the first weights (mpnet: a teacher)"
    )
    parser.add_argument("--teacher", type=Path, help="teacher.pt of a run with --start mpnet, to learn from")
    parser.add_argument("--teacher-share", type=float, default=0.7, help="share of the loss that is likeness to it")
    parser.add_argument("--negatives", type=Path, help="file of mine.py; without it, BM25 alone finds wrong passages")
    parser.add_argument("--epochs", type=float, default=0.8)
    parser.add_argument("--rate", type=float, default=1.5e-4)
    parser.add_argument("--batch-tokens", type=int, default=5000)
    parser.add_argument("--wrong-share", type=float, default=0.15, help="share of questions with a wrong passage")
    parser.add_argument("--cropped", type=float, default=0.7, help="share of long paragraphs that are cropped")
    parser.add_argument("--cropped-tokens", type=int, default=CROPPED_TOKENS, help="length that they are cropped to")
    parser.add_argument("--freeze-embeddings", action="store_true", help="do not train word embeddings: faster")
    parser.add_argument("--frozen", type=int, default=FROZEN, help="lowest layers of a teacher that are not trained")
    parser.add_argument("--mean-of", type=int, default=0, help="end a reader with the mean of so many weights")
    parser.add_argument("--own-choice-after", type=float, default=0.3, help="share of training (not --start bundled)")
    parser.add_argument("--limit-articles", type=int, help="use only the first articles, to try the recipe")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--checkpoint-seconds", type=float, default=300, help="least time between checkpoints")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    loop.seed_everything(options.seed)
    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    negatives = data.negatives_of(corpus, options.negatives)
    model = first_network(options)
    teacher = TeacherNetwork.from_file(options.teacher) if options.teacher else None
    pieces = teacher.mpnet.embeddings.word_embeddings.weight[MOVED:] if teacher else None
    builder = Builder(
        corpus,
        negatives=negatives,
        wrong_share=options.wrong_share,
        cropped=options.cropped,
        cropped_tokens=options.cropped_tokens,
        seed=options.seed,
        neighbours=None if pieces is None else neighbours_of(pieces, loop.plain_tokenizer()),
    )
    numbers = list(range(len(corpus.questions)))
    judge = None
    if teacher:
        judge = judge_of(teacher, options.device, windows_of(builder, numbers[:: -(-len(numbers) // JUDGED)]))
    plan: list[tuple[int, list[int]]] = []
    for epoch in range(-(-int(options.epochs * 1000) // 1000)):
        cut = batches_of(builder, numbers, epoch=epoch, batch_tokens=options.batch_tokens, seed=options.seed)
        plan += [(epoch, batch) for batch in cut[: round(len(cut) * min(1.0, options.epochs - epoch))]]

    optimizer = loop.optimizer_for(model, options.rate)
    run = loop.Run(options.out, model, optimizer, every_seconds=options.checkpoint_seconds)
    run.log(
        event="start",
        steps=len(plan),
        questions=len(numbers),
        **{name: str(value) for name, value in vars(options).items() if name in LOGGED},
        **({"teacher_share": options.teacher_share} if teacher else {}),
    )
    model.train()
    began, tokens, losses = time.monotonic(), 0, []
    while run.step < len(plan):
        epoch, chosen = plan[run.step]
        examples = [e for n in chosen if (e := builder.build(n, epoch=epoch)) is not None]
        own_choice = options.start == "bundled" or run.step >= options.own_choice_after * len(plan)
        loss, count = loss_of(
            model,
            examples,
            device=options.device,
            own_choice=own_choice,
            judge=judge,
            teacher_share=options.teacher_share,
        )
        run.learn(loss, steps=len(plan), peak=options.rate)
        tokens += count
        losses.append(loss.item())
        if run.step % 25 == 0:
            rate = tokens / (time.monotonic() - began)
            run.log(step=run.step, of=len(plan), loss=round(sum(losses) / len(losses), 4), tokens_per_s=round(rate))
            losses = []
        run.keep_for_mean(steps=len(plan), count=options.mean_of)
        run.save()
    if isinstance(model, TeacherNetwork):
        run.finish(model.saved(), "teacher.pt")
    else:
        run.finish(run.mean(), "reader.pt")


if __name__ == "__main__":
    main()
