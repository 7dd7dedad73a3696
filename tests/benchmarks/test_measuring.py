"""What the benchmarks share: things timed in turn, quotients with their spread, results that can be published."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import common
from bars import BARS, BY_KEY
from common import in_turn, in_turn_over, kept, peak_of, percentile, percentiles, ratio, shown_command, times_as_fast
from encoder_share import Busy
from figures import Measured, Spread, figure, number, table, value_text


class Clock:
    """Seconds that pass only when something is said to take them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.done: list[str] = []

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, *seconds: float) -> Callable[..., None]:
        """What takes so many seconds when called the first time, the second time, and so on."""
        left = list(seconds)

        def take(*item: object) -> None:
            self.done.append(name + "".join(map(str, item)))
            self.now += left.pop(0)

        return take


def test_percentiles_are_nearest_ranks() -> None:
    assert [percentile([5, 1, 3, 2, 4], percent) for percent in (1, 20, 21, 50, 95, 100)] == [1, 1, 2, 3, 5, 5]
    assert percentile(list(range(1, 101)), 95) == 95
    assert percentile([7.5], 50) == 7.5
    assert percentiles([[3, 1, 2], [9, 8, 7]], 50) == [2, 8]
    for values, percent in (([], 50), ([1], 0), ([1], 101)):
        with pytest.raises(ValueError, match="percentile"):
            percentile(values, percent)


def test_ways_take_turns_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    ways = {"a": clock.way("a", 9, 1, 2, 3), "b": clock.way("b", 9, 10, 20, 60)}
    seconds = in_turn(ways, rounds=3, clock=clock)
    assert clock.done == ["a", "b"] * 4
    assert seconds == {"a": [1, 2, 3], "b": [10, 20, 60]}
    assert times_as_fast(seconds["a"], seconds["b"]) == Spread(10, 10, 20)
    assert ratio(seconds["a"], seconds["b"]) == Spread(0.05, 0.1, 0.1)


def test_at_each_item_all_ways_take_their_turn() -> None:
    clock = Clock()
    ways = {"a": clock.way("a", 9, 1, 2, 3, 4), "b": clock.way("b", 9, 5, 6, 7, 8)}
    seconds = in_turn_over(ways, [1, 2], 2, clock=clock)
    assert clock.done == ["a1", "b1", "a1", "b1", "a2", "b2", "a1", "b1", "a2", "b2"]
    assert seconds == {"a": [[1, 2], [3, 4]], "b": [[5, 6], [7, 8]]}


def test_rounds_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


def test_spread_is_of_the_rounds() -> None:
    assert Spread.of([4.0, 1.0, 3.0]) == Spread(1.0, 3.0, 4.0)
    assert Spread.of([4.0, 1.0]) * 2 == Spread(2.0, 5.0, 8.0)


def test_time_in_which_requests_overlap_counts_once() -> None:
    clock = Clock()
    busy = Busy(clock=clock)
    for now, what in ((0, busy.begin), (2, busy.begin), (3, busy.end), (5, busy.end), (10, busy.begin), (11, busy.end)):
        clock.now = now
        what()
    assert busy.seconds == 5 + 1


def test_bars_know_which_way_is_good() -> None:
    faster, smaller = BY_KEY["squad.reference"], BY_KEY["disk.passage"]
    assert [faster.verdict(value) for value in (1.99, 2.0, 2.59, 2.6)] == ["missed", "must", "must", "aim"]
    assert [smaller.verdict(value) for value in (7.1, 7.0, 4.6, 4.5)] == ["missed", "must", "must", "aim"]
    assert [BY_KEY["encoder.peak"].verdict(value) for value in (59, 60)] == ["reported", "aim"]


def test_bars_are_of_benchmarks_that_exist_and_have_keys_of_their_own() -> None:
    assert len(BY_KEY) == len(BARS)
    for bar in BARS:
        assert (common.RESULTS.parent / f"{bar.benchmark}.py").is_file()
        assert f'"{bar.key}"' in "".join(_texts(bar.benchmark)) or bar.key.startswith("question."), bar.key


def _texts(name: str) -> list[str]:
    return [(common.RESULTS.parent / f"{name}.py").read_text(encoding="utf-8")]


def test_every_benchmark_stands_in_the_makefile_and_in_the_readme() -> None:
    makefile = (common.RESULTS.parents[1] / "Makefile").read_text(encoding="utf-8")
    readme = (common.RESULTS.parent / "README.md").read_text(encoding="utf-8")
    for name in {bar.benchmark for bar in BARS}:
        assert name in makefile.split("BENCHMARKS := ")[1].split("BENCH_DATA")[0].split()
        assert f"`{name}.py`" in readme


def test_figures_take_the_unit_of_their_bar() -> None:
    assert figure("disk.passage", 5.0).unit == "kB"
    one = figure("squad.reference", Spread(2.0, 2.5, 3.0), "x")
    assert (one.least, one.value, one.most) == (2.0, 2.5, 3.0)
    assert value_text(one) == "2.5 x [2, 3]"
    with pytest.raises(ValueError, match=r"disk\.passage"):
        figure("disk.passage", 5.0, "MB")
    with pytest.raises(ValueError, match="unit"):
        figure("something new", 5.0)


def test_the_table_shows_the_bar_beside_the_figure() -> None:
    found = Measured([figure("cold.import", 0.1, note="twice"), figure("of its own", 12345.6, "x")], left_out=["that"])
    assert table(found).splitlines() == [
        "`import odqa`, whole process",
        "    0.1 s   (must 0.15, aim 0.05: must)",
        "    twice",
        "of its own",
        "    12,346 x",
        "not measured: that",
    ]
    assert number(0.012345) == "0.0123"


def test_published_commands_hold_no_folders() -> None:
    words = ["/home/me/odqa/benchmarks/disk.py", "--wiki", "/data/private/wiki", "--rounds", "3"]
    assert shown_command(words) == "python benchmarks/disk.py --wiki wiki --rounds 3"


@pytest.mark.parametrize("quick", [False, True])
def test_a_run_writes_its_result_unless_it_is_quick(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["/x/made.py", "--work", str(tmp_path), *(["--quick"] if quick else [])])
    given = []

    def measure(options: argparse.Namespace, work: Path) -> Measured:
        given.append((options.quick, options.rounds, work))
        return Measured([figure("cold.help", Spread(0.1, 0.2, 0.3))], {"size": 3})

    common.run("/x/made.py", "A benchmark.", measure, libraries=("no-such-package",))
    assert given == [(quick, 2 if quick else 5, tmp_path)]
    assert "0.2 s [0.1, 0.3]   (must 0.4, aim 0.2: aim)" in capsys.readouterr().out
    result = tmp_path / "results" / "made.json"
    assert result.exists() is not quick
    if quick:
        return
    held = json.loads(result.read_text(encoding="utf-8"))
    assert held["benchmark"] == "made"
    assert held["command"].startswith("python benchmarks/made.py")
    assert str(tmp_path) not in result.read_text(encoding="utf-8")
    assert held["figures"] == [
        {"key": "cold.help", "value": 0.2, "unit": "s", "least": 0.1, "most": 0.3, "note": ""},
    ]
    assert held["machine"]["cores"] >= 1
    assert held["versions"]["no-such-package"] == "not installed"
    assert held["settings"] == {"size": 3}


def test_what_was_made_half_is_not_kept(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        kept(tmp_path / "it", half)
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        path = kept(tmp_path / "it", lambda path, text=text: path.write_text(text))
        assert path.read_text() == "first"


def test_the_peak_is_that_of_the_command_alone() -> None:
    small, large = (peak_of([sys.executable, "-c", f"x = b'x' * {size}"]) for size in (1, 80_000_000))
    assert 70e6 < large - small < 100e6
    assert small < 60e6  # this process holds more


def test_a_benchmark_runs_from_a_clean_clone(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    script = common.RESULTS.parent / "hybrid_search.py"
    command = [sys.executable, str(script), "--quick", "--work", str(tmp_path), "--result", str(result)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hybrid search, 500,000 passages, p95" in done.stdout
    held = json.loads(result.read_text(encoding="utf-8"))
    assert held["settings"]["passages"] == 400
    assert [one["key"] for one in held["figures"]] == [
        "hybrid.p95", "hybrid: p50", "dense: p50", "dense: p95", "text: p50", "text: p95"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
