"""Data set -> pipeline -> report: how well passages are found, answers read, and both together."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from odqa import metrics, pipeline, settings
from odqa.errors import IngestError
from odqa.models import registry
from odqa.protocols import Encoder, PreparedDocument
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import load_encoder
from odqa.retriever.hybrid import has_words
from odqa.store.index import Index, IndexIdentity
from odqa.types import Document, QueryResult, RetrievedPassage, Span

DEPTH = 20  # passages retrieved for recall@20
BATCH = 64  # questions between two calls of the progress callback


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """A question with its accepted answers (none: not answerable) and, in SQuAD files, the number of its paragraph."""

    question: str
    answers: tuple[str, ...]
    paragraph: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions and, in SQuAD files, the paragraphs they were asked of with titles and numbers of their articles."""

    questions: tuple[GoldQuestion, ...]
    paragraphs: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    articles: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Figures in [0, 1] by name; an empty mapping where the data set does not allow the measure."""

    retrieval: dict[str, float]
    reading: dict[str, float]
    end_to_end: dict[str, float]
    abstention: dict[str, float]
    questions: int
    seconds: float


def read_dataset(path: Path) -> Dataset:
    """Read a SQuAD-format file (.json) or JSON lines of `{"question", "answers"}`; either may be gzipped.

    Raises:
        IngestError: the file cannot be read, is neither, holds no questions, or one without words, or a blank
            paragraph; the message says which.
    """
    try:
        opener: Callable[..., IO[str]] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise IngestError(f"the data set {path} cannot be read: {error}") from error
    try:
        dataset = _squad(json.loads(text)) if '"paragraphs"' in text[:1_000_000] else _lines(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IngestError(
            f"{path} is neither a SQuAD-format file nor JSON lines of question and answers ({error!r})"
        ) from error
    if not dataset.questions:
        raise IngestError(f"the data set {path} holds no questions")
    for number, gold in enumerate(dataset.questions, start=1):
        if not has_words(gold.question):
            raise IngestError(f"the data set {path}: question {number} has no words: {gold.question!r}; take it out")
    for number, text in enumerate(dataset.paragraphs, start=1):
        if not text.strip():
            raise IngestError(f"the data set {path}: paragraph {number} is blank; take it out")
    return dataset


def _squad(content: dict[str, Any]) -> Dataset:
    questions: list[GoldQuestion] = []
    paragraphs: list[str] = []
    titles: list[str] = []
    articles: list[int] = []
    for number, article in enumerate(content["data"]):
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = tuple(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                questions.append(GoldQuestion(qa["question"], answers, len(paragraphs)))
            paragraphs.append(paragraph["context"])
            titles.append(article.get("title", "").replace("_", " "))
            articles.append(number)
    return Dataset(tuple(questions), tuple(paragraphs), tuple(titles), tuple(articles))


def _lines(text: str) -> Dataset:
    return Dataset(tuple(_line(json.loads(line)) for line in text.split("\n") if line.strip()))


def _line(record: dict[str, Any]) -> GoldQuestion:
    question, answers = record["question"], record["answers"]
    if not isinstance(question, str) or not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise TypeError('"question" has to be a text and "answers" a list of texts')
    return GoldQuestion(question, tuple(answers))


@contextmanager
def paragraph_index(dataset: Dataset, *, encoder: Encoder, with_titles: bool) -> Iterator[Path]:
    """Make a temporary index with one passage per paragraph, as the published figures have it.

    Document ids are "0", "1", ... in the order of the paragraphs; the field `article` holds the number of the article.
    `with_titles` puts the article's title in front of the encoder's input and into the full-text index.
    """
    with tempfile.TemporaryDirectory(prefix="odqa-evaluate-") as folder:
        identity = IndexIdentity(encoder.identity, settings.PASSAGE_TOKENS, settings.TITLE_TOKENS)
        titles = dataset.titles if with_titles else ("",) * len(dataset.paragraphs)
        fields = [{"article": article} for article in dataset.articles] or [{}] * len(dataset.paragraphs)
        with Index.create(Path(folder), identity) as index:
            for at in range(0, len(dataset.paragraphs), 1024):
                texts = dataset.paragraphs[at : at + 1024]
                vectors = encoder.encode_passages(texts, titles=titles[at : at + 1024])
                index.write(
                    [
                        PreparedDocument(
                            Document(str(number), titles[number], text, str(number), metadata=fields[number]),
                            (Span(0, len(text)),),
                            vectors[number - at : number - at + 1],
                        )
                        for number, text in enumerate(texts, start=at)
                    ]
                )
            index.write_snapshot()
        yield Path(folder)


def evaluate(
    path: Path,
    *,
    index_dir: Path | None = None,
    mode: str = settings.DEFAULT_MODE,
    limit: int | None = None,
    seed: int = 0,
    with_titles: bool = False,
    encoder: str | None = None,
    reader: str | None = None,
    stages: Sequence[str] = settings.DEFAULT_STAGES,
    profile: str = settings.DEFAULT_PROFILE,
    progress: Callable[[str, int, int], None] | None = None,
) -> EvaluationReport:
    """Measure retrieval, reading and the whole path on a data set.

    Without `index_dir` a SQuAD-format file is asked over its own paragraphs, and a passage counts as found when it is
    the question's own paragraph. With `index_dir` a passage counts as found when it holds an accepted answer. `limit`
    takes that many questions, chosen by `seed`. `stages` are those of `settings.EVALUATION_STAGES` to measure;
    "abstention" asks the questions of a SQuAD-format file with and without their own article among the passages.
    `profile` says how passages are read, one of `settings.PROFILES`. `progress` is called with the stage, questions
    done and all questions.

    Raises:
        IngestError: the data set cannot be read or is empty.
        NoIndexError: JSON lines were given without `index_dir`, or the folder holds no index.
        ValueError: an unknown mode, stage or profile, or `limit` below 1.
    """
    for kind, given, known in (
        ("stage", stages, settings.EVALUATION_STAGES),
        ("profile", [profile], settings.PROFILES),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"unknown {kind} {unknown[0]!r}: one of {', '.join(known)}")
    began = time.perf_counter()
    dataset = read_dataset(path)
    chosen = list(dataset.questions)
    if limit is not None:
        if limit < 1:
            raise ValueError(f"limit is {limit}: at least 1 question is needed")
        chosen = random.Random(seed).sample(chosen, min(limit, len(chosen)))  # noqa: S311 - a sample, not a secret
    if index_dir is not None or not dataset.paragraphs:
        with pipeline.open(index_dir, encoder=encoder, reader=reader) as qa:
            report = _measure(
                qa, chosen, dataset, own=False, mode=mode, stages=stages, profile=profile, progress=progress
            )
    else:
        spec = registry.find(settings.encoder_name(encoder) or settings.DEFAULT_ENCODER)
        loaded = load_encoder(spec.name)
        with (
            paragraph_index(dataset, encoder=loaded, with_titles=with_titles) as folder,
            pipeline.open(folder, encoder=spec.name, reader=reader) as qa,
        ):
            report = _measure(
                qa, chosen, dataset, own=True, mode=mode, stages=stages, profile=profile, progress=progress
            )
    return EvaluationReport(*report, questions=len(chosen), seconds=time.perf_counter() - began)


def _measure(
    qa: pipeline.QuestionAnswering,
    chosen: Sequence[GoldQuestion],
    dataset: Dataset,
    *,
    own: bool,
    mode: str,
    stages: Sequence[str],
    profile: str,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, float]]:
    def batches(stage: str) -> Iterator[Sequence[GoldQuestion]]:
        for at in range(0, len(chosen) if stage in stages else 0, BATCH):
            yield chosen[at : at + BATCH]
            if progress is not None:
                progress(stage, min(at + BATCH, len(chosen)), len(chosen))

    hits: list[list[bool]] = []
    for batch in batches("retrieval"):
        found = qa.search_many([gold.question for gold in batch], top_k=DEPTH, mode=mode)
        hits += [_hits(gold, passages, own=own) for gold, passages in zip(batch, found, strict=True) if gold.answers]
    reading: list[tuple[float, float, float]] = []
    if dataset.paragraphs:
        for batch in batches("reading"):
            answerable = [gold for gold in batch if gold.answers]
            reading += _read(qa.reader, answerable, dataset.paragraphs, profile=profile)
    results: list[tuple[GoldQuestion, QueryResult]] = []
    for batch in batches("end-to-end"):
        asked = [gold.question for gold in batch]
        results += zip(batch, qa.query_many(asked, mode=mode, profile=profile), strict=True)
    present: list[tuple[GoldQuestion, QueryResult]] = []
    absent: list[QueryResult] = []
    if own:
        for batch in batches("abstention"):
            answerable = [gold for gold in batch if gold.answers]
            asked = [gold.question for gold in answerable]
            present += zip(answerable, qa.query_many(asked, mode=mode, profile=profile), strict=True)
            absent += _without_article(qa, answerable, dataset, mode=mode, profile=profile)
    return (
        _retrieval_figures(hits),
        _mean({"em": 0, "f1": 1, "f1_oracle_windows": 2}, reading),
        _end_to_end_figures(results),
        _abstention_figures(present, absent),
    )


def _without_article(
    qa: pipeline.QuestionAnswering, batch: Sequence[GoldQuestion], dataset: Dataset, *, mode: str, profile: str
) -> list[QueryResult]:
    """Ask over everything but the article of each question: now nothing answers it."""
    articles = [dataset.articles[gold.paragraph or 0] for gold in batch]
    results: list[QueryResult] = []
    for article, group in groupby(zip(articles, batch, strict=True), key=itemgetter(0)):
        questions = [gold.question for _, gold in group]
        results += qa.query_many(questions, mode=mode, profile=profile, where=[f"article!={article}"])
    return results


def _hits(gold: GoldQuestion, passages: Sequence[RetrievedPassage], *, own: bool) -> list[bool]:
    if own:
        return [found.passage.doc_id == str(gold.paragraph) for found in passages]
    wanted = [f" {metrics.normalise_answer(answer)} " for answer in gold.answers]
    texts = [f" {metrics.normalise_answer(found.passage.text)} " for found in passages]
    return [any(answer in text for answer in wanted) for text in texts]


def _read(
    reader: ExtractiveReader, batch: Sequence[GoldQuestion], paragraphs: Sequence[str], *, profile: str
) -> list[tuple[float, float, float]]:
    """Read each question's own paragraph, always answering: EM, F1, and the F1 of the best window for the gold answers.

    The last looks at the gold answers to choose the window, as the published evaluations of the zoo's readers do.
    """
    texts, asked = [paragraphs[gold.paragraph or 0] for gold in batch], [gold.question for gold in batch]
    if profile == settings.DEFAULT_PROFILE:
        by_window = reader.best_by_window(asked, texts)
    else:
        by_window = reader.read_as_omz(asked, [[text] for text in texts])
    rows = []
    for gold, text, found in zip(batch, texts, by_window, strict=True):
        best = max(found, key=lambda candidate: candidate.score, default=None)
        answer = best.span.of(text) if best else None
        oracle = max((metrics.f1(candidate.span.of(text), gold.answers) for candidate in found), default=0.0)
        rows.append((metrics.exact_match(answer, gold.answers), metrics.f1(answer, gold.answers), oracle))
    return rows


def _retrieval_figures(hits: Sequence[Sequence[bool]]) -> dict[str, float]:
    if not hits:
        return {}
    figures = {f"recall@{k}": sum(any(row[:k]) for row in hits) / len(hits) for k in (1, 5, DEPTH)}
    first = [next((1 / rank for rank, hit in enumerate(row[:10], start=1) if hit), 0.0) for row in hits]
    return {**figures, "mrr@10": sum(first) / len(first)}


def _mean(columns: dict[str, int], rows: Sequence[tuple[float, ...]]) -> dict[str, float]:
    return {name: sum(row[at] for row in rows) / len(rows) for name, at in columns.items()} if rows else {}


def _end_to_end_figures(results: Sequence[tuple[GoldQuestion, QueryResult]]) -> dict[str, float]:
    """EM and F1 of the best answer whatever its probability; an unanswerable question scores by `answer is None`."""
    scores, right, probabilities = [], [], []
    for gold, result in results:
        best = result.answers[0] if result.answers else None
        given = best if gold.answers else result.answer
        text = given.text if given else None
        scores.append((metrics.exact_match(text, gold.answers), metrics.f1(text, gold.answers)))
        right.append(bool(gold.answers) and scores[-1][0] == 1.0)
        probabilities.append(best.probability if best else 0.0)
    figures = _mean({"em": 0, "f1": 1}, scores)
    if any(right) and not all(right):
        figures["auroc"] = metrics.auroc(probabilities, right)
    if results:
        figures["ece"] = metrics.expected_calibration_error(probabilities, right)
    return figures


def _abstention_figures(
    present: Sequence[tuple[GoldQuestion, QueryResult]], absent: Sequence[QueryResult]
) -> dict[str, float]:
    """Compare the probability of the best answer with and without the question's article in the index."""
    if not present:
        return {}
    probabilities, right = [], []
    for gold, result in present:
        best = result.answers[0] if result.answers else None
        probabilities.append(best.probability if best else 0.0)
        right.append(best is not None and metrics.exact_match(best.text, gold.answers) == 1.0)
    probabilities += [result.answers[0].probability if result.answers else 0.0 for result in absent]
    answerable = [True] * len(present) + [False] * len(absent)
    return {
        "auroc": metrics.auroc(probabilities, answerable),
        "ece": metrics.expected_calibration_error(probabilities, right + [False] * len(absent)),
        "answered": sum(result.answer is not None for _, result in present) / len(present),
        "refused": sum(result.answer is None for result in absent) / len(absent),
    }
