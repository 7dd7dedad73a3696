"""Training data: SQuAD-format files as plain records, held-out articles, occurrences, BM25 negatives.

The published pages that the training file was made from carry no offsets, so its ``answer_start`` is the first
occurrence of the answer; `best_occurrence` picks the occurrence whose surroundings share most with the question.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

HELD_OUT_SHARE = 20  # one article in so many is held out, chosen by the hash of its title
WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    """
    a an and are as at be been but by did do does during for from had has have how in into is it its many much name of
    on or s that the their there these this to was were what when where which who whom whose why will with
    """.split()
)


@dataclass(frozen=True)
class Question:
    """One question with its answer, as code point offsets into the paragraph it was asked of."""

    text: str
    paragraph: int
    answer: str
    start: int
    elsewhere: tuple[int, ...] = ()  # other places of the same words in the paragraph


@dataclass(frozen=True)
class Corpus:
    """Paragraphs (with the index of their article) and the questions asked of them."""

    titles: list[str]
    paragraphs: list[str]
    article_of: list[int]
    questions: list[Question]


def is_held_out(title: str) -> bool:
    """Tell whether an article is kept out of training, for tuning and calibration."""
    return int(hashlib.sha256(title.encode()).hexdigest()[:8], 16) % HELD_OUT_SHARE == 0


def occurrences(context: str, answer: str) -> list[int]:
    """Return the offsets of the answer in the context: as whole words if there are such, else all."""
    starts = [m.start() for m in re.finditer(re.escape(answer), context)]
    whole = [
        s
        for s in starts
        if not (s and context[s - 1].isalnum() and answer[0].isalnum())
        and not (s + len(answer) < len(context) and context[s + len(answer)].isalnum() and answer[-1].isalnum())
    ]
    return whole or starts


def best_occurrence(context: str, answer: str, question: str, fallback: int) -> int:
    """Return the offset of the occurrence of `answer` whose neighbourhood shares most words with the question.

    A neighbour counts by its closeness: 1 / (1 + words between). The first of equal occurrences wins.
    """
    starts = occurrences(context, answer)
    if len(starts) < 2:
        return starts[0] if starts else fallback
    wanted = {w.lower()[:5] for w in WORD.findall(question)} - STOP_WORDS
    words = [(m.start(), m.group().lower()[:5]) for m in WORD.finditer(context)]
    positions = np.array([p for p, _ in words])
    hits = [i for i, (p, w) in enumerate(words) if w in wanted]

    def closeness(start: int) -> float:
        at = int(np.searchsorted(positions, start))
        return sum(1.0 / (1 + abs(i - at)) for i in hits if not start <= words[i][0] < start + len(answer))

    return max(starts, key=closeness)


def load_squad(path: Path, *, held_out: bool | None, limit_articles: int | None = None) -> Corpus:
    """Read a SQuAD v1.1 file; `held_out` picks one side of the split, or everything when None."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    corpus = Corpus([], [], [], [])
    for article in articles:
        if held_out is not None and is_held_out(article["title"]) != held_out:
            continue
        if limit_articles is not None and len(corpus.titles) >= limit_articles:
            break
        corpus.titles.append(article["title"].replace("_", " "))
        for paragraph in article["paragraphs"]:
            context = paragraph["context"]
            for qa in paragraph["qas"]:
                answer = qa["answers"][0]
                start = best_occurrence(context, answer["text"], qa["question"], answer["answer_start"])
                if context[start : start + len(answer["text"])] == answer["text"]:
                    elsewhere = tuple(o for o in occurrences(context, answer["text"]) if o != start)
                    corpus.questions.append(
                        Question(qa["question"].strip(), len(corpus.paragraphs), answer["text"], start, elsewhere)
                    )
            corpus.paragraphs.append(context)
            corpus.article_of.append(len(corpus.titles) - 1)
    return corpus


def sampled(corpus: Corpus, *, count: int, seed: int) -> list[Question]:
    """Return `count` of the corpus' questions by chance, or all of them where there are fewer."""
    return random.Random(seed).sample(corpus.questions, min(count, len(corpus.questions)))


def negatives_of(corpus: Corpus, path: Path | None) -> list[list[int]]:
    """Read the negatives that `mine.py` wrote for this corpus, or find some by BM25 when there is no file.

    Raises:
        SystemExit: the file was made for other questions.
    """
    if path is None:
        return bm25_negatives(corpus, per_question=6)
    negatives: list[list[int]] = json.loads(path.read_text(encoding="utf-8"))
    if len(negatives) != len(corpus.questions):
        raise SystemExit(f"{path} holds negatives of {len(negatives)} questions, not of {len(corpus.questions)}")
    return negatives


def bm25_negatives(corpus: Corpus, *, per_question: int, depth: int = 30) -> list[list[int]]:
    """Return, for each question, the best paragraphs by BM25 that are not its own and do not hold its answer."""
    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25()
    index.index(bm25s.tokenize(corpus.paragraphs, stemmer=stemmer, show_progress=False), show_progress=False)
    questions = bm25s.tokenize([q.text for q in corpus.questions], stemmer=stemmer, show_progress=False)
    found, _ = index.retrieve(questions, k=min(depth, len(corpus.paragraphs)), show_progress=False)
    lowered = [p.lower() for p in corpus.paragraphs]
    negatives = []
    for question, row in zip(corpus.questions, found, strict=True):
        answer = question.answer.lower()
        good = [int(p) for p in row if p != question.paragraph and answer not in lowered[p]]
        negatives.append(good[:per_question])
    return negatives
