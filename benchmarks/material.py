"""What is measured on: texts of given files, else of the sample corpus, and as many more as are needed."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from odqa import settings
from odqa.ingest.chunker import PassageChunker
from odqa.models.registry import BUNDLED
from odqa.models.runtime import Tokenizer
from odqa.retriever.encoder import load_encoder

DATA = Path(__file__).parents[1] / "data"
FULL_TOKENS = 320  # a passage of so many tokens or more is called full; at most 384 are allowed
PARAGRAPH_WORDS = 110  # sample texts are joined to paragraphs of about so many words: 150 tokens
SHORT_WORDS = 100  # length of the passages that a corpus is cut finer to
MADE_SENTENCE_WORDS = 20
MADE_DOCUMENT_WORDS = 3000  # an average article of Wikipedia

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A text with the title of the document that it is from ("" for none)."""

    title: str
    text: str


def tokenizer() -> Tokenizer:
    """Return the tokenizer of the bundled models."""
    return Tokenizer(BUNDLED / "vocab.txt", lower_case=True)


# ---- given files, or the sample corpus -----------------------------------------------------------------------------


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def paragraphs(squad: Path | None) -> list[Piece]:
    """Return the paragraphs of a SQuAD file, without titles; without one, paragraphs of the sample corpus."""
    if squad is None:
        return [Piece("", text) for piece in _sample() for text in _joined(piece.text.split("\n\n"), PARAGRAPH_WORDS)]
    with _opened(squad) as file:
        articles = json.load(file)["data"]
    return [Piece("", paragraph["context"]) for article in articles for paragraph in article["paragraphs"]]


def questions(squad: Path | None) -> list[str]:
    """Return the questions of a SQuAD file; without one, those of the sample corpus."""
    if squad is None:
        lines = (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["question"] for line in lines]
    with _opened(squad) as file:
        articles = json.load(file)["data"]
    return [qa["question"] for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]


def articles(wiki: Path | None) -> Iterator[Piece]:
    """Yield the articles of a file of JSON lines, or of a folder of them; without one, of the sample corpus."""
    if wiki is None:
        yield from _sample()
        return
    for path in sorted(wiki.glob("*.jsonl*")) if wiki.is_dir() else [wiki]:
        with _opened(path) as file:
            for line in file:
                record = json.loads(line)
                yield Piece(record.get("title") or "", record["text"])


def _sample() -> Iterator[Piece]:
    """Yield the Markdown files and the records of the sample corpus; all are UTF-8."""
    for path in sorted((DATA / "corpus").rglob("*")):
        if path.suffix == ".md":
            yield Piece(path.stem.replace("-", " "), path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            for line in path.read_text(encoding="utf-8").splitlines():
                yield Piece(json.loads(line).get("title", ""), json.loads(line)["text"])


def _joined(parts: Iterable[str], words: int) -> Iterator[str]:
    """Join neighbouring parts to texts of about so many words; a short rest at the end is left out."""
    held: list[str] = []
    for part in parts:
        held += part.split()
        if len(held) >= words:
            yield " ".join(held)
            held = []


# ---- as many as are needed -----------------------------------------------------------------------------------------


class MadeText:
    """Text of words that are drawn by chance, as often as they occur in given texts."""

    def __init__(self, texts: Iterable[str], *, seed: int = 0) -> None:
        """Count the words of the texts."""
        counts = Counter(word for text in texts for word in _WORD.findall(text))
        self._words = np.array(list(counts))
        self._shares = np.cumsum(np.fromiter(counts.values(), dtype=np.float64))
        self._shares /= self._shares[-1]
        self._rng = np.random.default_rng(seed)

    def text(self, words: int) -> str:
        """Return a text of so many words, in sentences."""
        drawn = self._words[np.searchsorted(self._shares, self._rng.random(words), side="right")].tolist()
        sentences = (drawn[at : at + MADE_SENTENCE_WORDS] for at in range(0, words, MADE_SENTENCE_WORDS))
        return " ".join(" ".join(sentence) + "." for sentence in sentences)


def enough(real: Iterable[Piece], count: int, *, words: int) -> Iterator[Piece]:
    """Yield `count` pieces: the real ones first, then ones of `words` words each, made with their frequencies."""
    seen: list[str] = []
    for piece in itertools.islice(real, count):
        if len(seen) < 20_000:
            seen.append(piece.text)
        count -= 1
        yield piece
    if count:
        made = MadeText(seen)
        for number in range(count):
            yield Piece(f"Made {number}", made.text(words))


def short_passages(wiki: Path | None, count: int) -> Iterator[Piece]:
    """Yield `count` passages of about 100 words: the corpus cut finer, then made ones of the same word frequencies."""
    cut = (
        Piece(article.title, text)
        for article in articles(wiki)
        for text in _joined(re.split(r"(?<=[.!?])\s+", article.text), SHORT_WORDS)
    )
    return enough(cut, count, words=SHORT_WORDS)


def full_passages(wiki: Path | None, count: int) -> list[Piece]:
    """Return `count` full passages as odqa cuts them out of the articles, with the articles' titles."""
    words = tokenizer()
    chunker = PassageChunker(words)

    def full(pieces: Iterable[Piece]) -> Iterator[Piece]:
        for article in pieces:
            for span in chunker.split(article.text, title=article.title, sections=()):
                text = span.of(article.text)
                if len(words.encode(text).ids) >= FULL_TOKENS:
                    yield Piece(article.title, text)

    found = list(itertools.islice(full(articles(wiki)), count))
    if len(found) < count:  # what is missing is cut out of made texts
        made = MadeText(article.text for article in articles(wiki))
        more = (Piece(f"Made {number}", made.text(5000)) for number in itertools.count())
        found += itertools.islice(full(more), count - len(found))
    return found


def documents(wiki: Path | None, count: int) -> Iterator[list[Piece]]:
    """Yield `count` documents as the passages that odqa cuts them into: articles first, then made ones."""
    chunker = PassageChunker(tokenizer())
    for article in enough(articles(wiki), count, words=MADE_DOCUMENT_WORDS):
        spans = chunker.split(article.text, title=article.title, sections=())
        if spans:
            yield [Piece(article.title, span.of(article.text)) for span in spans]


def mean_tokens(texts: Sequence[str]) -> float:
    """Return the mean number of tokens of texts, without special tokens."""
    return float(np.mean([len(encoding.ids) for encoding in tokenizer().encode_batch(texts)]))


def write_lines(path: Path, pieces: Iterable[Piece]) -> Path:
    """Write pieces as JSON lines, one document each, to be indexed."""
    with path.open("w", encoding="utf-8") as file:
        for number, piece in enumerate(pieces):
            file.write(json.dumps({"id": number, "title": piece.title, "text": piece.text}, ensure_ascii=False) + "\n")
    return path


def chosen(items: Sequence[str], count: int) -> list[str]:
    """Return `count` items spread evenly, repeated where there are fewer."""
    if len(items) < count:
        return list(itertools.islice(itertools.cycle(items), count))
    return [items[at * len(items) // count] for at in range(count)]


# ---- vectors -------------------------------------------------------------------------------------------------------


class MadeVectors:
    """Vectors of length 1 made by perturbing real ones: `a + t (b - c)`, brought back to length 1.

    a, b and c are real vectors drawn by chance, and t is such that the step is as long as the median distance of a real
    vector to its nearest neighbour. So made vectors lie about as far from real ones as those from each other, and vary
    in the directions in which real ones vary. Row n is the same in every run.
    """

    BLOCK = 4096

    def __init__(self, base: np.ndarray, *, seed: int = 0) -> None:
        """Perturb the vectors `base`, float32 [at least 3, width]."""
        self._base, self._seed = np.ascontiguousarray(base, dtype=np.float32), seed
        self.step = _neighbour_distance(self._base)

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """Yield `count` vectors in blocks, float32 [at most 4096, width]."""
        for number, start in enumerate(range(0, count, self.BLOCK)):
            rng = np.random.default_rng([self._seed, number])
            rows = min(self.BLOCK, count - start)
            a, b, c = (self._base[rng.integers(len(self._base), size=self.BLOCK)[:rows]] for _ in range(3))
            step = b - c
            length = np.linalg.norm(step, axis=1, keepdims=True)
            moved = a + np.where(length > 0, self.step * step / np.maximum(length, 1e-12), 0)
            yield (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _neighbour_distance(vectors: np.ndarray, *, sample: int = 1000) -> float:
    """Return the median distance from a vector to the nearest other one that is not the same."""
    asked = vectors[np.linspace(0, len(vectors) - 1, min(sample, len(vectors))).astype(int)]
    squares = (asked**2).sum(1)[:, None] + (vectors**2).sum(1)[None] - 2 * asked @ vectors.T
    squares[squares < 1e-6] = np.inf
    return float(np.median(np.sqrt(squares.min(axis=1))))


def real_vectors(pieces: Sequence[Piece]) -> np.ndarray:
    """Encode pieces with the bundled encoder: float32 [len(pieces), width]."""
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    return encoder.encode_passages([piece.text for piece in pieces], titles=[piece.title for piece in pieces])
