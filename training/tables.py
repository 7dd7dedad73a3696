"""Questions about tables, read as they stand and as sentences (`odqa.reader.tables`).

    python training/tables.py

tables.json holds tables with questions that ask for one of their cells: those that the form of the sentences was chosen
on, and others that were looked at once. Each is read as Markdown and as rows of cells, as HTML and DOCX are indexed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from odqa import metrics, settings
from odqa.reader import extractive
from odqa.reader.extractive import ExtractiveReader, load_reader

TABLES = Path(__file__).with_suffix(".json")


def markdown(rows: list[str]) -> list[str]:
    """Return the rows of a table with bars at both ends, and a rule below the first."""
    first, *others = (f"| {row} |" for row in rows)
    return [first, "|" + "---|" * (rows[0].count("|") + 1), *others]


def scores(reader: ExtractiveReader, tables: list[dict[str, Any]], *, marked: bool) -> str:
    """Return exact matches and F1, in percent."""
    exact, f1 = [], []
    for table in tables:
        rows = markdown(table["table"]) if marked else table["table"]
        text = table["before"] + "\n".join(rows) + table["after"]
        questions = [question for question, _ in table["questions"]]
        found = reader.read_many(questions, [[text]] * len(questions), n_best=1)
        for (_, gold), best in zip(table["questions"], found, strict=True):
            answer = best[0].span.of(text) if best else None
            exact.append(metrics.exact_match(answer, [gold]))
            f1.append(metrics.f1(answer, [gold]))
    return f"{100 * np.mean(exact):.1f} / {100 * np.mean(f1):.1f}"


def main() -> None:
    """Print exact matches and F1 of both sets of tables, in both forms."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    reader = load_reader(settings.DEFAULT_READER)
    print("| tables | form | questions | as they stand | as sentences |\n|---|---|---|---|---|")
    for name, tables in json.loads(TABLES.read_text(encoding="utf-8")).items():
        for marked in (True, False):
            with patch.object(extractive, "as_sentences", lambda _: None):
                before = scores(reader, tables, marked=marked)
            now = scores(reader, tables, marked=marked)
            count = sum(len(table["questions"]) for table in tables)
            print(f"| {name} | {'Markdown' if marked else 'rows of cells'} | {count} | {before} | {now} |")


if __name__ == "__main__":
    main()
