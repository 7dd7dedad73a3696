"""Whether a model does what its kind is made for: questions over a few passages of our own, with known answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from odqa import metrics
from odqa.models.registry import ENCODE, ModelSpec
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder

# What measures the published figures of a model, by its task. The data set is SQuAD's and does not come with odqa.
LEAST_F1 = 0.5  # with the best of the accepted answers: "at 230 degrees" is as right as "230 degrees"
COMMANDS = {
    "encode": "odqa evaluate dev-v1.1.json --stage retrieval --mode dense --encoder {}",
    "read": "odqa evaluate dev-v1.1.json --stage reading --reader {}",
}


@dataclass(frozen=True, slots=True)
class Known:
    """A question, the number of the passage that answers it, and every text that is a right answer."""

    question: str
    passage: int
    answers: tuple[str, ...]


PASSAGES = (
    "The Halden Bridge was opened on 14 June 1931. It was designed by the engineer Marta Lindqvist, is 412 metres long "
    "and carries two tram lines across the Orre. Before that, a ferry took passengers over the river.",
    "Hazel dormice sleep through the winter in nests under fallen leaves. In summer they eat berries, hazelnuts and "
    "insects, and they seldom come down to the ground.",
    "The first public library of Brennick was founded by the baker Tomas Auer, who gave 3,000 books to it in 1874. "
    "Its reading room is open until nine in the evening.",
    "To bake rye bread, mix rye flour with water, salt and sourdough and let the dough rest for twelve hours. Bake it "
    "at 230 degrees for the first ten minutes.",
    "Captain Ines Duarte sailed around the world alone on the yacht Petrel. The voyage took 287 days and ended in the "
    "harbour of Lagos in 1998.",
    "The planet Kepler-22b was discovered by the Kepler space telescope in 2011. It orbits a star about 640 "
    "light-years from Earth in the constellation Cygnus.",
)
KNOWN = (
    Known("Who designed the Halden Bridge?", 0, ("Marta Lindqvist", "the engineer Marta Lindqvist")),
    Known("How long is the Halden Bridge?", 0, ("412 metres", "412")),
    Known("Where do hazel dormice sleep in winter?", 1, ("in nests under fallen leaves", "nests under fallen leaves")),
    Known("Who founded the library of Brennick?", 2, ("Tomas Auer", "the baker Tomas Auer", "baker Tomas Auer")),
    Known("How long does the dough of rye bread rest?", 3, ("twelve hours", "for twelve hours")),
    Known("What was the name of Ines Duarte's yacht?", 4, ("Petrel", "the yacht Petrel")),
    Known("In which year was Kepler-22b discovered?", 5, ("2011", "in 2011")),
    Known("In which constellation is Kepler-22b?", 5, ("Cygnus", "the constellation Cygnus")),
)


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What a model made of a question.

    A reader is given the right passage, `found` is its best answer, and it is right when its F1 with an accepted answer
    is at least `LEAST_F1`. An encoder ranks all passages, and `found` is the beginning of the nearest one.
    """

    question: str
    expected: str
    found: str
    right: bool


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The result of the known answers, with the figures of the model's entry and the command that measures them."""

    name: str
    task: str
    answers: tuple[KnownAnswer, ...]
    published: Mapping[str, float]
    measured: Mapping[str, float]
    command: str

    @property
    def passed(self) -> bool:
        """Whether every answer was right, as it is with a model that was trained for its task."""
        return all(answer.right for answer in self.answers)


def check_model(
    spec: ModelSpec, *, known: Sequence[Known] = KNOWN, environment: Mapping[str, str] = os.environ
) -> ModelCheck:
    """Load a model and give it questions with known answers. Takes about as long as to load it.

    Raises:
        MissingModelError: it has not been pulled.
        DamagedModelError: a file of the model is missing or is not the right one.
        ModelError: the files cannot be loaded, do not fit the entry, or give numbers that are not finite.
    """
    if spec.task == ENCODE:
        answers = _ranked(DenseEncoder(spec, environment=environment), known)
    else:
        answers = _read(ExtractiveReader(spec, environment=environment), known)
    command = COMMANDS[spec.task].format(spec.name)
    return ModelCheck(spec.name, spec.task, tuple(answers), spec.published, spec.measured, command)


def _ranked(encoder: DenseEncoder, known: Sequence[Known]) -> list[KnownAnswer]:
    questions = encoder.encode_questions([one.question for one in known])
    passages = encoder.encode_passages(PASSAGES, titles=[""] * len(PASSAGES))
    nearest = np.linalg.norm(questions[:, None] - passages[None], axis=2).argmin(axis=1).tolist()
    return [
        KnownAnswer(one.question, _beginning(one.passage), _beginning(at), at == one.passage)
        for one, at in zip(known, nearest, strict=True)
    ]


def _beginning(passage: int) -> str:
    return " ".join(PASSAGES[passage].split()[:6]) + " …"


def _read(reader: ExtractiveReader, known: Sequence[Known]) -> list[KnownAnswer]:
    passages = [[PASSAGES[one.passage]] for one in known]
    found = []
    for one, spans in zip(known, reader.read_many([one.question for one in known], passages, n_best=1), strict=True):
        text = spans[0].span.of(PASSAGES[one.passage]) if spans else ""
        found.append(KnownAnswer(one.question, one.answers[0], text, metrics.f1(text, one.answers) >= LEAST_F1))
    return found
