"""docs/performance.md shows what the results hold, and nothing that was not measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import report
from bars import BARS
from plots import PLOTS, draw

ABOUT: dict[str, Any] = {
    "command": "python benchmarks/disk.py --wiki wiki",
    "date": "2030-01-02",
    "machine": {"processor": "Abacus", "has": [], "cores": 2, "memory_gib": 8, "load_before": 0.1, "load_after": 0.9},
    "versions": {"python": "3.11.7", "openvino": "2026.4.1", "odqa": "0.1.0"},
    "settings": {"passages": 3000, "sizes": [1, 2]},
    "left_out": ["PyTorch: install the extra `training`"],
    "curves": {},
}
DISK = ABOUT | {
    "benchmark": "disk",
    "figures": [
        {"key": "disk.passage", "value": 5.25, "unit": "kB", "least": None, "most": None, "note": "a note"},
        {"key": "text: bytes", "value": 1700.0, "unit": "bytes", "least": 1600.0, "most": 1800.0, "note": ""},
    ],
}
CURVES = {
    "growth": {"curves": {"growth": [{"passages": 100, "milliseconds": 2.5}, {"passages": 200, "milliseconds": 2.75}]}},
    "vector_search": {
        "curves": {
            "recall 1000": [
                {"kind": "flat", "setting": "", "milliseconds": 4.0, "recall": 1.0},
                {"kind": "graph", "setting": "b", "milliseconds": 2.0, "recall": 0.99},
                {"kind": "graph", "setting": "a", "milliseconds": 1.0, "recall": 0.9},
            ]
        }
    },
}


def test_the_page_is_not_stale() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.renewed(text, report.read_results()) == text, "run `python benchmarks/report.py`"
    assert set(re.findall(r"<!-- benchmarks: (.+?) -->", text)) == set(report.PARTS)


def test_what_was_not_measured_says_so() -> None:
    rows = report.bars_part({}).splitlines()[2:]
    assert len(rows) == len(BARS)
    assert all("| not measured yet |" in row for row in rows)
    assert [PART({}) for name, PART in report.PARTS.items() if name != "bars"] == ["Not measured yet.\n"] * 3


def test_a_result_stands_beside_its_bar() -> None:
    results = {"disk": DISK}
    rows = [row for row in report.bars_part(results).splitlines() if "5.25" in row]
    assert rows == ["| bytes on disk per full passage | - | 5.25 kB (a note) | 7 kB | 4.5 kB | reached |"]
    assert report.others_part(results).splitlines()[2:] == [
        "| `disk` | text: bytes | 1,700 bytes [1,600, 1,800] |",
        "| `disk` | PyTorch: install the extra `training` | not measured |",
    ]
    assert report.runs_part(results) == (
        "- `python benchmarks/disk.py --wiki wiki`, 2030-01-02: 2 cores of Abacus, 8 GiB, load before and after 0.1 "
        "and 0.9; openvino 2026.4.1, python 3.11.7; passages 3,000, sizes 1/2\n"
    )


def test_a_part_that_nothing_makes_is_named() -> None:
    with pytest.raises(KeyError, match="songs"):
        report.renewed("<!-- benchmarks: songs -->\n<!-- end -->", {})


def test_plots_are_shown_where_there_are_curves() -> None:
    growth, recall = PLOTS
    assert growth.points(CURVES) == {"without the network": [(100, 2.5), (200, 2.75)]}
    assert recall.points(CURVES) == {
        "1,000 vectors, flat": [(4.0, 1.0)],
        "1,000 vectors, graph": [(1.0, 0.9), (2.0, 0.99)],
    }
    assert growth.points({}) == recall.points({}) == {}
    assert report.plots_part(CURVES).count("![") == 2
    assert report.plots_part({"growth": CURVES["growth"]}).count("![") == 1


@pytest.mark.slow
def test_the_same_curves_give_the_same_picture(tmp_path: Path) -> None:
    for plot in PLOTS:
        pictures = []
        for name in ("first.svg", "second.svg"):
            draw(plot, plot.points(CURVES), tmp_path / name)
            pictures.append((tmp_path / name).read_bytes())
        assert pictures[0] == pictures[1]
        assert pictures[0].startswith(b"<?xml")
        assert plot.title.encode() in pictures[0]
        assert b"dc:date" not in pictures[0]
