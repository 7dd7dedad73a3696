"""A process that forks after it opened an index: the child is told, and can do no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

Stories = dict[str, list[str]]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    """What the processes of each story said; see fork_child.py."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ODQA_")}
    script = Path(__file__).with_name("fork_child.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), str(tmp_path_factory.mktemp("fork"))],
        env={**environment, "OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stories = json.loads(done.stdout)
    assert {story["story"]: story["code"] for story in stories} == {story["story"]: 0 for story in stories}
    return {story["story"]: story["said"] for story in stories}


def test_an_index_that_was_open_is_refused_in_the_child(said: Stories) -> None:
    """Whatever is asked, the models too; and opening the same file again, which SQLite cannot do safely."""
    *lines, again, parent = said["refused"]
    assert len(lines) == 6
    for line in lines:
        assert line.endswith("was made by fork: open it after the fork, or start processes by spawn")
    assert "was open when this process was made by fork, and SQLite cannot open it again here" in again
    assert parent == "5 in the parent"


def test_an_index_that_was_closed_can_be_opened_in_the_child(said: Stories) -> None:
    """FAISS has used its threads before the fork; they are not in the child, which must not wait for them."""
    assert said["closed"] == ["[1, 2, 3] docs/a.txt"]


def test_a_child_that_closes_or_ends_leaves_the_files_alone(said: Stories) -> None:
    wal, names, documents, locked, problems = said["left_alone"]
    assert (wal, names, documents, problems) == ("True", "True", "2 documents", "()")
    assert "is being written to by process" in locked


def test_a_child_that_outlives_its_parent_leaves_the_files_alone(said: Stories) -> None:
    """What the parent committed lies in -wal, and would go with it if the child closed its copy of the connection."""
    assert said["survivor"] == ["True True", "['docs/a.txt']", "()"]


def test_the_lock_dies_with_the_process_that_took_it_not_with_its_children(said: Stories) -> None:
    assert said["lock"] == ["free"]


def test_a_child_may_use_another_index(said: Stories) -> None:
    assert said["another"] == ["5"]


def test_processes_forked_before_open_each_with_their_own(said: Stories) -> None:
    assert said["workers"] == ["[5, 5, 5] 5"]
