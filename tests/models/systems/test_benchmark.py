"""`benchmarks/systems.py` measures what the documentation shows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from published_systems import SYSTEMS

REPOSITORY = Path(__file__).resolve().parents[3]


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

    spec = importlib.util.spec_from_file_location("generate_systems", REPOSITORY / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    monkeypatch.setattr(generate, "SYSTEMS", result)
    lines = generate.systems_part().splitlines()
    assert len(lines) == 4 + len(rows)
    assert lines[-1].startswith(f"| 2 | `{SYSTEMS[1].name}` | ")
    milliseconds = f"| {rows[1]['context_ms']:.0f} |"
    assert any(SYSTEMS[1].name in line and milliseconds in line for line in generate.models_part().splitlines())
