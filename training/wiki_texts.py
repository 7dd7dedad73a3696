"""Texts without questions, for the encoder to learn from its teachers: windows of articles, and a sentence of each.

They are rows of ids, cut where tokens end, so every network that reads BERT's pieces sees the very same.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loop

WINDOWS = 8  # of one article, next to each other: what is easily mistaken for one another
WINDOW_TOKENS = (64, 128, 128, 192, 256)  # one of these for all windows of an article
SENTENCE_TOKENS = (6, 30)
TAKEN_OUT = 0.5  # share of windows without their sentence, which else finds them by its words alone
STOPS = frozenset({1012, 1029, 999})  # ids of . ? !


@dataclass(frozen=True)
class Group:
    """Windows of one article, and a sentence of each window; ids with [CLS] and [SEP]."""

    windows: list[list[int]]
    sentences: list[list[int]]


def articles(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield title and text of each line of all .jsonl.gz files of a folder."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                article = json.loads(line)
                yield article["title"], article["text"]


def titles_of(path: Path) -> set[str]:
    """Return the titles of a SQuAD file, as in the articles."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return {article["title"].replace("_", " ") for article in json.load(file)["data"]}


def sentence_of(window: list[int], rng: random.Random) -> tuple[int, int] | None:
    """Return begin and end of a sentence of the window, None if none has a fitting length."""
    ends = [0, *(at + 1 for at, piece in enumerate(window) if piece in STOPS)]
    least, most = SENTENCE_TOKENS
    fitting = [(a, b) for a, b in itertools.pairwise(ends) if least <= b - a <= most]
    return rng.choice(fitting) if fitting else None


def groups_of(folder: Path, *, count: int, without: set[str], seed: int) -> list[Group]:
    """Return windows of `count` articles drawn by chance, none of them among the titles `without`."""
    tokenizer, rng = loop.plain_tokenizer(), random.Random(seed)
    known = [(title, text) for title, text in articles(folder) if title not in without]
    rng.shuffle(known)
    groups: list[Group] = []
    for _, text in known:
        if len(groups) == count:
            break
        ids, width = tokenizer.encode(text).ids, rng.choice(WINDOW_TOKENS)
        begins = range(0, len(ids) - width, width)
        if len(begins) < WINDOWS:
            continue
        first = rng.randrange(len(begins) - WINDOWS + 1)
        windows, sentences = [], []
        for begin in begins[first : first + WINDOWS]:
            window = ids[begin : begin + width]
            place = sentence_of(window, rng)
            if place is None:
                continue
            start, end = place
            sentences.append([loop.CLS, *window[start:end], loop.SEP])
            if rng.random() < TAKEN_OUT:
                window = window[:start] + window[end:]
            windows.append([loop.CLS, *window, loop.SEP])
        if windows:
            groups.append(Group(windows, sentences))
    return groups
