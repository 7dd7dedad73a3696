"""Write the generated parts of the documentation: the commands in cli.md and the models in models.md.

    python docs/generate.py            write them
    python docs/generate.py --check    exit with 1 if one is stale

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer.main

from odqa.cli import app
from odqa.model_rendering import figures_text, is_default, lengths_text
from odqa.models import registry
from odqa.rendering import size_text

DOCS = Path(__file__).parent
SYSTEMS = DOCS.parent / "benchmarks" / "results" / "systems.json"
PRUNED = DOCS.parent / "benchmarks" / "results" / "pruned.json"
_CONVERTED = {registry.HUGGINGFACE: ", converted here"}
_NO_SETTING = ("start", "batches", "questions", "last_loss")
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
        "| Name | Task | Comes | Size | Million parameters | GOps | Milliseconds | Longest input in tokens | Figures "
        "| Licence |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    milliseconds = {row["name"]: f"{row['context_ms']:.0f}" for row in reversed(measured_systems())}
    for spec in registry.published():
        figures = [f"{one} (published)" for one in figures_text(spec.published).split("; ") if one]
        cells = (
            f"`{spec.name}`" + (" (default)" if is_default(spec) else ""),
            "encoder" if spec.task == registry.ENCODE else "reader",
            "in the package" if spec.source == "bundled" else f"`odqa models pull`{_CONVERTED.get(spec.form, '')}",
            "not published" if spec.size is None else size_text(spec.size),
            "" if spec.parameters_millions is None else f"{spec.parameters_millions:g}",
            "" if spec.gops is None else f"{spec.gops:g}",
            milliseconds.get(spec.name, ""),
            lengths_text(spec),
            "; ".join([*figures, *filter(None, [figures_text(spec.measured)])]),
            spec.licence,
        )
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def measured_systems() -> list[dict[str, Any]]:
    """Return what `benchmarks/systems.py` found of each system; nothing where it has not been run."""
    if not SYSTEMS.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(SYSTEMS.read_text(encoding="utf-8"))["curves"]["systems"]
    return rows


def systems_part() -> str:
    """Return a table of what each published system costs."""
    rows = measured_systems()
    if not rows:
        return "Not measured yet; `python benchmarks/systems.py` does it.\n"
    result = json.loads(SYSTEMS.read_text(encoding="utf-8"))
    lines = [
        f"{_where(result)}; medians of {result['settings']['rounds']} rounds.",
        "",
        "| | Model | Files | Context of 384 tokens | Question of 32 | Passages a second, together | Loading"
        " | Peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row["number"],
            f"`{row['name']}`",
            size_text(row["size_bytes"]),
            f"{row['context_ms']:.0f} ms",
            "" if row["question_ms"] is None else f"{row['question_ms']:.1f} ms",
            f"{row['passages_per_second']:.1f}",
            f"{row['load_seconds']:.1f} s",
            size_text(row["peak_memory_bytes"]),
        )
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def pruned_part() -> str:
    """Return a table of how fast a network is when heads and weights are taken out of it."""
    if not PRUNED.exists():
        return "Not measured yet; `python benchmarks/pruned.py` does it.\n"
    result = json.loads(PRUNED.read_text(encoding="utf-8"))
    lines = [
        f"{_where(result)}; {result['settings']['rounds']} rounds.",
        "",
        "| Network | Window of 384 tokens | Times as fast as dense |",
        "|---|---|---|",
    ]
    for row in result["curves"]["networks"]:
        times = "{median:.2f} [{least:.2f}, {most:.2f}]".format(**row["times"])
        lines.append(f"| {row['network']} | {row['ms']:.0f} ms | {times if row['network'] != 'dense' else ''} |")
    return "\n".join(lines) + "\n"


def _where(result: dict[str, Any]) -> str:
    machine, version = result["machine"], result["versions"]["openvino"]
    load = f"load before and after {machine['load_before']} and {machine['load_after']}"
    return f"{machine['processor']}, {machine['cores']} cores, openvino {version}, {result['date']}, {load}"


def card_part(path: Path) -> str:
    """Return what the training runs wrote of a model: its rounds, and the figures on the held-out articles."""
    card = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| Round | First weights | Settings | Batches | Questions |", "|---|---|---|---|---|"]
    for number, facts in enumerate(card["rounds"], start=1):
        start = "those of the base model" if facts["start"] == "base" else "those of the round before, from int8"
        shown = [f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if key not in _NO_SETTING]
        batches = facts["batches"] or "not kept"
        lines.append(f"| {number} | {start} | {', '.join(shown)} | {batches} | {facts['questions']:,} |")
    if card["figures"]:
        lines += ["", "| Measured | Figures |", "|---|---|"]
    for source, values in card["figures"].items():
        shown = [
            f"{key.replace('_', ' ')} {value:g}" for key, value in values.items() if isinstance(value, int | float)
        ]
        lines.append(f"| {_cell(source)} | {', '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def parts() -> dict[str, Callable[[], str]]:
    """Return what makes each generated part, by name."""
    made: dict[str, Callable[[], str]] = {"models": models_part, "systems": systems_part, "pruned": pruned_part}
    for path in sorted((DOCS.parent / "training" / "cards").glob("*.json")):
        made[f"card {path.stem}"] = lambda path=path: card_part(path)  # type: ignore[misc]
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
