"""How fast odqa is on the user's own index and machine: what `odqa bench` shows.

The questions are made of the index itself, its documents' titles and first sentences, so the figures tell times, not
how good the answers are. They are those of one run on one machine; comparisons are made by the project's benchmarks.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from odqa import pipeline, settings
from odqa.errors import NoIndexError, OdqaError
from odqa.pipeline import QuestionAnswering
from odqa.retriever.hybrid import has_words
from odqa.store.filters import Condition
from odqa.types import IndexStatus, Passage

DOCUMENTS = 32  # that questions and passages are taken from, spread evenly over the index
ENCODED = 32  # passages that are encoded together
LEAST_RUNS = 3  # of each step, however little time there is
SENTENCE = 160  # most code points of a question made of a sentence
STEPS = {"encode": 3.0, "dense": 1.0, "text": 1.0, "hybrid": 1.0, "read": 2.0, "query": 2.0, "cold start": 2.0}
VERSIONS = ("odqa", "openvino", "faiss-cpu")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Times:
    """How long one thing took, in seconds: half of the runs took at most `p50_seconds`, 95 % at most `p95_seconds`."""

    p50_seconds: float
    p95_seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured. Everything but the cold start is warm: the index is open and the models are loaded.

    Attributes:
        index: what the index holds, with its sizes in bytes.
        processor: its name, as far as the system tells it.
        cores: cores that this process may use.
        versions: of Python and of the libraries that matter.
        encoder_tokens_per_second: tokens of the index's passages, special ones included, encoded together.
        encoder_passages_per_second: passages, likewise.
        search: finding `settings.TOP_K` passages, encoding the question included, by mode.
        read: reading the answer out of as many passages.
        query: from a question to its answer.
        cold_start: a whole `odqa query`, from the start of its process to its end.
        peak_memory_bytes: the most memory that this process held, mapped files included; None where it is not told.
        notices: what happened at opening that a person should know.
    """

    index: IndexStatus
    processor: str
    cores: int
    versions: Mapping[str, str]
    encoder_tokens_per_second: float
    encoder_passages_per_second: float
    search: Mapping[str, Times]
    read: Times
    query: Times
    cold_start: Times
    peak_memory_bytes: int | None
    notices: tuple[str, ...]


def measure(
    index_dir: Path | str | None = None,
    *,
    seconds: float = settings.BENCH_SECONDS,
    reader: str | None = None,
    progress: Progress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> BenchReport:
    """Measure an index on this machine.

    Args:
        index_dir: folder of the index; None takes `ODQA_INDEX_DIR`, else `indexes/default`.
        seconds: how long to measure, about; every step runs at least three times.
        reader: name of the reader; None takes `ODQA_READER`, else the bundled one.
        progress: called with the step, and how many steps of how many are done.
        clock: gives seconds.

    Raises:
        NoIndexError: there is no index, or its documents hold no words to ask with.
        OdqaError: the index cannot be opened, or `odqa query` fails in a process of its own.
    """
    folder = settings.index_dir(index_dir)
    with pipeline.open(folder, reader=reader) as qa:
        passages = _passages(qa)
        questions = _questions(passages, folder)
        texts = [passage.text for passage in passages][: settings.TOP_K]
        tokens = _tokens(qa, passages[:ENCODED])
        found = _steps(
            {
                "encode": lambda _: _encode(qa, passages[:ENCODED]),
                **{mode: _searching(qa, mode) for mode in settings.MODES},
                "read": lambda question: qa.reader.read(question, texts, n_best=settings.SPAN_CANDIDATES),
                "query": qa.query,
                "cold start": lambda question: cold_start(folder, question, reader=reader),
            },
            questions,
            seconds=seconds,
            progress=progress,
            clock=clock,
        )
        encoded = found["encode"].p50_seconds
        return BenchReport(
            index=qa.status(),
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            versions={"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONS},
            encoder_tokens_per_second=tokens / encoded,
            encoder_passages_per_second=len(passages[:ENCODED]) / encoded,
            search={mode: found[mode] for mode in settings.MODES},
            read=found["read"],
            query=found["query"],
            cold_start=found["cold start"],
            peak_memory_bytes=peak_memory_bytes(),
            notices=tuple(qa.notices),
        )


def _steps(
    calls: Mapping[str, Callable[[str], object]],
    questions: Sequence[str],
    *,
    seconds: float,
    progress: Progress,
    clock: Callable[[], float],
) -> dict[str, Times]:
    """Give every step its share of the time, after one run that does not count."""
    found = {}
    for done, (name, call) in enumerate(calls.items()):
        progress(name, done, len(calls))
        asked = itertools.cycle(questions)
        call(next(asked))
        taken: list[float] = []
        until = clock() + seconds * STEPS[name] / sum(STEPS.values())
        while len(taken) < LEAST_RUNS or clock() < until:
            began = clock()
            call(next(asked))
            taken.append(clock() - began)
        found[name] = Times(percentile(taken, 50), percentile(taken, 95), len(taken))
    progress("done", len(calls), len(calls))
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of a hundred values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


# ---- what is asked and encoded -------------------------------------------------------------------------------------


def _passages(qa: QuestionAnswering) -> list[Passage]:
    """Return a passage of each of some documents, spread evenly over the index."""
    doc_ids = qa.doc_ids()
    count = min(DOCUMENTS, len(doc_ids))
    chosen = [doc_ids[at * len(doc_ids) // count] for at in range(count)] or ["none"]
    found = [qa.search("the", top_k=1, mode="dense", where=[Condition("doc_id", "=", one)]) for one in chosen]
    return [retrieved[0].passage for retrieved in found if retrieved]


def _questions(passages: Sequence[Passage], folder: Path) -> list[str]:
    """Make questions of titles and first sentences.

    Raises:
        NoIndexError: there is nothing to make them of.
    """
    asked = []
    for passage in passages:
        sentence = _SENTENCE_END.split(passage.text.strip(), maxsplit=1)[0][:SENTENCE]
        asked += [text for text in (passage.title.strip(), sentence.strip()) if has_words(text)]
    if not asked:
        raise NoIndexError(f"the documents in {folder} hold no words to make questions of: index some that do")
    return list(dict.fromkeys(asked))


def _searching(qa: QuestionAnswering, mode: str) -> Callable[[str], object]:
    return lambda question: qa.search(question, mode=mode)


def _encode(qa: QuestionAnswering, passages: Sequence[Passage]) -> object:
    texts = [passage.text for passage in passages]
    return qa.encoder.encode_passages(texts, titles=[passage.title for passage in passages])


def _tokens(qa: QuestionAnswering, passages: Sequence[Passage]) -> int:
    """Count the tokens that the encoder sees of passages: title, text and two special tokens, cut to what fits."""
    tokenizer, total = qa.encoder.tokenizer, 0
    for passage in passages:
        title = len(tokenizer.encode(passage.title).ids[: settings.TITLE_TOKENS])
        total += min(title + len(tokenizer.encode(passage.text).ids) + 2, settings.PASSAGE_TOKENS)
    return total


# ---- the machine ---------------------------------------------------------------------------------------------------


def cold_start(folder: Path, question: str, *, reader: str | None) -> None:
    """Ask a question with `odqa query` in a process of its own, to its end.

    Raises:
        OdqaError: it failed; the message is its own.
    """
    words = [sys.executable, "-m", "odqa", "query", "--index-dir", str(folder), "--json"]
    words += ["--reader", reader] if reader else []
    done = subprocess.run(  # noqa: S603 - our own program
        [*words, "--", question], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OdqaError(f"`odqa query` failed in a process of its own: {said[-1] if said else done.returncode}")


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process has held, mapped files included; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts to `ru_maxrss` what the parent held before the program began
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024 if "VmHWM" in lines else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    """Return the processor's name, or its kind where the system does not tell more."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE) if info.exists() else []
    return str(names[0]) if names else platform.processor() or platform.machine()
