"""The commands of `odqa models`; docs/cli.md describes them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from odqa import arguments, model_rendering, settings
from odqa.errors import MissingModelError, ModelError
from odqa.models import registry
from odqa.options import Json, checked, need_command
from odqa.outcome import Interrupted, note, print_json
from odqa.rendering import Screen, size_text

if TYPE_CHECKING:
    from typing import Literal

    from odqa.models.download import PullProgress
    from odqa.models.manage import Precision

INTERRUPTED_PULL = "interrupted; what has come stays. To go on from there, run the same command again"

models_app = typer.Typer(
    help="The models that odqa knows: list, fetch, verify, import and remove them.",
    rich_markup_mode=None,
    no_args_is_help=False,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", callback=checked(arguments.text), help="Name of a model, as in the list.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="|".join(settings.PRECISIONS),
        callback=checked(arguments.precision),
        help=f"Precision of a model that is converted; else {settings.DEFAULT_PRECISION}.",
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        callback=checked(arguments.path),
        help="For int8: text such as the model will see, UTF-8, one text a line.",
    ),
]


@models_app.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    """List the models that odqa knows, and fetch, verify, import and remove them."""
    need_command(context)


@models_app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the models: which are here, which are the defaults, and where their files lie."""
    for problem in registry.problems().values():
        note(str(problem))
    if as_json:
        print_json({"models": [model_rendering.model_fields(spec) for spec in registry.models()]})
    else:
        model_rendering.show_models(registry.models(), Screen(sys.stdout))


@models_app.command("show")
def show_command(name: Name, as_json: Json = False) -> None:
    """Show all that is known of a model: figures, cost, contract, licence, files and what they are held against."""
    from odqa.models import download

    spec = registry.find(name)
    published = next((one for one in registry.published() if one.name == spec.name), spec)
    recorded = download.recorded(published)
    if as_json:
        print_json(model_rendering.detailed_fields(spec, published=published, recorded=recorded))
    else:
        model_rendering.show_model(spec, Screen(sys.stdout), published=published, recorded=recorded)


@models_app.command("pull")
def pull_command(
    name: Name,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            callback=checked(arguments.base_url),
            help="Mirror to fetch from (http, https, file): URL/NAME/FILE; else where the model is published.",
        ),
    ] = None,
    precision: PrecisionOption = None,
    calibration: CalibrationOption = None,
    as_json: Json = False,
) -> None:
    """Fetch a model, verify it, and convert it where that is needed; a broken download goes on where it stopped."""
    from odqa.models import manage

    texts = None if calibration is None else arguments.read_texts(calibration)
    with _shown() as progress:
        done = manage.install(
            name,
            base_url=base_url,
            precision=cast("Precision | None", precision),
            calibration_texts=texts,
            progress=progress,
        )
    if as_json:
        print_json(done)
        return
    screen = Screen(sys.stdout)
    what = f"fetched {', '.join(done.fetched)}" if done.fetched else "nothing had to be fetched"
    screen.line((done.name, "bold"), f" is here: {what}")
    if done.trusted:
        screen.line("No checksum is published of them; what came was recorded, and later downloads are held against it")
    screen.line(f"Folder: {done.folder}")


@models_app.command("verify")
def verify_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", callback=checked(arguments.text), help="Name of a model; else all that are here."
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Load the model of this NAME, too, and give it questions with known answers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold the files of models against their sizes and checksums; exit code 1 when a model is damaged or missing."""
    if deep:
        _verify_deeply(name, as_json=as_json)
        return
    specs = registry.models() if name is None else (registry.find(name),)
    found = [_verified(spec) for spec in specs]
    if name is None:
        found += [(one, "damaged", str(problem)) for one, problem in registry.problems().items()]
    if as_json:
        print_json({"models": [dict(zip(("name", "state", "detail"), row, strict=True)) for row in found]})
    else:
        for one, state, detail in found:
            wanted = detail and (name is not None or state == "damaged")
            Screen(sys.stdout).line((one, "bold"), f": {state}", f": {detail}" if wanted else "")
    bad = {"damaged"} if name is None else {"damaged", "not pulled"}
    if any(state in bad for _, state, _ in found):
        raise typer.Exit(1)


def _verify_deeply(name: str | None, *, as_json: bool) -> None:
    if name is None:
        raise ValueError("--deep needs the NAME of a model")
    from odqa import model_checks  # only now: it loads OpenVINO

    check = model_checks.check_model(registry.find(name))
    if as_json:
        print_json(model_rendering.check_fields(check))
    else:
        model_rendering.show_check(check, Screen(sys.stdout))
    if not check.passed:
        raise typer.Exit(1)


def _verified(spec: registry.ModelSpec) -> tuple[str, str, str]:
    """Return name, state and detail of a model."""
    try:
        registry.verify(spec)
    except MissingModelError as error:
        return spec.name, "not pulled", str(error)
    except ModelError as error:
        return spec.name, "damaged", str(error)
    return spec.name, "whole", ""


@models_app.command("import")
def import_command(
    path: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            callback=checked(arguments.path),
            help="Hugging Face folder of a BERT model: config.json, vocabulary and weights.",
        ),
    ],
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", callback=checked(arguments.text), help="Name to find it by; needed."),
    ],
    precision: PrecisionOption = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="|".join(settings.TASKS),
            callback=checked(arguments.task),
            help="Reader or encoder; else what config.json says.",
        ),
    ] = None,
    calibration: CalibrationOption = None,
    as_json: Json = False,
) -> None:
    """Convert a model on this machine into one that odqa can use; the folder stays as it is."""
    from odqa.models import manage

    texts = None if calibration is None else arguments.read_texts(calibration)
    with _shown() as progress:
        spec = manage.import_folder(
            Path(path),
            name=name,
            precision=cast("Precision", precision or settings.DEFAULT_PRECISION),
            task=cast("Literal['read', 'encode'] | None", task),
            calibration_texts=texts,
            progress=progress,
        )
    if as_json:
        print_json(model_rendering.model_fields(spec))
    else:
        model_rendering.show_models([spec], Screen(sys.stdout))


@models_app.command("remove")
def remove_command(name: Name, as_json: Json = False) -> None:
    """Remove a pulled or imported model, and what was recorded when it was first fetched."""
    from odqa.models import manage

    removed = manage.remove(name)
    if as_json:
        print_json(removed)
    else:
        Screen(sys.stdout).line(f"removed {removed.name}, {size_text(removed.size_bytes)}: {removed.folder}")


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[PullProgress], None]]:
    """Give a callback that shows progress on stderr; Ctrl-C says how to go on."""
    try:
        with model_rendering.pull_progress(sys.stderr) as progress:
            yield progress
    except KeyboardInterrupt:
        raise Interrupted(INTERRUPTED_PULL) from None
