"""What the command line shows of models, to people and as JSON, and how a pull stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from odqa import settings
from odqa.models import registry
from odqa.rendering import Screen, live_progress, size_text

if TYPE_CHECKING:
    from odqa.model_checks import ModelCheck
    from odqa.models.download import PullProgress, Recorded

_DIM = "dim"
_TASKS = {registry.ENCODE: "encoder", registry.READ: "reader"}
_COMES = {"bundled": "in the package", "pull": "pulled", "local": "imported"}


def show_models(specs: Sequence[registry.ModelSpec], screen: Screen) -> None:
    """Show models, a few lines each."""
    for spec in specs:
        screen.line((spec.name, "bold"), f"  ({', '.join(_notes(spec))})")
        screen.line(spec.description, indent=2)
        screen.line((f"{spec.architecture}; {spec.licence}; {registry.folder(spec)}", _DIM), indent=2)


def _notes(spec: registry.ModelSpec) -> list[str]:
    notes = [_TASKS[spec.task]]
    notes += ["default"] if is_default(spec) else []
    notes += ["imported"] if spec.source == "local" else []
    notes += [] if spec.size is None else [size_text(spec.size)]
    return [*notes, _state(spec)]


def _state(spec: registry.ModelSpec) -> str:
    if registry.is_here(spec):
        return "here"
    return "not pulled" if spec.source == "pull" else "not complete"


def is_default(spec: registry.ModelSpec) -> bool:
    """Tell whether a model is taken where none is named."""
    return spec.name in (settings.DEFAULT_ENCODER, settings.DEFAULT_READER)


def model_fields(spec: registry.ModelSpec) -> dict[str, object]:
    """Return what `odqa models list --json` says of a model."""
    names = ("name", "task", "source", "revision", "description", "architecture", "licence", "published", "measured")
    numbers = ("passage_tokens", "window_tokens", "question_tokens", "width", "gops", "parameters_millions")
    return {name: getattr(spec, name) for name in names + numbers} | {
        "default": is_default(spec),
        "here": registry.is_here(spec),
        "folder": str(registry.folder(spec)),
        "size_bytes": spec.size,
        "files": [file.name for file in spec.files],
    }


# ---- one model -----------------------------------------------------------------------------------------------------


def detailed_fields(
    spec: registry.ModelSpec, *, published: registry.ModelSpec, recorded: Mapping[str, Recorded]
) -> dict[str, object]:
    """Return what `odqa models show --json` says of a model as it is here and as it is published."""
    names = ("other_names", "form", "lower_case", "inputs", "outputs", "trained_no_answer")
    sources = [
        {
            "name": file.name,
            "role": file.role,
            "url": file.url,
            "size_bytes": file.size,
            "checksum": file.checksum,
            "alternatives": file.alternatives,
        }
        for file in published.files
    ]
    converted = (
        []
        if published.files == spec.files
        else [
            {"name": file.name, "role": file.role, "size_bytes": file.size, "checksum": file.checksum}
            for file in spec.files
        ]
    )
    return (
        model_fields(spec)
        | {name: getattr(spec, name) for name in names}
        | {"sources": sources, "recorded": recorded, "converted": converted}
    )


def show_model(
    spec: registry.ModelSpec, screen: Screen, *, published: registry.ModelSpec, recorded: Mapping[str, Recorded]
) -> None:
    """Show all that is known of a model as it is here and as it is published."""
    screen.line((spec.name, "bold"), f"  ({', '.join(_notes(spec))})")
    screen.line(spec.description, indent=2)
    for name, value in _rows(spec):
        screen.line((f"{name}:".ljust(14), "bold"), value, indent=2)
    screen.line(("Files", "bold"), indent=2)
    for file in published.files:
        size = "size not published" if file.size is None else size_text(file.size)
        instead = f"; or {', '.join(file.alternatives)} in its place" if file.alternatives else ""
        screen.line(f"{file.name}  ({file.role}, {size}{instead})", indent=4)
        if file.url is not None:
            screen.line((file.url, _DIM), indent=6)
        for line in _trust(file, recorded):
            screen.line((line, _DIM), indent=6)
    if published.files != spec.files:
        screen.line(("Converted into", "bold"), indent=2)
        for file in spec.files:
            screen.line(f"{file.name}  ({file.role}, {size_text(file.size or 0)})", indent=4)
            screen.line((str(file.checksum), _DIM), indent=6)


def _trust(file: registry.ModelFile, recorded: Mapping[str, Recorded]) -> list[str]:
    """Say what a file is held against."""
    if file.checksum is not None:
        return [file.checksum]
    known = [(name, recorded[name]) for name in (file.name, *file.alternatives) if name in recorded]
    if not known:
        return ["no checksum is published: it is trusted at its first download, and later ones are held against that"]
    return [f"{name}: {one.checksum}, recorded at its first download on {one.date}" for name, one in known]


def _rows(spec: registry.ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield what is known of a model besides its files, a name and a text each."""
    cased = "lower-cased" if spec.lower_case else "as it is written: capitals count"
    abstains = "says so itself" if spec.trained_no_answer else "not trained to say so"
    cost = None if spec.gops is None else f"{spec.gops:g} GOps for 384 tokens"
    rows = {
        "Also named": ", ".join(spec.other_names),
        "Comes": _COMES[spec.source] + (", then converted" if spec.form != registry.IR else ""),
        "Revision": spec.revision,
        "Network": spec.architecture,
        "Parameters": None if spec.parameters_millions is None else f"{spec.parameters_millions:g} million",
        "Cost": cost,
        "Text": cased,
        "Lengths": lengths_text(spec),
        "Inputs": ", ".join(spec.inputs),
        "Outputs": ", ".join(spec.outputs),
        "No answer": abstains if spec.task == registry.READ else None,
        "Published": figures_text(spec.published),
        "Measured": figures_text(spec.measured),
        "Licence": spec.licence,
        "Folder": str(registry.folder(spec)),
    }
    yield from ((name, value) for name, value in rows.items() if value)


def lengths_text(spec: registry.ModelSpec) -> str:
    """Return the longest inputs of a model in tokens, and the length of its vectors."""
    if spec.task == registry.READ:
        return f"window {spec.window_tokens}, question {spec.question_tokens}"
    return f"passage {spec.passage_tokens}, question {spec.question_tokens}; vectors of {spec.width}"


def figures_text(figures: Mapping[str, float]) -> str:
    """Return figures with their names, such as "squad v1.1 dev f1 81.1 %"."""
    return "; ".join(_figure(name, value) for name, value in figures.items())


def _figure(name: str, value: float) -> str:
    if name.endswith("_percent"):
        return f"{name.removesuffix('_percent').replace('_', ' ')} {value:g} %"
    return f"{name.replace('_', ' ')} {value:g}"


# ---- known answers -------------------------------------------------------------------------------------------------


def check_fields(check: ModelCheck) -> dict[str, object]:
    """Return what `odqa models verify --deep --json` says of a model."""
    names = ("name", "task", "passed", "answers", "published", "measured", "command")
    return {name: getattr(check, name) for name in names}


def show_check(check: ModelCheck, screen: Screen) -> None:
    """Show what a model made of the questions with known answers, and how its figures can be measured."""
    right = sum(answer.right for answer in check.answers)
    verdict = "passed" if check.passed else "failed"
    screen.line((check.name, "bold"), f": {verdict}, {right} of {len(check.answers)} known answers are right")
    for answer in check.answers:
        wrong = "" if answer.right else f"  wrong; right is: {answer.expected}"
        screen.line(
            f"{answer.question}  ", (answer.found or "nothing", "" if answer.right else "bold"), wrong, indent=2
        )
    for name, figures in (("Published", check.published), ("Measured", check.measured)):
        if figures:
            screen.line((f"{name}: ", "bold"), figures_text(figures))
    screen.line(("To measure that: ", "bold"), check.command)


# ---- progress ------------------------------------------------------------------------------------------------------


@contextmanager
def pull_progress(
    stream: TextIO, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[PullProgress], None]]:
    """Give a callback that shows how a pull stands: a bar on a terminal, else a plain line now and then."""
    with live_progress(stream, clock, clock()) as (show, line):
        rate = _Rate(clock)

        def report(progress: PullProgress) -> None:
            if progress.note:
                rate.begin_anew()
                line(f"{progress.file}: {progress.note}")
            else:
                show(pull_text(progress, rate.of(progress)), progress.bytes_done, progress.bytes_total)

        yield report


class _Rate:
    """Bytes a second since the present file was begun, or was gone on with."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._file, self._began, self._first, self._last = clock, "", 0.0, 0, 0

    def begin_anew(self) -> None:
        self._file = ""

    def of(self, progress: PullProgress) -> float:
        if progress.file != self._file or progress.bytes_done < self._last:
            self._file, self._began, self._first = progress.file, self._clock(), progress.bytes_done
        self._last = progress.bytes_done
        seconds = self._clock() - self._began
        return (progress.bytes_done - self._first) / seconds if seconds > 0 else 0.0


def pull_text(progress: PullProgress, rate: float) -> str:
    """Return how a file stands at `rate` bytes a second: bytes, rate, time left, and its name."""
    done = size_text(progress.bytes_done)
    parts = [f"{done} of {size_text(progress.bytes_total)}" if progress.bytes_total else done]
    if rate > 0:
        parts.append(f"{size_text(round(rate))}/s")
        left = round((progress.bytes_total - progress.bytes_done) / rate)
        if 0 < left < 360_000:
            hours, minutes = divmod(left // 60, 60)
            parts.append(f"{hours}:{minutes:02}:{left % 60:02} left")
    return ", ".join([*parts, progress.file])
