"""Train the encoder: contrastive, in-batch negatives of the same articles, and BM25 hard negatives.

A batch holds 64 paragraphs from eight articles (eight each), up to four questions of every paragraph, and one BM25
hard negative per paragraph. Questions are short, so four of them cost less than a tenth of their paragraph's tokens.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

import data
import loop
from network import EncoderNetwork

PASSAGE_TOKENS, QUESTION_TOKENS = 384, 32
GROUP, GROUPS = 8, 8  # paragraphs of one article, articles in a batch


def plan_batches(corpus: data.Corpus, *, epochs: int, seed: int) -> list[list[int]]:
    """Return batches of paragraph numbers: every paragraph with a question once per epoch, grouped by article."""
    rng = random.Random(seed)
    asked = {q.paragraph for q in corpus.questions}
    batches = []
    for _ in range(epochs):
        by_article = defaultdict(list)
        for paragraph, article in enumerate(corpus.article_of):
            if paragraph in asked:
                by_article[article].append(paragraph)
        groups = []
        for paragraphs in by_article.values():
            rng.shuffle(paragraphs)
            groups += [paragraphs[i : i + GROUP] for i in range(0, len(paragraphs), GROUP)]
        rng.shuffle(groups)
        batches += [list(chain(*groups[i : i + GROUPS])) for i in range(0, len(groups), GROUPS)]
    return [b for b in batches if len(b) > GROUP]


def embed(model: EncoderNetwork, rows: list[list[int]], *, device: str, chunk: int = 16) -> Tensor:
    """Embed rows of ids in chunks of similar length, in the order given: float32 [len(rows), 1024]."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = []
    for i in range(0, len(order), chunk):
        ids = loop.pad([rows[j] for j in order[i : i + chunk]]).to(device)
        positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
        parts.append(model(ids, (ids != 0).long(), torch.zeros_like(ids), positions))
    back = torch.empty(len(rows), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(rows))
    return torch.cat(parts)[back.to(device)]


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, encoder.pt")
    parser.add_argument("--start", choices=["base", "bundled"], default="base", help="the first weights")
    parser.add_argument("--negatives", type=Path, help="file of mine.py; without it, BM25 alone finds wrong passages")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop after so many batches, with the learning rate at 0 by then")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--temperature", type=float, default=0.04)
    parser.add_argument("--title-share", type=float, default=0.3, help="share of batches whose passages carry titles")
    parser.add_argument("--limit-articles", type=int, help="use only the first articles, to try the recipe")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--checkpoint-seconds", type=float, default=240, help="least time between checkpoints")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    loop.seed_everything(options.seed)
    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    negatives = data.negatives_of(corpus, options.negatives)
    tokenizer = loop.plain_tokenizer()

    def ids(text: str, limit: int) -> list[int]:
        return [loop.CLS, *tokenizer.encode(text).ids[: limit - 2], loop.SEP]

    questions_of = defaultdict(list)
    for number, question in enumerate(corpus.questions):
        questions_of[question.paragraph].append(number)

    model = EncoderNetwork()
    loop.start_from(model, options.start, "encoder")
    model.to(options.device)
    optimizer = loop.optimizer_for(model, options.rate)
    run = loop.Run(options.out, model, optimizer, every_seconds=options.checkpoint_seconds)
    batches = plan_batches(corpus, epochs=options.epochs, seed=options.seed)[: options.steps]
    run.log(
        event="start",
        steps=len(batches),
        questions=len(corpus.questions),
        **{
            k: str(v)
            for k, v in vars(options).items()
            if k in ("start", "epochs", "rate", "temperature", "seed", "title_share")
        },
    )
    model.train()
    began, tokens, losses = time.monotonic(), 0, []
    while run.step < len(batches):
        rng = random.Random(options.seed * 1_000_003 + run.step)
        paragraphs = batches[run.step]
        asked, target, extra = [], [], []
        for at, paragraph in enumerate(paragraphs):
            chosen = rng.sample(questions_of[paragraph], min(4, len(questions_of[paragraph])))
            asked += [corpus.questions[n].text for n in chosen]
            target += [at] * len(chosen)
            hard = [n for q in chosen for n in negatives[q] if n not in paragraphs]
            if hard:
                extra.append(rng.choice(hard))
        extra = sorted(set(extra))
        titled = rng.random() < options.title_share
        passages = [
            ids((corpus.titles[corpus.article_of[p]] + "\n" if titled else "") + corpus.paragraphs[p], PASSAGE_TOKENS)
            for p in paragraphs + extra
        ]
        questions = [ids(text, QUESTION_TOKENS) for text in asked]
        with torch.autocast(options.device, dtype=torch.bfloat16):
            passage_vectors = embed(model, passages, device=options.device)
            question_vectors = embed(model, questions, device=options.device, chunk=64)
        scores = question_vectors @ passage_vectors.T / options.temperature
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(target, device=options.device))
        run.learn(loss, steps=len(batches), peak=options.rate)
        tokens += sum(map(len, passages)) + sum(map(len, questions))
        losses.append(loss.item())
        if run.step % 10 == 0:
            rate = tokens / (time.monotonic() - began)
            run.log(step=run.step, of=len(batches), loss=round(sum(losses) / len(losses), 4), tokens_per_s=round(rate))
            losses = []
        run.save()
    run.finish(model.state_dict(), "encoder.pt")


if __name__ == "__main__":
    main()
