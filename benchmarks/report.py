"""Write the generated parts of docs/performance.md and its plots from the results in benchmarks/results.

    python benchmarks/report.py            write them (plots need the extra `bench`)
    python benchmarks/report.py --check    exit with 1 if the page is stale

A generated part stands between `<!-- benchmarks: NAME -->` and `<!-- end -->`. What has not been measured says so.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bars import BARS, Bar
from figures import Figure, number, value_text
from plots import PLOTS, draw

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
NOT_MEASURED = "not measured yet"
VERDICTS = {"aim": "reached the aim", "must": "reached", "missed": "**missed**", "reported": "reported"}
SHOWN_VERSIONS = ("openvino", "faiss-cpu", "onnxruntime", "torch", "sqlite", "python")

_PART = re.compile(r"(<!-- benchmarks: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)

Results = Mapping[str, Mapping[str, Any]]


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the results of the benchmarks that have bars, by name."""
    found = {}
    for name in dict.fromkeys(bar.benchmark for bar in BARS):
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def figures_of(result: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of a result."""
    return [Figure(**one) for one in result["figures"]]


def bars_part(results: Results) -> str:
    """Return the table of all questions with what was measured, and what counts as enough."""
    lines = ["| Question | Compared with | Measured | Must | Aim | |", "|---|---|---|---|---|---|"]
    for bar in BARS:
        found = [one for one in figures_of(results.get(bar.benchmark, {"figures": []})) if one.key == bar.key]
        value = NOT_MEASURED
        if found:
            value = value_text(found[0]) + (f" ({found[0].note})" if found[0].note else "")
        verdict = VERDICTS[bar.verdict(found[0].value)] if found else ""
        cells = (bar.question, bar.against or "-", value, _limit(bar, bar.must), _limit(bar, bar.aim), verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _limit(bar: Bar, limit: float | None) -> str:
    return "-" if limit is None else f"{limit:g} {bar.unit}"


def runs_part(results: Results) -> str:
    """Return what was run where, a line for each result."""
    if not results:
        return NOT_MEASURED.capitalize() + ".\n"
    lines = []
    for result in results.values():
        machine, versions = result["machine"], result["versions"]
        shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions)
        memory = "" if machine["memory_gib"] is None else f", {machine['memory_gib']:g} GiB"
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in result["settings"].items())
        lines.append(
            f"- `{result['command']}`, {result['date']}: {machine['cores']} cores of {machine['processor']}"
            f"{memory}, load before and after {machine['load_before']} and {machine['load_after']}; {shown}; {settings}"
        )
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) + ")"
    if isinstance(value, list):
        return "/".join(map(_shown, value))
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def others_part(results: Results) -> str:
    """Return the figures that have no bar, and what could not be measured."""
    known = {bar.key for bar in BARS}
    lines = ["| Benchmark | Figure | Measured |", "|---|---|---|"]
    for name, result in results.items():
        for one in figures_of(result):
            if one.key not in known:
                note = f" ({one.note})" if one.note else ""
                lines.append(f"| `{name}` | {one.key} | {value_text(one)}{note} |")
        lines += [f"| `{name}` | {reason} | not measured |" for reason in result["left_out"]]
    return "\n".join(lines) + "\n" if len(lines) > 2 else NOT_MEASURED.capitalize() + ".\n"


def plots_part(results: Results) -> str:
    """Return the plots, as far as there are curves for them."""
    shown = [f"![{plot.title}]({plot.file})" for plot in PLOTS if plot.points(results)]
    return "\n\n".join(shown) + "\n" if shown else NOT_MEASURED.capitalize() + ".\n"


PARTS: dict[str, Callable[[Results], str]] = {
    "bars": bars_part,
    "runs": runs_part,
    "others": others_part,
    "plots": plots_part,
}


def renewed(text: str, results: Results) -> str:
    """Return a page with its generated parts as they have to be.

    Raises:
        KeyError: a part has a name that nothing makes.
    """
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found['name']](results)}{found[3]}", text)


def main(words: list[str]) -> int:
    """Write page and plots, or with `--check` only compare; return the exit code."""
    results = read_results()
    text = PAGE.read_text(encoding="utf-8")
    new = renewed(text, results)
    if "--check" in words:
        print("stale: run `python benchmarks/report.py`" if new != text else "not stale")
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    for plot in PLOTS:
        if points := plot.points(results):
            draw(plot, points, PAGE.parent / plot.file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
