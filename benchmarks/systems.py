"""What does each published system cost, on networks of its exact shape?

    python benchmarks/systems.py            all of them, some 20 minutes and 6 GB of memory
    python benchmarks/systems.py --quick    narrow stand-ins, to see that it works

The weights are drawn by chance (tests/models/systems): what they are does not change the speed. Each system is written
in the form of its own files, taken by odqa under its own name, and measured in a process of its own. Hugging Face
systems are converted in the precision that `odqa models pull` takes by default.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SYSTEMS_OF_TESTS = Path(__file__).parents[1] / "tests" / "models" / "systems"
sys.path.insert(0, str(SYSTEMS_OF_TESTS))  # the networks of full size are those that the tests compare with PyTorch

from published_systems import SYSTEMS, Made, System, described, small, write, write_registry  # noqa: E402

from common import fresh_folder, run, say, timed  # noqa: E402 - behind the path
from figures import Measured, figure  # noqa: E402
from odqa import settings  # noqa: E402
from odqa.models import manage, registry  # noqa: E402

FIGURES = {  # what is measured, with its unit
    "context_ms": "ms",
    "question_ms": "ms",
    "passages_per_second": "passages/s",
    "load_seconds": "s",
    "peak_memory_bytes": "bytes",
}
WORDS = {
    "context_ms": "a context of 384 tokens",
    "question_ms": "a question of 32 tokens",
    "passages_per_second": "passages of 384 tokens, many at a time",
    "load_seconds": "loading, checksums included",
    "peak_memory_bytes": "peak memory of a process that does this",
}


@dataclass(frozen=True)
class Case:
    """A row of the table: `system` None is a model of the package."""

    number: str
    name: str
    system: System | None = None


def cases() -> list[Case]:
    """Return the models of the package, the published systems, and the dense network that system 4 was cut from."""
    found = [Case("", settings.DEFAULT_ENCODER), Case("", settings.DEFAULT_READER)]
    for system in SYSTEMS:
        found.append(Case(system.number, system.name, system))
        if system.architecture.pruned_heads:
            dense = replace(system.architecture, pruned_heads={}, density=1.0)
            found.append(Case(f"{system.number}, dense", system.name, replace(system, architecture=dense)))
    return found


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Measure every case in a process of its own."""
    measured = Measured(settings={"rounds": options.rounds, "passages": options.passages, "quick": options.quick})
    rows: list[dict[str, Any]] = []
    for case in cases():
        if options.only and case.number not in options.only:
            continue
        label = f"{case.number} {case.name}".strip()
        say(label)
        with fresh_folder(work) as folder, prepared(case, folder, quick=options.quick) as size:
            command = [sys.executable, __file__, "--one", case.name, "--models", str(folder)]
            command += ["--rounds", str(options.rounds), "--passages", str(options.passages)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")
        row = json.loads(done.stdout)
        rows.append({"number": case.number, "name": case.name, "size_bytes": size, **row})
        measured.figures += [
            figure(f"{label}: {WORDS[key]}", row[key], FIGURES[key]) for key in FIGURES if row.get(key)
        ]
    measured.curves["systems"] = rows
    return measured


@contextmanager
def prepared(case: Case, folder: Path, *, quick: bool) -> Iterator[int]:
    """Write a case's files into a models folder with a list of models of its own; give the files' size in bytes."""
    made: list[Made] = []
    if case.system is not None:
        system = small(case.system) if quick else case.system
        made.append(write(system, folder / "mirror" if system.shape is None else folder))
        made[0].weights.clear()
        gc.collect()
    write_registry(folder / "registry.json", [described(one) for one in made if one.system.shape is not None])
    for one in made:
        if one.system.shape is None:
            environment = {**os.environ, "ODQA_MODELS_DIR": str(folder)}
            manage.install(case.name, base_url=(folder / "mirror").as_uri(), environment=environment)
            shutil.rmtree(folder / "mirror")
    with models_of(folder):
        yield sum(file.size or 0 for file in registry.find(case.name).files)


@contextmanager
def models_of(folder: Path) -> Iterator[None]:
    """Let odqa take its models and their list from a folder."""
    before = registry.REGISTRY, os.environ.get("ODQA_MODELS_DIR")
    registry.REGISTRY, os.environ["ODQA_MODELS_DIR"] = folder / "registry.json", str(folder)
    registry.published.cache_clear()
    try:
        yield
    finally:
        registry.REGISTRY = before[0]
        os.environ.pop("ODQA_MODELS_DIR")
        if before[1] is not None:
            os.environ["ODQA_MODELS_DIR"] = before[1]
        registry.published.cache_clear()


# ---- one model, in a process of its own ----------------------------------------------------------------------------


def measure_one(name: str, folder: Path, *, rounds: int, passages: int) -> dict[str, float | None]:
    """Load a model and time it; everything is run once before it counts."""
    from odqa.reader.extractive import ExtractiveReader
    from odqa.retriever.encoder import DenseEncoder

    with models_of(folder):
        spec = registry.find(name)
        make: Callable[..., Any] = DenseEncoder if spec.task == registry.ENCODE else ExtractiveReader
        loaded: list[Any] = []
        seconds = timed(lambda: loaded.append(make(spec)))
    tokenizer = loaded[0]._tokenizer
    asked = "who " * 40
    texts = [
        " ".join(itertools.islice(itertools.cycle(WORD_LIST[at:] + WORD_LIST[:at]), 400)) for at in range(passages)
    ]
    assert min(len(tokenizer.encode(text).ids) for text in texts) >= 384
    if spec.task == registry.ENCODE:
        ways = {
            "context_ms": lambda: loaded[0].encode_passages(texts[:1], titles=[""]),
            "question_ms": lambda: loaded[0].encode_questions([asked]),
            "many": lambda: loaded[0].encode_passages(texts, titles=[""] * passages),
        }
    else:
        cut = [text[: tokenizer.encode(text).offsets[384 - 3 - 10 - 1][1]] for text in texts]  # one full window each
        question = "who " * 10
        ways = {
            "context_ms": lambda: loaded[0].read(question, cut[:1], n_best=5),
            "many": lambda: loaded[0].read(question, cut, n_best=5),
        }
    found = {}
    for key, way in ways.items():
        way()
        found[key] = statistics.median(timed(way) for _ in range(rounds))
    return {
        "context_ms": 1e3 * found["context_ms"],
        "question_ms": 1e3 * found["question_ms"] if "question_ms" in found else None,
        "passages_per_second": passages / found["many"],
        "load_seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, mapped files included.

    Linux counts what the parent held before the program began to `ru_maxrss`, so that is only taken elsewhere.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


WORD_LIST = """
    the keeper of lighthouse harbour walked along stone wall and looked at sea while small boats came home with their
    nets full of fish a bell rang in town on hill where people had lit lamps for winter festival nobody knew who built
    first tower or when it was but old men said that its light could be seen from every island to north
""".split()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--only", action="append", metavar="NUMBER", help="this system only (1, 2, 2a, …); repeatable")
    parser.add_argument("--passages", type=int, default=32, help="passages that are read or encoded together")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)


def main() -> None:
    """Measure one model where a run asks for it, else run all."""
    if "--one" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--rounds", type=int)
        arguments(parser)
        options = parser.parse_args()
        found = measure_one(options.one, options.models, rounds=options.rounds, passages=options.passages)
        sys.stdout.write(json.dumps(found))
        return
    run(__file__, __doc__, measure, add=arguments)


if __name__ == "__main__":
    main()
