"""What every benchmark shares: things timed in turn, figures with their spread, results with machine and command."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from figures import Measured, Spread, table

RESULTS = Path(__file__).parent / "results"
WORK = Path(__file__).parents[1] / "build" / "benchmarks"  # what may be kept between runs; not in git
LIBRARIES = ("odqa", "openvino", "faiss-cpu", "tokenizers", "numpy", "SQLAlchemy")
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")

Item = TypeVar("Item")
Value = TypeVar("Value")

# ---- measuring -----------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of a hundred values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or `percent` is not above 0 and at most 100.
    """
    if not values or not 0.0 < percent <= 100.0:
        raise ValueError(f"no {percent}th percentile of {len(values)} values")
    return sorted(values)[math.ceil(len(values) * percent / 100.0) - 1]


def timed(way: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that one call takes."""
    began = clock()
    way()
    return clock() - began


def in_turn(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several ways of doing one thing in turn, A B C A B C …, so that what a machine does meanwhile meets all.

    Args:
        ways: name -> what is timed.
        rounds: rounds that count, at least 1.
        warm: rounds before them that do not.
        clock: gives seconds.

    Returns:
        name -> seconds of each round.
    """
    over = in_turn_over({name: _ignoring(way) for name, way in ways.items()}, [None], rounds, warm=warm, clock=clock)
    return {name: [of_round[0] for of_round in rows] for name, rows in over.items()}


def _ignoring(way: Callable[[], object]) -> Callable[[None], object]:
    return lambda _: way()


def in_turn_over(
    ways: Mapping[str, Callable[[Item], object]],
    items: Sequence[Item],
    rounds: int,
    *,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[list[float]]]:
    """Time several ways on each of several items, in turn at each item; a warm-up takes the first item alone.

    Returns:
        name -> round -> seconds of each item.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(warm):
        for way in ways.values():
            way(items[0])
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for rows in found.values():
            rows.append([])
        for item in items:
            for name, way in ways.items():
                began = clock()
                way(item)
                found[name][-1].append(clock() - began)
    return found


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the quotients, round by round."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


def times_as_fast(ours: Sequence[float], other: Sequence[float]) -> Spread:
    """Return how many times as fast as `other` we are, both given as seconds of the same rounds."""
    return ratio(other, ours)


def percentiles(rounds: Sequence[Sequence[float]], percent: float) -> list[float]:
    """Return a percentile of each round."""
    return [percentile(of_round, percent) for of_round in rounds]


# Linux counts what the parent held when the program began to the program's peak, so a small parent is put between.
_PEAK = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_of(command: Sequence[str]) -> int:
    """Run a command and return the most memory in bytes that it held, mapped files included; its output goes nowhere.

    Raises:
        subprocess.CalledProcessError: it failed; what it wrote to stderr is shown.
    """
    done = subprocess.run([sys.executable, "-c", _PEAK, *command], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def say(text: str) -> None:
    """Tell on stderr how a benchmark stands."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


# ---- machine and command ------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, what it has for int8, cores that may be used, memory, system."""
    name, flags = platform.processor(), ""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        name, flags = fields.get("model name", name), fields.get("flags", fields.get("Features", ""))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "processor": name or platform.machine(),
        "has": [flag for flag in FLAGS if flag in flags.split()],
        "cores": usable,
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, SQLite and the libraries, `more` included where they are installed."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in (*LIBRARIES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def shown_command(words: Sequence[str]) -> str:
    """Return a command line as it may be published: of paths only the last part stands."""
    shown = [Path(word).name if "/" in word or "\\" in word else word for word in words[1:]]
    return " ".join(["python", f"benchmarks/{Path(words[0]).name}", *shown])


def load() -> float | None:
    """Return how many processes wanted to run in the last minute: what else the machine had to do."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def write_result(path: Path, name: str, measured: Measured, about: Mapping[str, Any]) -> None:
    """Write a result as JSON: what was run where and when, and what came out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, **about, **asdict(measured)}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- running -------------------------------------------------------------------------------------------------------


def parser_of(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all benchmarks take, so that one command line fits all of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, help="SQuAD file (.json or .json.gz); else the sample corpus")
    parser.add_argument("--wiki", type=Path, help="JSON lines of title and text (may be gzipped), or a folder of them")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which things are timed in turn")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; writes no result")
    parser.add_argument("--work", type=Path, help=f"folder for what may be kept between runs; else {WORK}")
    parser.add_argument("--result", type=Path, help="where the result goes; else benchmarks/results/NAME.json")
    return parser


def run(
    file: str,
    description: str,
    measure: Callable[[argparse.Namespace, Path], Measured],
    *,
    add: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    libraries: Sequence[str] = (),
) -> None:
    """Parse the command line, measure, show the figures on stdout and write the result.

    Args:
        file: `__file__` of the benchmark, whose name is the result's.
        description: its docstring.
        measure: takes the options and a folder to work in.
        add: adds arguments of its own.
        libraries: packages besides the usual ones whose versions matter.
    """
    parser = parser_of(description)
    add(parser)
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 2)
    name = Path(file).stem
    say(f"{name}: {description.strip().splitlines()[0]}")
    before = load()
    with work_folder(options) as work:
        measured = measure(options, work)
    about = {
        "command": shown_command(sys.argv),
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": {**machine(), "load_before": before, "load_after": load()},
        "versions": versions(*libraries),
    }
    if options.quick:
        print("a quick run on tiny sizes: its figures mean nothing")
    print(table(measured))
    if options.result or not options.quick:
        write_result(options.result or RESULTS / f"{name}.json", name, measured, about)


@contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """Give a folder to work in: a passing one for a quick run, else one that is kept, for what takes long to make."""
    if options.work or not options.quick:
        folder = options.work or WORK
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="odqa-bench-") as passing:
        yield Path(passing)


@contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder below `parent` that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=parent) as passing:
        yield Path(passing)


def kept(path: Path, make: Callable[[Path], Value]) -> Path:
    """Return `path`, made by `make` if it is not there: under another name first, so that half of it is never kept."""
    if not path.exists():
        with fresh_folder(path.parent) as passing:
            make(passing / path.name)
            (passing / path.name).rename(path)
    return path
