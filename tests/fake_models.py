"""An encoder and a reader that are pure functions of the text, and a registry that holds nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from odqa import pipeline, settings
from odqa.models.registry import Calibration, ModelFile, ModelSpec
from odqa.pipeline import QuestionAnswering
from odqa.protocols import EncoderIdentity, Encoding, SpanCandidate, TokenIds
from odqa.store.index import IndexIdentity
from odqa.types import Span

WIDTH = 16
ENCODER = "fake-encoder"
READER = "fake-reader"
_FILES = tuple(
    ModelFile(f"{role}.bin", role, None, 1, "sha256:" + "0" * 64) for role in ("network", "weights", "vocabulary")
)
ENCODER_SPEC = ModelSpec(
    name=ENCODER,
    task="encode",
    revision="1",
    description="hashed bag of words",
    licence="Apache-2.0",
    source="bundled",
    architecture="none",
    files=_FILES,
    lower_case=True,
    question_tokens=32,
    inputs=(),
    outputs=(),
    passage_tokens=384,
    width=WIDTH,
)
READER_SPEC = replace(
    ENCODER_SPEC,
    name=READER,
    task="read",
    description="last word of the sentence that shares most words",
    passage_tokens=0,
    width=0,
    window_tokens=384,
    question_tokens=64,
    calibration=Calibration(threshold=0.5),
)
OTHER_SPEC = replace(ENCODER_SPEC, name="other-encoder", revision="7")


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class WordTokenizer:
    """One token for each word and each sign, numbered by its hash."""

    def encode(self, text: str) -> Encoding:
        found = list(re.finditer(r"\w+|[^\w\s]", text))
        ids = [int.from_bytes(hashlib.sha256(m[0].encode()).digest()[:3], "big") for m in found]
        return Encoding(ids, [m.span() for m in found])

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        return [self.encode(text) for text in texts]


def word_vector(word: str) -> np.ndarray:
    """16 signs, from the bits of the word's hash."""
    digest = hashlib.sha256(word.encode()).digest()
    return np.unpackbits(np.frombuffer(digest[:2], np.uint8)).astype(np.float32) * 2 - 1


class BagEncoder:
    """The normalised sum of the vectors of a text's words; keeps `odqa.protocols.Encoder`."""

    def __init__(self, spec: ModelSpec = ENCODER_SPEC) -> None:
        self.identity = EncoderIdentity(spec.name, spec.revision, spec.checksum, spec.width)
        self.tokenizer = WordTokenizer()

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> np.ndarray:
        rows = np.zeros((len(questions), WIDTH), np.float32)
        for row, question in zip(rows, questions, strict=True):
            for word in words_of(question):
                row += word_vector(word)
            row /= max(float(np.linalg.norm(row)), 1.0)
        return rows

    def encode_passages(
        self, passages: Sequence[str], *, titles: Sequence[str], ids: Sequence[TokenIds] | None = None
    ) -> np.ndarray:
        return self.encode_questions([f"{t}\n{p}" for t, p in zip(titles, passages, strict=True)])


class LastWordReader:
    """Each sentence offers its last word; the score is the number of words shared with the question, less 2.5."""

    name = READER

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        asked, found = set(words_of(question)), []
        for number, passage in enumerate(passages):
            spans = []
            for sentence in re.finditer(r"[^.!?\n]*?(\w+)(?=[.!?\n]|$)", passage):
                shared = len(asked & set(words_of(sentence[0])))
                spans.append(SpanCandidate(number, Span(*sentence.span(1)), shared - 2.5))
            found += sorted(spans, key=lambda c: (-c.score, c.span))[:n_best]
        return sorted(found, key=lambda c: (-c.score, c.passage, c.span))

    def warm_up(self) -> None:
        """There is nothing to be made beforehand."""

    def best_by_window(self, questions: Sequence[str], passages: Sequence[str]) -> list[list[SpanCandidate]]:
        return [self.read(q, [p], n_best=1) for q, p in zip(questions, passages, strict=True)]

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        return [self.read(q, p, n_best=n_best) for q, p in zip(questions, passages, strict=True)]

    def read_as_omz(self, questions: Sequence[str], passages: Sequence[Sequence[str]]) -> list[list[SpanCandidate]]:
        """Of each passage the sentence that shares least with the question, so that it is told from `read_many`."""
        worst = [self.read(q, p, n_best=100)[::-1] for q, p in zip(questions, passages, strict=True)]
        return [
            [
                SpanCandidate(number, span.span, 1 / (4 - span.score))
                for number in range(len(texts))
                for span in [next(one for one in spans if one.passage == number)]
            ]
            for spans, texts in zip(worst, passages, strict=True)
        ]


def identity(spec: ModelSpec = ENCODER_SPEC) -> IndexIdentity:
    return IndexIdentity(BagEncoder(spec).identity, settings.PASSAGE_TOKENS, settings.TITLE_TOKENS)


def use_fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `odqa.pipeline` know the fake models only, and take them by default."""
    specs = {spec.name: spec for spec in (ENCODER_SPEC, READER_SPEC, OTHER_SPEC)}
    monkeypatch.setattr("odqa.models.registry.models", lambda **_: tuple(specs.values()))
    monkeypatch.setattr("odqa.settings.DEFAULT_ENCODER", ENCODER)
    monkeypatch.setattr("odqa.settings.DEFAULT_READER", READER)
    for module in ("odqa.pipeline", "odqa.evaluation"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda name: BagEncoder(specs[name]))
    monkeypatch.setattr("odqa.pipeline.load_reader", lambda _: LastWordReader())


@contextmanager
def fake_models() -> Iterator[None]:
    """Do the same for a stretch of a test, where a fixture would outlive an example of hypothesis."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_fake_models(monkeypatch)
        yield


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


def contents(index_dir: Path) -> dict[str, tuple[str, list[tuple[Span, str]]]]:
    """Return doc_id -> (text, passages in order) of everything that an index holds, as far as runs must agree."""
    with pipeline.open(index_dir) as qa:
        held = {}
        for doc_id in qa.doc_ids():
            document = qa.document(doc_id)
            assert document is not None
            found = qa.search(document.text, top_k=10_000, where=[f"doc_id={doc_id}"], mode="dense")
            passages = sorted((one.passage.span, one.passage.text) for one in found)
            held[doc_id] = (document.text, passages)
        return held


DOCUMENTS = {
    "whales.md": "# Whales\n\nThe great whale of Skarn is called Borealis.\n\n"
    "# Seals\n\nThe seal of Orrel is called Bo.\n",
    "ships.jsonl": '{"id": "a", "title": "Ships", "text": "The oldest ship was built by Ingrid.", "year": 1899}\n'
    '{"id": "b", "title": "Ships", "text": "The fastest ship was built by Ingrid.", "year": 1925}\n'
    '{"id": "c", "title": "Ships", "text": "The smallest ship was built by Lucja.", "year": 1950, "afloat": true}\n',
    "gulls.txt": "The gull eats chips.",
}


def write_index(folder: Path) -> Path:
    """Index DOCUMENTS, written to `folder`/docs, and return the folder of the index; needs `use_fake_models`."""
    docs = write_files(folder / "docs", DOCUMENTS)
    with pipeline.open(folder / "index", create=True) as qa:
        qa.index([docs])
    return folder / "index"


def doc_ids(qa: QuestionAnswering, question: str, **options: object) -> list[str]:
    return [one.passage.doc_id for one in qa.search(question, **options)]  # type: ignore[arg-type]


def frozen_state(index_dir: Path) -> dict[str, bytes]:
    """Everything that lies in the folder, but SQLite's own side files, which come and go with readers."""
    files = [path for path in index_dir.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {path.name: path.read_bytes() for path in files}
