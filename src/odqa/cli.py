"""The command line: each command opens, makes one call and shows the result. docs/cli.md describes it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from odqa import arguments, rendering, settings
from odqa.bench_command import bench_command
from odqa.errors import IngestError
from odqa.model_commands import models_app
from odqa.options import (
    DatasetArgument,
    EncoderOption,
    IndexDir,
    Json,
    Mode,
    NBest,
    ProfileOption,
    QuestionsOption,
    ReadAllOption,
    ReaderOption,
    StagesOption,
    ThresholdOption,
    TopK,
    VectorIndexOption,
    Wait,
    WhereOption,
    checked,
    need_command,
)
from odqa.outcome import Interrupted, failed, note, prepare, print_json, settle
from odqa.rendering import Screen

if TYPE_CHECKING:
    from odqa.pipeline import QuestionAnswering

Result = TypeVar("Result")

INTERRUPTED_INDEX = (
    "interrupted; what was committed stays in the index. To go on, run the same command again: "
    "what is done already is not done twice"
)
# typer's errors of usage have no public name besides their subclass; its base is the same class in every version.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


app = typer.Typer(
    name="odqa",
    help="Answer questions from a folder of documents, offline.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=False,
)
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"odqa {metadata.version('odqa')}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Answer questions from a folder of documents, offline."""
    need_command(context)


# ---- commands ------------------------------------------------------------------------------------------------------


@app.command("index")
def index_command(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", callback=checked(arguments.path), help="Files and folders.")
    ],
    index_dir: IndexDir = None,
    encoder: EncoderOption = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove documents whose file is gone.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that would be skipped.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow symbolic links out of the given folders, too.")
    ] = False,
    vector_index: VectorIndexOption = None,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Put files and folders into the index; what has not changed is left alone."""
    missing = arguments.existing(paths)
    if missing is not None:  # said before a folder for a new index is made
        raise IngestError(f"{missing}: does not exist; give an existing file or folder")
    folder = settings.index_dir(index_dir)
    try:
        with (
            _opened(folder, encoder=encoder, create=True, wait_seconds=wait) as qa,
            rendering.index_progress(sys.stderr) as progress,
        ):
            report = qa.index(
                paths,
                prune=prune,
                strict=strict,
                follow_links=follow_links,
                vector_index=vector_index,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Interrupted(INTERRUPTED_INDEX) from None
    _show(report, lambda report, screen: rendering.show_report(report, screen, index_dir=folder), as_json=as_json)


@app.command("query")
def query_command(
    question: Annotated[
        str | None,
        typer.Argument(metavar="QUESTION", callback=checked(arguments.question), help="The question, in quotes."),
    ] = None,
    questions: QuestionsOption = None,
    top_k: TopK = settings.TOP_K,
    n_best: NBest = settings.N_BEST,
    mode: Mode = settings.DEFAULT_MODE,
    where: WhereOption = None,
    threshold: ThresholdOption = None,
    profile: ProfileOption = settings.DEFAULT_PROFILE,
    reader: ReaderOption = None,
    read_all: ReadAllOption = False,
    index_dir: IndexDir = None,
    as_json: Json = False,
) -> None:
    """Answer a question, or each question of a file as one line of JSON."""
    if (question is None) == (questions is None):
        raise ValueError("give either a QUESTION or --questions FILE")
    asked = [question] if question is not None else _questions(questions or "-")
    with _opened(settings.index_dir(index_dir), reader=reader) as qa:
        for result in qa.query_many(
            asked,
            top_k=top_k,
            n_best=n_best,
            mode=mode,
            where=where or (),
            threshold=threshold,
            profile=profile,
            read_all=read_all,
        ):
            _show(result, rendering.show_query, as_json=as_json or question is None)


@app.command("search")
def search_command(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", callback=checked(arguments.question), help="The question, in quotes.")
    ],
    top_k: TopK = settings.TOP_K,
    mode: Mode = settings.DEFAULT_MODE,
    where: WhereOption = None,
    index_dir: IndexDir = None,
    as_json: Json = False,
) -> None:
    """Find the passages for a question, without reading answers out of them."""
    with _opened(settings.index_dir(index_dir)) as qa:
        passages = qa.search(question, top_k=top_k, mode=mode, where=where or ())
    if as_json:
        print_json({"question": question, "passages": passages})
    else:
        rendering.show_search(passages, Screen(sys.stdout))


@app.command("delete")
def delete_command(
    doc_ids: Annotated[
        list[str], typer.Argument(metavar="DOC_ID", callback=checked(arguments.text), help="Ids of documents.")
    ],
    index_dir: IndexDir = None,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Remove documents from the index; exit code 1 when none of them was there."""
    with _opened(settings.index_dir(index_dir), writable=True, wait_seconds=wait) as qa:
        deleted = qa.delete(doc_ids)
    unknown = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id not in set(deleted)]
    if as_json:
        print_json({"deleted": deleted, "unknown": unknown})
    else:
        for doc_id in deleted:
            Screen(sys.stdout).line(f"deleted {doc_id}")
    for doc_id in unknown:
        note(f"no document {doc_id} in the index")
    if not deleted:
        raise typer.Exit(1)


@app.command("status")
def status_command(index_dir: IndexDir = None, as_json: Json = False) -> None:
    """Show what the index holds and what made it."""
    with _opened(settings.index_dir(index_dir)) as qa:
        status = qa.status()
    _show(status, rendering.show_status, as_json=as_json)


@app.command("check")
def check_command(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    index_dir: IndexDir = None,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Look the index through for damage; exit code 1 when damage is left."""
    from odqa import pipeline

    report = pipeline.check(settings.index_dir(index_dir), repair=repair, wait_seconds=wait)
    _show(report, rendering.show_check, as_json=as_json)
    if not report.clean:
        raise typer.Exit(1)


@app.command("compact")
def compact_command(
    index_dir: IndexDir = None, vector_index: VectorIndexOption = None, wait: Wait = 0.0, as_json: Json = False
) -> None:
    """Give back the disk space of deleted and replaced documents; others may go on asking meanwhile."""
    from odqa import pipeline

    report = pipeline.compact(settings.index_dir(index_dir), vector_index=vector_index, wait_seconds=wait)
    _show(report, rendering.show_compact, as_json=as_json)


@app.command("evaluate")
def evaluate_command(
    dataset: DatasetArgument,
    index_dir: Annotated[
        str | None,
        typer.Option(
            "--index-dir",
            metavar="FOLDER",
            callback=checked(arguments.path),
            help="Index to ask; without it a SQuAD-format file is asked over its own paragraphs.",
        ),
    ] = None,
    mode: Mode = settings.DEFAULT_MODE,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="NUMBER", min=1, help="Take so many questions at random.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Seed of that choice.")] = 0,
    titles: Annotated[
        bool, typer.Option("--titles", help="Give the paragraphs of a SQuAD-format file their article's title.")
    ] = False,
    stages: StagesOption = None,
    profile: ProfileOption = settings.DEFAULT_PROFILE,
    encoder: EncoderOption = None,
    reader: ReaderOption = None,
    as_json: Json = False,
) -> None:
    """Measure retrieval, reading and the whole path on questions with known answers."""
    from odqa import evaluation

    with rendering.stage_progress(sys.stderr) as progress:
        report = evaluation.evaluate(
            Path(dataset),
            index_dir=Path(index_dir) if index_dir is not None else None,
            mode=mode,
            limit=limit,
            seed=seed,
            with_titles=titles,
            encoder=encoder,
            reader=reader,
            stages=stages or settings.DEFAULT_STAGES,
            profile=profile,
            progress=progress,
        )
    _show(report, rendering.show_evaluation, as_json=as_json)


app.command("bench")(bench_command)


# ---- around the commands -------------------------------------------------------------------------------------------

# What was opened last stays until something else is: freeing two networks takes a twentieth of a second, and the
# process ends without (`odqa.__main__`).
_held: list[QuestionAnswering] = []


@contextlib.contextmanager
def _opened(
    folder: Path,
    *,
    encoder: str | None = None,
    reader: str | None = None,
    writable: bool = False,
    create: bool = False,
    wait_seconds: float = 0.0,
) -> Iterator[QuestionAnswering]:
    """Open an index; its notices go to stderr when the command is through with it."""
    from odqa import pipeline  # only now: --help must not load the models' runtime

    with pipeline.open(
        folder, encoder=encoder, reader=reader, writable=writable, create=create, wait_seconds=wait_seconds
    ) as qa:
        _held[:] = [qa]
        try:
            yield qa
        finally:
            for notice in qa.notices:
                note(notice)


def _questions(name: str) -> list[str]:
    questions, blank = arguments.read_questions(name)
    if blank:
        note(f"{blank} blank line{'s' if blank > 1 else ''} of the questions ignored")
    return questions


def _show(result: Result, show: Callable[[Result, Screen], None], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        show(result, Screen(sys.stdout))


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, `sys.argv` without its name by default, and return the exit code.

    Never raises: what goes wrong is one line on stderr, and the traceback stands above it if `ODQA_DEBUG` is set.
    """
    prepare()
    try:
        return _run(sys.argv[1:] if words is None else list(words))
    except BrokenPipeError:  # the reader of our output has seen enough
        return 0
    finally:
        settle()


def _run(words: list[str]) -> int:
    try:
        code = _invoke(words)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        shown = context.command_path if context else "odqa"
        note(f"{getattr(error, 'format_message', error.__str__)()} (see {shown} --help)")
        return 2
    except (KeyboardInterrupt, Interrupted) as error:
        note(str(error) or "interrupted")
        return 130
    except Exception as error:  # noqa: BLE001 - the last place where it can be told in words
        return failed(error)
    return code


def _invoke(words: list[str]) -> int:
    """Run the command without typer's own handling of errors, which would print what it is given as it is."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("odqa", words) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    return 0
