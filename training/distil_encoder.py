"""Let the encoder learn from the mean of itself and a wider one: a round of its training after the contrastive ones.

Batches of two kinds take turns. One holds 64 SQuAD paragraphs of eight articles, hard negatives, and up to three
questions of every paragraph; the other windows of Wikipedia articles, eight of each, and a sentence of every window.
Within a batch each question (or sentence) and each passage has a likeness to every passage, and the loss is how far its
distribution over them is from that of the teachers' mean likeness (Hinton et al. 2015; for vectors, Park et al. 2019,
"Relational knowledge distillation"): the network is asked for the order of things and not for any vector. Where the
right paragraph is known, it is part of the loss as well.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import data
import judge_texts
import loop
from average import averaged
from network import EncoderNetwork
from train_encoder import PASSAGE_TOKENS, embed, plan_batches

# How much each teacher's likeness counts. On held-out articles the mean of the first two has the right paragraph in the
# top 5 of 2,475 for 94.7 % of the questions, that of the bundled encoder alone for 93.0, of all-mpnet-base-v2 for 91.3.
SQUAD_TEACHERS = {"bundled": 0.5, "mpnet": 0.5}
WIKI_TEACHERS = {"bundled": 0.2, "mpnet": 0.4, "base": 0.4}
TEMPERATURE = 0.04
KNOWN = 0.3  # share of the right paragraph in the loss of questions
AMONG_PASSAGES = 0.5  # weight of the likeness of passages to each other, beside that of questions to passages
QUESTIONS = 3  # of a paragraph in a batch
HARD = 32  # most hard negatives in a batch
CHUNK = 16
ARTICLES = 12  # in a batch of windows
TITLED = 0.3  # share of SQuAD batches whose passages carry their titles; the teachers saw none


@dataclass(frozen=True)
class Batch:
    """Rows of ids that ask and that are asked, the teachers' likeness of each pair, and the right passage if known."""

    asking: list[list[int]]
    passages: list[list[int]]
    asked_likeness: Tensor  # float32 [asking, passages]
    likeness: Tensor  # float32 [passages, passages]
    right: Tensor | None  # int64 [asking]


class Texts:
    """The rows of ids of one kind of passages and of what asks for them, with the teachers' vectors of both."""

    def __init__(
        self, passages: list[list[int]], asking: list[list[int]], folder: Path, names: tuple[str, str], **shares: float
    ) -> None:
        """Load the vectors of the teachers whose `shares` are given; `names` are those of the files of both kinds."""
        self.passages, self.asking = passages, asking
        self._teachers = [
            (share, *(np.load(folder / f"{name}-{teacher}.npy", mmap_mode="r") for name in names))
            for teacher, share in shares.items()
        ]
        for _, of_passages, of_asking in self._teachers:
            if (len(of_passages), len(of_asking)) != (len(passages), len(asking)):
                raise SystemExit(f"the vectors in {folder} are of other texts: remove that folder")

    def batch(
        self,
        passages: list[int],
        asking: list[int],
        right: list[int] | None,
        before: Callable[[int], list[int]] = lambda _number: [],
    ) -> Batch:
        """Return a batch of the passages and what asks, given by their numbers; `before` a passage go these ids."""
        among, asked = 0.0, 0.0
        for share, of_passages, of_asking in self._teachers:
            wanted = torch.from_numpy(of_passages[passages].astype(np.float32))
            among = among + share * wanted @ wanted.T
            asked = asked + share * torch.from_numpy(of_asking[asking].astype(np.float32)) @ wanted.T
        return Batch(
            [self.asking[number] for number in asking],
            [[loop.CLS, *before(number), *self.passages[number][1:]][:PASSAGE_TOKENS] for number in passages],
            asked,
            among,
            None if right is None else torch.tensor(right),
        )


def divergence(likeness: Tensor, wanted: Tensor) -> Tensor:
    """Return how far the distributions that likenesses make [rows, passages] are from those that are wanted."""
    return kl_div(log_softmax(likeness / TEMPERATURE, 1), softmax(wanted / TEMPERATURE, 1), reduction="batchmean")


def others(likeness: Tensor) -> Tensor:
    """Leave out each passage's likeness to itself: [n, n] -> [n, n - 1]."""
    n = len(likeness)
    return likeness[~torch.eye(n, dtype=torch.bool)].view(n, n - 1)


def loss_of(model: EncoderNetwork, batch: Batch, device: str) -> Tensor:
    """Return the loss of a batch."""
    with torch.autocast(device, dtype=torch.bfloat16):
        passages = embed(model, batch.passages, device=device, chunk=CHUNK)
        asking = embed(model, batch.asking, device=device, chunk=64)
    asked = asking @ passages.T
    loss = divergence(asked, batch.asked_likeness.to(device))
    if batch.right is not None:
        known = cross_entropy(asked / TEMPERATURE, batch.right.to(device))
        loss = (1 - KNOWN) * loss + KNOWN * known
    among = divergence(others((passages @ passages.T).cpu()), others(batch.likeness)).to(device)
    return loss + AMONG_PASSAGES * among


def squad_plan(corpus: data.Corpus, negatives: list[list[int]], texts: Texts, *, epochs: int, seed: int) -> list:
    """Return one function for each batch of SQuAD paragraphs, which makes it."""
    questions_of = defaultdict(list)
    for number, question in enumerate(corpus.questions):
        questions_of[question.paragraph].append(number)
    tokenizer = loop.plain_tokenizer()
    titles = [encoding.ids for encoding in tokenizer.encode_batch(corpus.titles)]

    def title_of(paragraph: int) -> list[int]:
        return titles[corpus.article_of[paragraph]]

    def make(at: int, paragraphs: list[int]) -> Batch:
        rng = random.Random(seed * 1_000_003 + at)
        asking, right, hard = [], [], set()
        for place, paragraph in enumerate(paragraphs):
            chosen = rng.sample(questions_of[paragraph], min(QUESTIONS, len(questions_of[paragraph])))
            asking += chosen
            right += [place] * len(chosen)
            known = [n for q in chosen for n in negatives[q] if n not in paragraphs]
            if known:
                hard.add(rng.choice(known))
        passages = [*paragraphs, *rng.sample(sorted(hard), min(len(hard), HARD))]
        return texts.batch(passages, asking, right, *([title_of] if rng.random() < TITLED else []))

    plan = plan_batches(corpus, epochs=epochs, seed=seed)
    return [lambda at=at, paragraphs=paragraphs: make(at, paragraphs) for at, paragraphs in enumerate(plan)]


def wiki_plan(groups: list, texts: Texts, *, epochs: int, seed: int) -> list:
    """Return one function for each batch of windows, which makes it."""
    firsts = list(itertools.accumulate((len(group.windows) for group in groups), initial=0))
    plan, rng, articles = [], random.Random(seed), min(ARTICLES, len(groups))
    for _ in range(epochs):
        order = list(range(len(groups)))
        rng.shuffle(order)
        for at in range(0, len(order) - articles + 1, articles):
            members = order[at : at + articles]
            plan.append([n for group in members for n in range(firsts[group], firsts[group + 1])])
    return [lambda numbers=numbers: texts.batch(numbers, numbers, None) for numbers in plan]


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    judge_texts.add_arguments(parser)
    parser.add_argument("--teachers", type=Path, required=True, help="folder that judge_texts.py wrote, same options")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, encoder.pt")
    parser.add_argument("--negatives", type=Path, help="file of mine.py; without it, BM25 alone finds wrong passages")
    parser.add_argument("--base-share", type=float, default=0.35, help="share of the base's weights in the first ones")
    parser.add_argument("--steps", type=int, default=500, help="batches, half of them of each kind")
    parser.add_argument("--rate", type=float, default=8e-5)
    parser.add_argument("--checkpoint-seconds", type=float, default=240, help="least time between checkpoints")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    loop.seed_everything(options.seed)
    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    negatives = data.negatives_of(corpus, options.negatives)
    paragraphs, questions = judge_texts.squad_rows(corpus)
    groups = judge_texts.wiki_groups(options)
    folder = options.teachers
    squad = Texts(paragraphs, questions, folder, ("paragraphs", "questions"), **SQUAD_TEACHERS)
    windows = [row for group in groups for row in group.windows]
    sentences = [row for group in groups for row in group.sentences]
    wiki = Texts(windows, sentences, folder, ("windows", "sentences"), **WIKI_TEACHERS)
    half = -(-options.steps // 2)
    kinds = [
        squad_plan(corpus, negatives, squad, epochs=1 + half * 64 // len(paragraphs), seed=options.seed),
        wiki_plan(groups, wiki, epochs=1 + 2 * half * ARTICLES // len(groups), seed=options.seed),
    ]
    plan = list(itertools.islice(itertools.chain.from_iterable(zip(*kinds, strict=False)), options.steps))

    model = EncoderNetwork()
    loop.start_from(model, "bundled", "encoder")
    if options.base_share:
        shares = {"bundled": 1 - options.base_share, "base": options.base_share}
        model.load_state_dict(averaged("encoder", model.state_dict(), shares))
    model.to(options.device)
    model.bert.embeddings.requires_grad_(False)
    optimizer = loop.optimizer_for(model, options.rate)
    run = loop.Run(options.out, model, optimizer, every_seconds=options.checkpoint_seconds)
    run.log(
        event="start",
        start="bundled",
        base_share=options.base_share,
        steps=len(plan),
        rate=options.rate,
        temperature=TEMPERATURE,
        seed=options.seed,
        questions=len(corpus.questions),
        windows=len(windows),
    )
    model.train()
    began, tokens = time.monotonic(), 0
    losses: dict[bool, list[float]] = {True: [], False: []}
    while run.step < len(plan):
        batch = plan[run.step]()
        loss = loss_of(model, batch, options.device)
        run.learn(loss, steps=len(plan), peak=options.rate)
        tokens += sum(map(len, batch.passages)) + sum(map(len, batch.asking))
        losses[batch.right is not None].append(loss.item())
        if run.step % 20 == 0:
            of_squad, of_wiki = (round(sum(losses[kind]) / len(losses[kind]), 4) for kind in (True, False))
            rate = round(tokens / (time.monotonic() - began))
            run.log(step=run.step, of=len(plan), loss=of_squad, wiki_loss=of_wiki, tokens_per_s=rate)
            losses = {True: [], False: []}
        run.save()
    run.finish(model.state_dict(), "encoder.pt")


if __name__ == "__main__":
    main()
