"""The options that several commands share, and how a value that was typed is checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from odqa import arguments, settings

MOST = 10_000  # largest --top-k and --n-best


def checked(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Make the callback of a parameter: each value goes through `check`, whose ValueError is a usage error."""

    def callback(value: Any) -> Any:  # noqa: ANN401 - a value, a list of them, or None where none was given
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is None:
                continue
            try:
                check(one)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
        return value

    return callback


def need_command(context: typer.Context) -> None:
    """Show the help of a group of commands on stderr, and leave with code 2, when no command of it was given."""
    if context.invoked_subcommand is None:
        sys.stderr.write(context.get_help() + "\n")
        raise typer.Exit(2)


IndexDir = Annotated[
    str | None,
    typer.Option(
        "--index-dir",
        metavar="FOLDER",
        callback=checked(arguments.path),
        help=f"Folder of the index; else ODQA_INDEX_DIR, else {settings.DEFAULT_INDEX_DIR.as_posix()}.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
Mode = Annotated[
    str,
    typer.Option(
        "--mode", metavar="|".join(settings.MODES), callback=checked(arguments.mode), help="How passages are found."
    ),
]
TopK = Annotated[int, typer.Option("--top-k", metavar="NUMBER", min=1, max=MOST, help="Passages retrieved.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", callback=checked(arguments.seconds), help="How long to wait for another writer."
    ),
]
NBest = Annotated[int, typer.Option("--n-best", metavar="NUMBER", min=1, max=MOST, help="Most answers returned.")]
DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        callback=checked(arguments.path),
        help="SQuAD-format file, or JSON lines of question and answers; may be gzipped.",
    ),
]
VectorIndexOption = Annotated[
    str | None,
    typer.Option(
        "--vector-index",
        metavar="|".join(settings.VECTOR_INDEXES),
        callback=checked(arguments.vector_index),
        help=f"From now on: flat is exact, binary small and fast; auto is binary from {settings.BINARY_FROM_PASSAGES} "
        "passages on.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        callback=checked(arguments.where),
        help="Only documents that meet a filter such as 'year>=2020 and suffix=.pdf'; repeatable.",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", metavar="NAME", callback=checked(arguments.text), help="Encoder of a new index; else ODQA_ENCODER."
    ),
]
ReaderOption = Annotated[
    str | None,
    typer.Option("--reader", metavar="NAME", callback=checked(arguments.text), help="Reader; else ODQA_READER."),
]
QuestionsOption = Annotated[
    str | None,
    typer.Option(
        "--questions",
        metavar="FILE",
        callback=checked(arguments.path),
        help='File of questions, one a line or JSON lines with "question"; - for standard input.',
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="PROBABILITY",
        callback=checked(arguments.probability),
        help="Least probability of an answer, between 0 and 1; else the reader's own.",
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="|".join(settings.PROFILES),
        callback=checked(arguments.profile),
        help="How passages are read: omz as the Open Model Zoo's demo does it, for comparison.",
    ),
]
ReadAllOption = Annotated[
    bool,
    typer.Option("--read-all", help="Read every passage, and whole: slower, finds more other answers."),
]
StagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stage",
        metavar="|".join(settings.EVALUATION_STAGES),
        callback=checked(arguments.stage),
        help="Measure this only; repeatable. Without it all but abstention are measured.",
    ),
]
