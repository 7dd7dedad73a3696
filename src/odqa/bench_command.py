"""The command `odqa bench`; docs/cli.md describes it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from odqa import arguments, settings
from odqa.options import IndexDir, Json, ReaderOption, checked
from odqa.outcome import note, print_json
from odqa.rendering import Screen, size_text, stage_progress

if TYPE_CHECKING:
    from odqa.bench import BenchReport, Times

Seconds = Annotated[
    float,
    typer.Option(
        "--seconds", metavar="SECONDS", callback=checked(arguments.seconds), help="How long to measure, about."
    ),
]


def bench_command(
    index_dir: IndexDir = None,
    seconds: Seconds = settings.BENCH_SECONDS,
    reader: ReaderOption = None,
    as_json: Json = False,
) -> None:
    """Measure how fast this index is on this machine."""
    from odqa import bench  # only now: --help must not load the models' runtime

    with stage_progress(sys.stderr) as progress:
        report = bench.measure(settings.index_dir(index_dir), seconds=seconds, reader=reader, progress=progress)
    if as_json:
        print_json(report)
    else:
        show_bench(report, Screen(sys.stdout))
    for notice in report.notices:
        note(notice)


def show_bench(report: BenchReport, screen: Screen) -> None:
    """Show what was measured, a line each."""
    index = report.index
    size = size_text(index.metadata_bytes + index.snapshot_bytes)
    memory = "not told by this system" if report.peak_memory_bytes is None else size_text(report.peak_memory_bytes)
    rows = {
        "Index": f"{index.path}: {index.documents} documents, {index.passages} passages, {size}",
        "Machine": f"{report.cores} core{'' if report.cores == 1 else 's'} of {report.processor}",
        "Versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "Encoder": f"{report.encoder_tokens_per_second:,.0f} tokens/s, "
        f"{report.encoder_passages_per_second:.1f} passages/s of this index",
        **{f"Search, {mode}": _times(times) for mode, times in report.search.items()},
        "Read": _times(report.read),
        "Query": _times(report.query),
        "Cold `odqa query`": _times(report.cold_start),
        "Peak memory": memory,
    }
    for name, value in rows.items():
        screen.line((f"{name}:".ljust(20), "bold"), value)


def _times(times: Times) -> str:
    return f"p50 {_milliseconds(times.p50_seconds)}, p95 {_milliseconds(times.p95_seconds)} ({times.runs} runs)"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
