"""Write the generated parts of the documentation: the commands in cli.md and the models in models.md.

    python docs/generate.py            write them
    python docs/generate.py --check    exit with 1 if one is stale

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer.main

from odqa import settings
from odqa.cli import app
from odqa.models import registry
from odqa.rendering import size_text

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, such as "odqa models list"."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer gives it no public type
        for word, inner in getattr(command, "commands", {}).items():
            yield from below(f"{name} {word}", inner)
        if not hasattr(command, "commands"):
            yield name, command

    yield from below("odqa", typer.main.get_command(app))


def command_part(name: str, command: Any) -> str:  # noqa: ANN401 - as above
    """Return the description of a command: its usage, its help and a table of its options."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = [name, "[OPTIONS]"]
    for one in arguments:
        shown = one.metavar if one.required else f"[{one.metavar}]"
        usage.append(shown + ("..." if one.nargs == -1 else ""))
    lines = [f"    {' '.join(usage)}", "", command.help.strip(), "", "| Argument or option | Meaning | Default |"]
    lines.append("|---|---|---|")
    for one in [*arguments, *options]:
        shown = one.metavar if one in arguments else " ".join([*one.opts, *([one.metavar] if one.metavar else [])])
        # False, None and () are defaults that say nothing: a flag that is not given, a value that is not there.
        default = f"`{one.default:g}`" if isinstance(one.default, int | float) and one.default is not False else ""
        default = f"`{one.default}`" if isinstance(one.default, str) else default
        lines.append(f"| `{_cell(shown)}` | {_cell(one.help)} | {default} |")
    return "\n".join(lines) + "\n"


def models_part() -> str:
    """Return a table of the models of the registry."""
    lines = [
        "| Name | Task | Comes | Size | Longest input in tokens | Figures | Licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec in registry.models():
        default = spec.name in (settings.DEFAULT_ENCODER, settings.DEFAULT_READER)
        lengths = f"passage {spec.passage_tokens}, question {spec.question_tokens}; vectors of {spec.width}"
        if spec.task == registry.READ:
            lengths = f"window {spec.window_tokens}, question {spec.question_tokens}"
        figures = [f"{_figure(name, value)} (published)" for name, value in spec.published.items()]
        figures += [_figure(name, value) for name, value in spec.measured.items()]
        cells = (
            f"`{spec.name}`" + (" (default)" if default else ""),
            "encoder" if spec.task == registry.ENCODE else "reader",
            "in the package" if spec.source == "bundled" else "separately",
            size_text(sum(file.size for file in spec.files)),
            lengths,
            "; ".join(figures),
            spec.licence,
        )
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def _figure(name: str, value: float) -> str:
    if name.endswith("_percent"):
        return f"{name.removesuffix('_percent').replace('_', ' ')} {value:g} %"
    return f"{name.replace('_', ' ')} {value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def parts() -> dict[str, Callable[[], str]]:
    """Return what makes each generated part, by name."""
    made: dict[str, Callable[[], str]] = {"models": models_part}
    for name, command in commands():
        made[name] = lambda name=name, command=command: command_part(name, command)  # type: ignore[misc]
    return made


def renewed(text: str) -> str:
    """Return a page with its generated parts as they have to be.

    Raises:
        KeyError: a part has a name that nothing makes.
    """
    made = parts()
    return _PART.sub(lambda found: f"{found[1]}{made[found['name']]()}{found[3]}", text)


def main(words: list[str]) -> int:
    """Write all pages anew, or with `--check` only compare; return the exit code."""
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        new = renewed(text)
        if new != text:
            stale.append(path.name)
            if "--check" not in words:
                path.write_text(new, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{name} {'is stale' if '--check' in words else 'written'}\n")
    return 1 if stale and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
