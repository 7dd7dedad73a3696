"""What questions that stand in a passage do to answers, and what `odqa.reader.interrogatives` makes of that.

    python training/interrogatives.py --squad train-v1.1.json.gz

The sentences of held-out paragraphs are given a question each that they answer, before them: as a list of frequent
questions, an interview or a chat. Then the paragraph's questions are asked: those that stand there word for word, and
those that do not. (Real lists and chats do not repeat the question in the answer, which is harder.)
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

import data
from odqa import metrics, settings
from odqa.reader import extractive
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.words import sentences

FORMS = {  # how a question and its answer are written, and what stands between two of them
    "list": ("{question}\n\n{answer}", "\n\n"),
    "interview": ("**{question}** {answer}", "\n\n"),
    "chat": ("Maria: {question}\nPeter: {answer}", "\n"),
}
READ_AT_ONCE = 256


@dataclass(frozen=True)
class Asked:
    """A question of a paragraph, the text that the paragraph became, and how."""

    question: str
    answer: str
    paragraph: str
    text: str
    form: str
    stands_there: bool


def made(paragraph: str, questions: Sequence[data.Question], choose: random.Random) -> list[Asked]:
    """Write a paragraph as one that asks, and return those of its questions whose answer stands in one sentence."""
    cut = [paragraph[start:end].strip() for start, end, _ in sentences(paragraph)]
    answered = defaultdict(list)
    for question in questions:
        held = [number for number, sentence in enumerate(cut) if question.answer in sentence]
        if len(held) == 1:
            answered[held[0]].append(question)
    form = choose.choice(list(FORMS))
    pattern, gap = FORMS[form]
    parts: list[str] = []
    chosen = {number: choose.choice(own) for number, own in sorted(answered.items())}
    for number, sentence in enumerate(cut):
        if number in chosen:
            parts.append(pattern.format(question=chosen[number].text, answer=sentence))
        elif parts:
            parts[-1] += " " + sentence
        else:
            parts.append(sentence)
    text, there = gap.join(parts), {question.text for question in chosen.values()}
    return [
        Asked(one.text, one.answer, paragraph, text, form, one.text in there)
        for _, own in sorted(answered.items())
        for one in own
    ]


def scores(reader: ExtractiveReader, asked: Sequence[Asked], texts: Sequence[str]) -> str:
    """Return exact matches and F1, in percent, of what is read in some texts."""
    exact, f1 = [], []
    for at in range(0, len(asked), READ_AT_ONCE):
        part = slice(at, at + READ_AT_ONCE)
        found = reader.read_many([one.question for one in asked[part]], [[text] for text in texts[part]], n_best=1)
        for one, text, best in zip(asked[part], texts[part], found, strict=True):
            span = best[0].span.of(text) if best else None
            exact.append(metrics.exact_match(span, [one.answer]))
            f1.append(metrics.f1(span, [one.answer]))
    return f"{100 * np.mean(exact):.1f} / {100 * np.mean(f1):.1f}"


def main() -> None:
    """Print exact matches and F1 of each form, read as it is and with the product's rules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--squad", type=Path, required=True, help="the training file")
    parser.add_argument("--questions", type=int, default=3000, help="most questions that are asked")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    corpus = data.load_squad(options.squad, held_out=True)
    own = defaultdict(list)
    for question in corpus.questions:
        own[question.paragraph].append(question)
    choose = random.Random(options.seed)
    asked = [one for at, questions in own.items() for one in made(corpus.paragraphs[at], questions, choose)]
    asked = choose.sample(asked, min(options.questions, len(asked)))
    reader = load_reader(settings.DEFAULT_READER)
    print("| text | questions | without the rules | with them |\n|---|---|---|---|")
    groups = [("the paragraph as it stands", asked, [one.paragraph for one in asked])]
    for form in FORMS:
        for there in (True, False):
            part = [one for one in asked if one.form == form and one.stands_there == there]
            groups.append((f"{form}, {'' if there else 'not '}among its questions", part, [one.text for one in part]))
    for name, part, texts in groups:
        row = []
        for rules in (False, True):
            with nullcontext() if rules else patch.object(extractive, "interrogatives", lambda *_: None):
                row.append(scores(reader, part, texts))
        print(f"| {name} | {len(part)} | {row[0]} | {row[1]} |", flush=True)


if __name__ == "__main__":
    main()
