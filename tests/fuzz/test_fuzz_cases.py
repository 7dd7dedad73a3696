"""Every case that a fuzz run ever found, the seeds, and a short run of each target."""

from __future__ import annotations

from pathlib import Path

import fuzz_frame
import pytest
import run as runner
from fuzz_frame import Target
from hypothesis import HealthCheck, Phase, given, settings

from odqa.ingest import parsers

NAMES = fuzz_frame.names()
CASES = [(name, path) for name in NAMES for path in fuzz_frame.cases(name)]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name}-{path.name}" for name, path in CASES])
def test_found_cases_stay_mended(name: str, path: Path) -> None:
    target = fuzz_frame.load(name)
    (target.replay or target.check)(path.read_bytes())


def test_cases_belong_to_a_target_and_are_small() -> None:
    folders = [path for path in fuzz_frame.CASES.glob("*") if path.is_dir()]
    assert {path.name for path in folders} <= set(NAMES)
    assert all(path.stat().st_size <= 64 * 1024 for _, path in CASES)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_pass(name: str) -> None:
    target = fuzz_frame.load(name)
    seeds = list(target.seeds())
    assert seeds
    for data in seeds:
        target.check(data)


@pytest.mark.parametrize("name", ["docx", "html", "md", "pdf", "txt"])
def test_the_first_seed_of_a_format_is_a_good_file(name: str) -> None:
    first, *_ = fuzz_frame.load(name).seeds()
    parsed = parsers.parse(f".{name}", first)
    assert len(parsed.text.split()) >= 4
    assert len(first) <= fuzz_frame.load(name).max_bytes


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run(name: str) -> None:
    target = fuzz_frame.load(name)

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(fuzz_frame.inputs(target))
    def check(data: bytes) -> None:
        (target.replay or target.check)(data)

    check()


def _good(data: bytes) -> None:
    assert isinstance(data, bytes)


def _planted(data: bytes) -> None:
    if b"<b" in data:
        raise RecursionError("planted")


def test_the_runner_finds_a_planted_fault_and_keeps_it(tmp_path: Path) -> None:
    target = Target("planted", _planted, seeds=lambda: [b"<a>text</a>"], tokens=(b"<", b"b"))
    tried, kept = runner.by_hypothesis(target, seconds=20, folder=tmp_path / "planted")
    assert tried > 0
    assert kept is not None
    assert b"<b" in kept.read_bytes()
    assert len(kept.read_bytes()) < 100


def test_the_runner_stops_in_time_without_a_fault(tmp_path: Path) -> None:
    target = Target("good", _good, seeds=lambda: [b"a"])
    tried, kept = runner.by_hypothesis(target, seconds=0.3, folder=tmp_path)
    assert tried > 0
    assert kept is None
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(KeyError, match=r"no target nothing; there are "):
        fuzz_frame.load("nothing")
