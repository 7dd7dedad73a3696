"""A clock that goes backwards between the runs: what is indexed depends on contents, never on what time it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import crash_cases
import crash_child
import pytest

from odqa import cli, pipeline

START = 1_700_000_000.0
STEPS = {"forwards": 3600.0, "standing": 0.0, "backwards": -3600.0, "back to before 1970": -1e9}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_clock_may_go_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    crash_child.use_small_fakes(monkeypatch)
    now = [START]
    monkeypatch.setattr(time, "time", lambda: now[0])
    docs, folder = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    texts = {animal: crash_cases.text_of(animal, 1) for animal in crash_cases.ANIMALS[:4]}

    def run(*words: str) -> None:
        """Write the files as of now, run a command, and look at everything; then it is another time."""
        for animal, text in texts.items():
            path = docs / f"{animal}.txt"
            if not path.exists() or path.read_text("utf-8") != text:
                path.write_text(text, encoding="utf-8")
                os.utime(path, (now[0], now[0]))
        assert cli.main([*words, "--index-dir", str(folder)]) == 0
        held = crash_cases.state_of(folder)
        assert {doc_id: text for doc_id, (text, _) in held.items()} == {
            f"docs/{animal}.txt": text for animal, text in texts.items()
        }
        crash_cases.assert_right_answers(folder, held, " ".join(words))
        assert pipeline.check(folder).problems == ()
        now[0] += step

    run("index", str(docs))
    texts["seal"] = texts["seal"].replace("seal1", "seal2")  # as long as before, and perhaps of the same time
    run("index", str(docs))
    texts["seal"] = texts["seal"].replace("seal2", "seal1")
    run("index", str(docs))
    del texts["orca"]
    run("delete", "docs/orca.txt")
    (docs / "orca.txt").unlink()
    (docs / "whale.txt").unlink()
    del texts["whale"]
    run("index", str(docs), "--prune")
    run("compact")
    run("check", "--repair")
