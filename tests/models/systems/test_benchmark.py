"""`benchmarks/systems.py` and `benchmarks/pruned.py` measure what the documentation shows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from published_systems import SYSTEMS

REPOSITORY = Path(__file__).resolve().parents[3]


def generator() -> ModuleType:
    """Load what writes the tables of the documentation."""
    spec = importlib.util.spec_from_file_location("generate_systems", REPOSITORY / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


def test_figures_become_the_table_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tmp_path / "systems.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "systems.py"), "--quick", "--rounds", "1"]
    command += ["--passages", "1", "--only", "1", "--only", "2", "--result", str(result)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text(encoding="utf-8"))["curves"]["systems"]
    assert [(row["number"], row["name"]) for row in rows] == [(one.number, one.name) for one in SYSTEMS[:2]]
    for row in rows:
        assert min(row["context_ms"], row["passages_per_second"], row["load_seconds"]) > 0
        assert row["peak_memory_bytes"] > row["size_bytes"] > 1e6
    assert rows[0]["question_ms"] > 0
    assert rows[1]["question_ms"] is None

    generate = generator()
    monkeypatch.setattr(generate, "SYSTEMS", result)
    lines = generate.systems_part().splitlines()
    assert len(lines) == 4 + len(rows)
    assert lines[-1].startswith(f"| 2 | `{SYSTEMS[1].name}` | ")
    milliseconds = f"| {rows[1]['context_ms']:.0f} |"
    assert any(SYSTEMS[1].name in line and milliseconds in line for line in generate.models_part().splitlines())


def test_what_is_taken_out_of_a_network_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tmp_path / "pruned.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "pruned.py"), "--quick", "--rounds", "1"]
    done = subprocess.run([*command, "--result", str(result)], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text(encoding="utf-8"))["curves"]["networks"]
    assert rows[0]["network"] == "dense"
    assert rows[0]["times"] == {"least": 1.0, "median": 1.0, "most": 1.0}
    generate = generator()
    monkeypatch.setattr(generate, "PRUNED", result)
    lines = generate.pruned_part().splitlines()
    assert lines[0].endswith("; 4 rounds.")
    assert [line.split(" | ")[0] for line in lines[4:]] == [f"| {row['network']}" for row in rows]
    assert f" | {rows[1]['ms']:.0f} ms | {rows[1]['times']['median']:.2f} [" in lines[5]
