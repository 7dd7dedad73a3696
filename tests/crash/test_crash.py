"""Kill a command at every point, at random times, and let its disk fail: no document is lost, nothing wrong is served.

The points are those that an undisturbed run passes (`ODQA_FAULT_RECORD`): those of odqa itself, and one before and in
the middle of every call by which SQLite changes a file.
"""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import crash_cases
import crash_child
import pytest
import sqlite_calls
from crash_cases import PREPARED, Case
from crash_child import Job, Server

from odqa.store import faults

STORE = Path(faults.__file__).parent
REPOSITORY = Path(__file__).parents[2]
KILLED = (-9, 15)  # SIGKILL; TerminateProcess on Windows
SQLITE_POINTS = 4  # of each case, in the quick run; the slow one takes all of them
RANDOM_KILLS = {"quick": 2, "slow": 34}  # of each case


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    crash_child.use_small_fakes(monkeypatch)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with crash_child.server() as running:
        yield running


@pytest.fixture(scope="module", params=list(PREPARED))
def case(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as monkeypatch:
        crash_child.use_small_fakes(monkeypatch)
        return crash_cases.make_case(request.param, tmp_path_factory.mktemp(request.param), server)


def _passages(case: Case, server: Server, tmp_path: Path) -> list[tuple[str, int]]:
    """Every passing of a point in an undisturbed run, in order: its name, and which passing of it this is."""
    record = tmp_path / "record"
    folder = case.begin(tmp_path / "index")
    code, _ = server.run(Job(case.command(folder), {faults.RECORD: str(record)}))
    assert code == 0
    seen: Counter[str] = Counter()
    passages = []
    for name in record.read_text("ascii").split():
        seen[name] += 1
        passages.append((name, seen[name]))
    return passages


def _sampled(
    passages: list[tuple[str, int]], *, slow: bool, sqlite_points: int = SQLITE_POINTS
) -> list[tuple[str, int]]:
    """All; or each point of odqa's own once, and some of SQLite's that lie evenly over the run.

    Once is the last time in a transaction (what was there before matters), else the first.
    """
    if slow:
        return passages
    last = dict(passages)
    once = {name: count if name.startswith("write.") else 1 for name, count in last.items()}
    own = [one for one in passages if not one[0].startswith("sqlite.") and one[1] == once[one[0]]]
    sqlite = [one for one in passages if one[0].startswith("sqlite.")]
    step = max(1, len(sqlite) // sqlite_points)
    return own + sqlite[step // 2 :: step][:sqlite_points]


def _commands(path: Path) -> Iterator[tuple[int, bool, str]]:
    """Yield (line, whether it is a fault point, what) of the simple statements of a file that matter, in order."""
    steps = {"commit", "fsync", "rename", "unlink", "ftruncate", "write", "write_bytes", "write_text", "replace", "run"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "fault_point":
            yield node.lineno, True, name
        elif isinstance(node.func, ast.Attribute) and name in steps:
            whole = ast.unparse(node)
            replaces_text = name == "replace" and len(node.args) != 1
            reads = name == "run" and "PRAGMA integrity" in whole
            if not (replaces_text or reads):
                yield node.lineno, False, whole


def test_every_durable_step_has_a_fault_point() -> None:
    """Each call that commits, writes, syncs, renames or removes has a fault point right before or after it."""
    lacking = []
    steps = 0
    for path in sorted(STORE.glob("*.py")):
        if path.name == "faults.py":
            continue
        found = sorted(set(_commands(path)))
        points = [line for line, is_point, _ in found if is_point]
        for line, is_point, what in found:
            if not is_point:
                steps += 1
                if not any(abs(line - point) <= 2 for point in points):
                    lacking.append(f"{path.name}:{line}: {what}")
    assert lacking == []
    assert steps >= 20


def test_every_fault_point_is_documented() -> None:
    named = {
        name
        for path in STORE.glob("*.py")
        for name in re.findall(r'fault_point\("([\w.-]+)"\)', path.read_text("utf-8"))
    }
    page = (REPOSITORY / "docs" / "storage.md").read_text("utf-8").partition("## Fault points")[2]
    assert named == set(re.findall(r"`([a-z]+\.[a-z-]+)`", page))


def test_the_points_of_sqlite_are_passed(case: Case, server: Server, tmp_path: Path) -> None:
    """Else the tests below would say less than they seem to."""
    names = {name for name, _ in _passages(case, server, tmp_path)}
    assert sqlite_calls.reachable() == ("sqlite.before-write" in names) == ("sqlite.mid-write" in names)
    assert {"lock.before-write", "snapshot.before-rename"} <= names


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_killed_at_every_point(
    case: Case, server: Server, tmp_path: Path, slow: bool, record_property: Callable[[str, object], None]
) -> None:
    points = _sampled(_passages(case, server, tmp_path), slow=slow)
    for name, count in points:
        folder = case.begin(tmp_path / "index")
        told = f"{case.name} killed at {name}:{count}"
        code, _ = server.run(Job(case.command(folder), {faults.VARIABLE: f"{name}:{count}"}))
        assert code in KILLED, told
        crash_cases.assert_sound(case, folder, told)
        crash_cases.assert_goes_on(case, folder, told)
    record_property("kills", len(points))


@pytest.mark.parametrize("length", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
def test_killed_at_random_times(
    case: Case, server: Server, tmp_path: Path, length: str, record_property: Callable[[str, object], None]
) -> None:
    """Kills that came after the end of the run do not count: another one is tried, in the time that run took."""
    rng = random.Random(f"{case.name} {length}")
    _, seconds = server.run(Job(case.command(case.begin(tmp_path / "index"))))
    kills = late = 0
    while kills < RANDOM_KILLS[length]:
        folder = case.begin(tmp_path / "index")
        delay = rng.random() * seconds
        code, took = server.run(Job(case.command(folder), kill_after=delay))
        told = f"{case.name} killed at random, number {kills} ({delay:.3f} of {seconds:.3f} s)"
        crash_cases.assert_sound(case, folder, told)
        crash_cases.assert_goes_on(case, folder, told)
        if code in KILLED:
            kills += 1
        else:
            late, seconds = late + 1, min(took, seconds)
            assert code == 0 and late < 100, told
    record_property("kills", kills)


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "slow"])
@pytest.mark.parametrize("number", ["ENOSPC", "EROFS"])
def test_the_disk_fails_at_every_point(
    case: Case,
    server: Server,
    tmp_path: Path,
    number: str,
    slow: bool,
    record_property: Callable[[str, object], None],
) -> None:
    """From that point on every write fails: one line says so, and the index is as sound as after a kill."""
    log = tmp_path / "log"
    points = [one for one in _passages(case, server, tmp_path) if faults.CAN_FAIL.fullmatch(one[0])]
    if not slow:
        points = _sampled(points, slow=False, sqlite_points=3)
        points = points[:: 3 if number == "ENOSPC" else 6]
    for name, count in points:
        folder = case.begin(tmp_path / "index")
        told = f"{case.name}, {number} from {name}:{count} on"
        log.write_bytes(b"")
        job = Job(case.command(folder), {faults.VARIABLE: f"{name}:{count}:{number}"}, log=str(log))
        code, _ = server.run(job)
        lines = [line for line in log.read_text("utf-8").splitlines() if line.startswith("odqa: ")]
        assert code in (0, 1), told
        assert (code == 0 or len(lines) == 1) and "unexpected" not in log.read_text("utf-8"), (told, lines)
        crash_cases.assert_sound(case, folder, told)
        crash_cases.assert_goes_on(case, folder, told)
    record_property("failures", len(points))
    assert points
