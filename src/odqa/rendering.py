"""What the command line shows to people: results and progress. All that reaches a terminal passes `visible`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from odqa.printable import flat, visible
from odqa.types import (
    Answer,
    CheckReport,
    CompactReport,
    IndexProgress,
    IndexReport,
    IndexStatus,
    Passage,
    QueryResult,
    RetrievedPassage,
)

if TYPE_CHECKING:
    from rich.console import Console

    from odqa.evaluation import EvaluationReport

NO_ANSWER = "No answer: the documents do not say."
WINDOW = 240  # code points of a passage shown on either side of an answer
EXCERPT = 320  # code points of a passage shown in a list
LISTED = 10  # items of a list shown on a terminal
PLACES = 3  # further places of an answer shown
PLAIN_SECONDS = 10.0  # least time between two lines of progress where there is no terminal

_ANSWER = "bold green"
_DIM = "dim"

Part = str | tuple[str, str]  # a text, or a text and its style

# ---- text ----------------------------------------------------------------------------------------------------------


class Screen:
    """A stream to write results to: wrapped and coloured on a terminal, one line a line elsewhere.

    `NO_COLOR` and `TERM=dumb` are respected; where an answer cannot be highlighted it is put between `>>` and `<<`.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self.terminal = is_terminal(stream)
        self._console = _console(stream) if self.terminal else None
        self.marks = self._console is None or self._console.color_system is None

    def line(self, *parts: Part, indent: int = 0) -> None:
        """Write one line made of parts; every part goes through `visible`. Long lines are wrapped on a terminal."""
        pairs = [(visible(part), "") if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts]
        if self._console is None:
            self._stream.write(" " * indent + "".join(text for text, _ in pairs) + "\n")
            return
        from rich.padding import Padding
        from rich.text import Text

        self._console.print(Padding(Text.assemble(*pairs), (0, 0, 0, indent), expand=False), highlight=False)

    def listed(self, items: Sequence[str], *, indent: int = 2) -> None:
        """Write a list, shortened on a terminal."""
        shown = items[:LISTED] if self.terminal else items
        for item in shown:
            self.line(item, indent=indent)
        if len(shown) < len(items):
            self.line((f"… and {len(items) - len(shown)} more (--json lists all)", _DIM), indent=indent)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether `stream` is a terminal."""
    return stream is not None and stream.isatty()


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, force_terminal=True, markup=False, emoji=False, highlight=False)


def place_text(passage: Passage, start: int, end: int) -> str:
    """Return where a span stands: file, page or heading, code points, and the document where the file does not say."""
    parts = [_file(passage.source)]
    section = passage.section_at(start)
    if section and section.page is not None:
        parts.append(f"page {section.page}")
    if section and section.heading:
        parts.append(f'under "{flat(section.heading)}"')
    parts.append(f"characters [{start}, {end})")
    if not f"/{passage.source}".endswith(f"/{passage.doc_id}"):
        parts.append(f"document {passage.doc_id}")
    return ", ".join(parts)


def _file(source: str) -> str:
    """Return a path as a user would type it: relative when it lies below the working folder."""
    here = Path.cwd().as_posix().rstrip("/") + "/"
    return source.removeprefix(here)


def _passage_parts(answer: Answer, *, marks: bool) -> list[Part]:
    """Cut a window around an answer out of its passage, at blanks, and highlight the answer in it."""
    text, start = answer.passage.text, answer.span.start - answer.passage.span.start
    end = start + len(answer.span)
    first, last = max(0, start - WINDOW), min(len(text), end + WINDOW)
    before, after = flat(text[first:start]), flat(text[end:last])
    if first > 0:
        before = "… " + (before.partition(" ")[2] if " " in before.rstrip() else before)
    if last < len(text):
        after = (after.rpartition(" ")[0] if " " in after.lstrip() else after) + " …"
    shown = flat(text[start:end])
    return [before.lstrip(), f">>{shown}<<" if marks else (shown, _ANSWER), after.rstrip()]


def show_query(result: QueryResult, screen: Screen) -> None:
    """Show the answer in its passage and the others in short, or that there is none and the nearest candidate."""
    if result.answer is None:
        _show_no_answer(result, screen)
        return
    screen.line((flat(result.answer.text), _ANSWER))
    _show_answer(result.answer, screen)
    others = [other for other in result.answers if other is not result.answer]
    if others:
        screen.line()
        screen.line("Other answers")
    for other in others:
        screen.line(f"{flat(other.text)}  ", (f"probability {other.probability:.2f}", _DIM), indent=2)
        screen.line((place_text(other.passage, other.span.start, other.span.end), _DIM), indent=4)


def _show_no_answer(result: QueryResult, screen: Screen) -> None:
    screen.line((NO_ANSWER, "bold"))
    if not result.passages:
        screen.line("No passage was found to read; less strict conditions or another mode may find some.")
    elif result.answers:
        screen.line("Nearest candidate, not probable enough: ", (flat(result.answers[0].text), "bold"))
        _show_answer(result.answers[0], screen)


def _show_answer(answer: Answer, screen: Screen) -> None:
    where = place_text(answer.passage, answer.span.start, answer.span.end)
    screen.line((f"{where}, probability {answer.probability:.2f}", _DIM), indent=2)
    screen.line()
    screen.line(*_passage_parts(answer, marks=screen.marks), indent=2)
    further = answer.places[1:]
    if further:
        screen.line()
        screen.line("Also found at", indent=2)
        for place in further[:PLACES]:
            screen.line((place_text(place.passage, place.span.start, place.span.end), _DIM), indent=4)
        if len(further) > PLACES:
            screen.line((f"… and {len(further) - PLACES} more places (--json lists all)", _DIM), indent=4)


def show_search(passages: Sequence[RetrievedPassage], screen: Screen) -> None:
    """Show passages in short, best first."""
    if not passages:
        screen.line("No passage was found.")
    for found in passages:
        passage = found.passage
        place = place_text(passage, passage.span.start, passage.span.end)
        screen.line((f"{found.rank}. {flat(passage.title)}", "bold"), f"  score {found.score:.4f}")
        screen.line((place, _DIM), indent=3)
        text = flat(passage.text).strip()
        shortened = text if len(text) <= EXCERPT else text[:EXCERPT].rpartition(" ")[0] + " …"
        screen.line(shortened, indent=3)


def show_report(report: IndexReport, screen: Screen, *, index_dir: Path) -> None:
    """Show what an indexing run did."""
    counts = (
        f"{len(report.added)} added",
        f"{len(report.updated)} updated",
        f"{report.unchanged} unchanged",
        f"{len(report.vanished)} vanished",
        f"{len(report.pruned)} pruned",
        f"{len(report.skipped)} skipped",
    )
    rate = report.passages / report.seconds if report.seconds > 0 else 0.0
    screen.line("Documents: " + ", ".join(counts))
    screen.line(f"Passages: {report.passages} in {report.seconds:.1f} s ({rate:.1f} passages/s)")
    screen.line(f"Index: {index_dir}")
    if report.vanished:
        screen.line("Vanished; still in the index, --prune removes them:")
        screen.listed(report.vanished)
    if report.pruned:
        screen.line("Pruned:")
        screen.listed(report.pruned)
    if report.partial:
        screen.line("Read in part:")
        screen.listed([f"{_file(partial.source)}: {flat(partial.reason)}" for partial in report.partial])
    if report.skipped:
        screen.line("Skipped:")
        screen.listed([f"{_file(skipped.source)}: {flat(skipped.reason)}" for skipped in report.skipped])


def show_status(status: IndexStatus, screen: Screen) -> None:
    """Show what an index holds."""
    snapshot = "none"
    if status.snapshot_generation is not None:
        size = size_text(status.snapshot_bytes)
        snapshot = f"{size}, {status.snapshot_type}, generation {status.snapshot_generation}"
    rows = {
        "Index": status.path,
        "Documents": f"{status.documents}",
        "Passages": f"{status.passages}"
        + (f" and {status.tombstones} deleted, not yet compacted" if status.tombstones else ""),
        "Encoder": f"{status.encoder}, revision {status.encoder_revision}",
        "Passage length": f"at most {status.passage_tokens} tokens",
        "Generation": f"{status.generation}",
        "Schema": f"{status.schema_version}",
        "SQLite": size_text(status.metadata_bytes),
        "Snapshot": snapshot,
        "Vector index": status.vector_index,
    }
    for name, value in rows.items():
        screen.line((f"{name}:".ljust(16), "bold"), value)


def show_check(report: CheckReport, screen: Screen) -> None:
    """Show what is wrong with an index, and what a repair had to take out of it."""
    for problem in report.problems:
        state = "mended" if problem.mended else "not mended"
        screen.line((f"{problem.kind} ({state}): ", "bold"), flat(problem.detail))
    for notice in report.notices:
        screen.line(notice)
    if report.lost:
        screen.line("Emptied, because their contents were damaged; `odqa index` reads their files again:")
        screen.listed(report.lost)
    verdict = "clean" if report.clean else "damaged"
    screen.line(f"{verdict}: {report.documents} documents, {report.passages} passages, {len(report.problems)} problems")


def show_compact(report: CompactReport, screen: Screen) -> None:
    """Show what a compaction gave back."""
    sizes = f"{size_text(report.bytes_before)} before, {size_text(report.bytes_after)} now"
    screen.line(f"{report.path}: {sizes}; {report.tombstones} deleted passages dropped")
    for notice in report.notices:
        screen.line(notice)


def show_evaluation(report: EvaluationReport, screen: Screen) -> None:
    """Show the figures of a measurement, a line each."""
    stages = {
        "retrieval": report.retrieval,
        "reading": report.reading,
        "end to end": report.end_to_end,
        "abstention": report.abstention,
    }
    for stage, figures in stages.items():
        for name, value in figures.items():
            screen.line(f"{stage:<11} {name:<18} {value:.4f}")
    screen.line(f"{report.questions} questions in {report.seconds:.1f} s")


def size_text(size: int) -> str:
    """Return a number of bytes with a unit."""
    return f"{size} bytes" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


# ---- progress ------------------------------------------------------------------------------------------------------


@contextmanager
def index_progress(
    stream: TextIO, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[IndexProgress], None]]:
    """Give a callback that shows how an indexing run stands: a bar on a terminal, else a plain line now and then."""
    began = clock()
    with live_progress(stream, clock, began) as (show, _):

        def report(progress: IndexProgress) -> None:
            text = progress_text(progress, clock() - began)
            show(text, progress.bytes_done, progress.bytes_total)

        yield report


@contextmanager
def stage_progress(
    stream: TextIO, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (stage, done, all) that shows how a measurement stands, as `index_progress` does."""
    with live_progress(stream, clock, clock()) as (show, _):
        yield lambda stage, done, total: show(f"{stage}: {done} of {total}", done, total)


@contextmanager
def live_progress(
    stream: TextIO, clock: Callable[[], float], began: float
) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """Give a callback (text, done, total), and one for a line that stays.

    The first shows a bar on a terminal, else a plain line every `PLAIN_SECONDS`.
    """
    if not is_terminal(stream) or os.environ.get("TERM") == "dumb":
        last = began

        def lines(text: str, _done: int, _total: int) -> None:
            nonlocal last
            if clock() - last >= PLAIN_SECONDS:
                last = clock()
                line(text)

        def line(text: str) -> None:
            stream.write(visible(f"odqa: {text}") + "\n")
            stream.flush()

        yield lines, line
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"))
    description = TextColumn("{task.description}", markup=False)
    with Progress(
        *columns, description, console=_console(stream), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("reading", total=None)
        yield (
            lambda text, done, total: bar.update(task, description=visible(text), completed=done, total=total or None),
            lambda text: bar.console.print(visible(f"odqa: {text}"), markup=False, highlight=False),
        )


def progress_text(progress: IndexProgress, seconds: float) -> str:
    """Return how far a run is after `seconds`: documents, passages and their rate, time left by bytes, the file."""
    rate = progress.passages / seconds if seconds > 0 else 0.0
    parts = [f"{progress.documents} documents", f"{progress.passages} passages ({rate:.1f}/s)"]
    if 0 < progress.bytes_done <= progress.bytes_total:
        left = round(seconds * (progress.bytes_total - progress.bytes_done) / progress.bytes_done)
        hours, minutes = divmod(left // 60, 60)
        parts.append(f"{hours}:{minutes:02}:{left % 60:02} left")
    return ", ".join([*parts, Path(progress.current).name])
