"""Throw inputs at a target for a while.

    python tests/fuzz/run.py TARGET --seconds 600

With atheris (`pip install atheris`) the search is guided by the branches that an input reaches, else hypothesis makes
the inputs. What fails is written to `cases/TARGET/` and ends the run with exit code 1. Give the file a name that says
what was wrong: the tests replay it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import fuzz_frame
from fuzz_frame import CASES, Target
from hypothesis import HealthCheck, Phase, given, seed, settings

TIMEOUT_SECONDS = 60  # one input may take so long; a machine that does other things as well is slow
MEMORY_MB = 2048
PACKAGES = ("odqa", "docx")  # whose branches guide the search


def by_hypothesis(target: Target, *, seconds: float, folder: Path) -> tuple[int, Path | None]:
    """Try inputs until one fails or the time is over; return how many, and the file of the failure if there is one."""
    end = time.monotonic() + seconds
    tried, failing = 0, b""
    strategy = fuzz_frame.inputs(target)
    round_ = 0
    while time.monotonic() < end:
        round_ += 1

        @seed(round_)
        @settings(
            max_examples=500,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
            print_blob=False,
        )
        @given(strategy)
        def one(data: bytes) -> None:
            nonlocal tried, failing
            if time.monotonic() > end:
                return
            tried += 1
            try:
                target.check(data)
            except BaseException:
                failing = data
                raise

        try:
            one()
        except Exception as error:  # noqa: BLE001 - whatever a target raises is a finding
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return tried, _keep(failing, folder)
    return tried, None


def _keep(data: bytes, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def by_atheris(name: str, *, seconds: int, folder: Path) -> None:
    """Hand over to libFuzzer, which ends the process itself: 0 when nothing was found, else another code."""
    import atheris

    with atheris.instrument_imports(include=list(PACKAGES)):
        target = fuzz_frame.load(name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(target.seeds()):
            Path(corpus, f"seed-{number}").write_bytes(data[: target.max_bytes])
        for number, path in enumerate(fuzz_frame.cases(name)):
            Path(corpus, f"case-{number}").write_bytes(path.read_bytes())
        words = [
            "run.py",
            corpus,
            f"-max_total_time={seconds}",
            f"-max_len={target.max_bytes}",
            f"-artifact_prefix={folder}/",
            f"-timeout={TIMEOUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            "-len_control=0",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        if target.tokens:
            listed = Path(corpus).with_suffix(".dict")
            listed.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens), encoding="ascii")
            words.append(f"-dict={listed}")
        atheris.Setup(words, target.check)
        atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def main() -> int:
    """Run one target; exit code 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=fuzz_frame.names())
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=None)
    given_words = parser.parse_args()
    folder = CASES / given_words.target
    engine = given_words.engine or ("atheris" if find_spec("atheris") else "hypothesis")
    if engine == "atheris":
        by_atheris(given_words.target, seconds=given_words.seconds, folder=folder)
        return 0
    began = time.monotonic()
    tried, kept = by_hypothesis(fuzz_frame.load(given_words.target), seconds=given_words.seconds, folder=folder)
    outcome = f"one failed: {kept}" if kept else "none failed"
    sys.stdout.write(f"{tried} inputs in {time.monotonic() - began:.0f} s: {outcome}\n")
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
