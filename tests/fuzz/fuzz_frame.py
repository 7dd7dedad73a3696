"""What a fuzz target is, and how its inputs are made.

A target is a module `target_NAME.py` beside this file with a constant `TARGET`. Its `check` takes any bytes and raises
when a promise is broken; an error that the code raises on purpose for bad input is no failure, and is caught in it.
Inputs that once failed lie in `cases/NAME/`, under a name that says what was wrong, and are replayed by the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hypothesis import strategies as st

HERE = Path(__file__).parent
CASES = HERE / "cases"


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to throw bytes at.

    `seeds` gives good inputs to begin with, `tokens` are words of the format. `replay` is how the tests try an input,
    `check` unless a failure would end the whole process.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    tokens: Sequence[bytes] = ()
    max_bytes: int = 8192
    replay: Callable[[bytes], None] | None = None


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem.removeprefix("target_") for path in HERE.glob("target_*.py"))


def load(name: str) -> Target:
    """Import a target by its name.

    Raises:
        KeyError: there is no such target.
    """
    if name not in names():
        raise KeyError(f"no target {name}; there are {', '.join(names())}")
    found = import_module(f"target_{name}").TARGET
    assert isinstance(found, Target)
    return found


def cases(name: str) -> list[Path]:
    """Return the kept cases of a target."""
    return sorted(path for path in (CASES / name).glob("*") if path.is_file())


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Make bytes: seeds with a few edits, words of the format strung together, or anything."""
    seeds = [seed[: target.max_bytes] for seed in target.seeds()]
    piece = st.binary(max_size=8)
    if target.tokens:
        piece = st.one_of(st.sampled_from(list(target.tokens)), piece)
    edit = st.tuples(st.integers(0, target.max_bytes), st.integers(0, 64), piece, st.integers(1, 40))
    edited = st.builds(_edited, st.sampled_from(seeds), st.lists(edit, max_size=6))
    return st.one_of(edited, st.lists(piece, max_size=60).map(b"".join), st.binary(max_size=target.max_bytes))


def _edited(seed: bytes, edits: Sequence[tuple[int, int, bytes, int]]) -> bytes:
    """Replace `length` bytes at `place` (taken modulo the size) with `times` copies of a piece."""
    for place, length, piece, times in edits:
        at = place % (len(seed) + 1)
        seed = seed[:at] + piece * times + seed[at + length :]
    return seed
