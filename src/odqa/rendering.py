"""What the command line shows: results as text or JSON, and progress. Nothing reaches a terminal but through `visible`."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from odqa.types import (
    Answer,
    CheckReport,
    IndexProgress,
    IndexReport,
    IndexStatus,
    Passage,
    Place,
    QueryResult,
    RetrievedPassage,
)

if TYPE_CHECKING:
    from rich.console import Console

NO_ANSWER = "No answer: the documents do not say."
WINDOW = 240  # code points of a passage shown on either side of an answer
EXCERPT = 320  # code points of a passage shown in a list
LISTED = 10  # items of a list shown on a terminal
PLACES = 3  # further places of an answer shown
PLAIN_SECONDS = 10.0  # least time between two lines of progress where there is no terminal

# C0, DEL, C1 (U+009B begins an escape sequence, as ESC [ does), line and paragraph separators, the overrides of the
# writing direction, with which a text can be made to look like another, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")
_ANSWER = "bold green"
_DIM = "dim"

Part = str | tuple[str, str]  # a text, or a text and its style


def visible(text: str) -> str:
    r"""Return `text` on one line, with every character that could steer a terminal written as an escape.

    Control characters, separators of lines and overrides of direction become `\x1b`, `\n`, `\u202e`; bytes of a file
    name that are not UTF-8 (lone surrogates, PEP 383) become `\xff`.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code > 0xFF:
        return f"\\u{code:04x}"
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")


def flat(text: str) -> str:
    """Return `text` with every run of blanks and line ends as one blank."""
    return _BLANKS.sub(" ", text)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def to_json(value: object) -> str:
    r"""Return a result as one line of JSON: keys are the names of the fields, null stands for None.

    What `visible` would escape is written as `\uXXXX`, so that the line can be shown on a terminal and read back whole.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: object) -> object:
    """Turn a result into dicts, lists and scalars. Passages inside answers stand without their text: see `passages`."""
    if isinstance(value, Answer):
        place = value.places[0]
        return _fields(value) | {"page": place.page, "heading": place.heading, "passage": _reference(value.passage)}
    if isinstance(value, Place):
        return _fields(value) | {"page": value.page, "heading": value.heading, "passage": _reference(value.passage)}
    if isinstance(value, CheckReport):
        return {"clean": value.clean} | _fields(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return str(value) if isinstance(value, Path) else value


def _fields(value: Any) -> dict[str, object]:  # noqa: ANN401 - any dataclass
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _reference(passage: Passage) -> dict[str, object]:
    names = ("passage_id", "doc_id", "title", "span", "source")
    return {name: _plain(getattr(passage, name)) for name in names}


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
    """Show the answer in its passage, or that there is none, and the other candidates in short."""
    rest = result.answers
    if result.answer is not None:
        rest = tuple(other for other in result.answers if other is not result.answer)
        screen.line((flat(result.answer.text), _ANSWER))
        _show_answer(result.answer, screen)
    else:
        screen.line((NO_ANSWER, "bold"))
        if not result.passages:
            screen.line("No passage was found to read; less strict conditions or another mode may find some.")
        elif rest:
            nearest, rest = rest[0], rest[1:]
            screen.line()
            screen.line("Nearest candidate, not probable enough: ", (flat(nearest.text), "bold"))
            _show_answer(nearest, screen)
    if rest:
        screen.line()
        screen.line("Other candidates" if result.answer is None else "Other answers")
        for other in rest:
            screen.line(f"{flat(other.text)}  ", (f"probability {other.probability:.2f}", _DIM), indent=2)
            screen.line((place_text(other.passage, other.span.start, other.span.end), _DIM), indent=4)


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
    if report.skipped:
        screen.line("Skipped:")
        screen.listed([f"{_file(skipped.source)}: {flat(skipped.reason)}" for skipped in report.skipped])


def show_status(status: IndexStatus, screen: Screen) -> None:
    """Show what an index holds."""
    snapshot = "none" if status.snapshot_generation is None else f"generation {status.snapshot_generation}"
    rows = {
        "Index": status.path,
        "Documents": f"{status.documents}",
        "Passages": f"{status.passages} (and {status.tombstones} deleted, not yet compacted)",
        "Encoder": f"{status.encoder}, revision {status.encoder_revision}",
        "Passage length": f"at most {status.passage_tokens} tokens",
        "Generation": f"{status.generation}",
        "Schema": f"{status.schema_version}",
        "SQLite": size_text(status.metadata_bytes),
        "Snapshot": f"{size_text(status.snapshot_bytes)}, {snapshot}",
    }
    for name, value in rows.items():
        screen.line((f"{name}:".ljust(16), "bold"), value)


def show_check(report: CheckReport, screen: Screen) -> None:
    """Show what is wrong with an index."""
    for problem in report.problems:
        state = "mended" if problem.mended else "not mended"
        screen.line((f"{problem.kind} ({state}): ", "bold"), flat(problem.detail))
    verdict = "clean" if report.clean else "damaged"
    screen.line(f"{verdict}: {report.documents} documents, {report.passages} passages, {len(report.problems)} problems")


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
    if not is_terminal(stream) or os.environ.get("TERM") == "dumb":
        last = began

        def lines(progress: IndexProgress) -> None:
            nonlocal last
            if clock() - last >= PLAIN_SECONDS:
                last = clock()
                stream.write(visible(f"odqa: {progress_text(progress, last - began)}") + "\n")
                stream.flush()

        yield lines
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"))
    text = TextColumn("{task.description}", markup=False)
    with Progress(
        *columns, text, console=_console(stream), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("reading", total=None)

        def bars(progress: IndexProgress) -> None:
            shown = visible(progress_text(progress, clock() - began))
            bar.update(task, description=shown, completed=progress.bytes_done, total=progress.bytes_total or None)

        yield bars


def progress_text(progress: IndexProgress, seconds: float) -> str:
    """Return how far a run is after `seconds`: documents, passages and their rate, time left by bytes, the file."""
    rate = progress.passages / seconds if seconds > 0 else 0.0
    parts = [f"{progress.documents} documents", f"{progress.passages} passages ({rate:.1f}/s)"]
    if 0 < progress.bytes_done <= progress.bytes_total:
        left = round(seconds * (progress.bytes_total - progress.bytes_done) / progress.bytes_done)
        hours, minutes = divmod(left // 60, 60)
        parts.append(f"{hours}:{minutes:02}:{left % 60:02} left")
    return ", ".join([*parts, Path(progress.current).name])
