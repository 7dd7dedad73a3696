"""One writer and many readers, each a process of its own: `python crowd.py FOLDER SECONDS READERS`.

Each file is "sea/n.txt"; every sentence of its text names the file and a number that grows with each change. A board,
shared by all processes, says for each file which number is committed and which is being written. So a reader knows of
every passage that it is given whether it is too old, comes from the future, or is not the text of its document; and of
every file whether it should have been found. On a busy machine the seconds may be over before a process has done
anything, so each goes on until it has done something of everything, for up to `PATIENCE_SECONDS`.

Writes one line of JSON for each process: what it did, and what was wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "crash"))

import crash_child
from pytest import MonkeyPatch

from odqa import pipeline
from odqa.pipeline import QuestionAnswering
from odqa.types import Passage

FILES = 12
ALL = 10_000
SAID = re.compile(r"n(\d+)s(\d+)")
PATIENCE_SECONDS = 180.0
WRITES = ("change", "delete", "prune", "compact")
HELD = "files held against the board"

# Rows of the board: the number that was committed last, the one that is being written, whether the file is there.
COMMITTED, STARTED, THERE = range(3)


def board(folder: Path) -> np.ndarray:
    path = folder / "board"
    if not path.exists():
        np.zeros((3, FILES), dtype=np.int64).tofile(path)
    return np.memmap(path, dtype=np.int64, mode="r+", shape=(3, FILES))


def text_of(number: int, serial: int) -> str:
    return "".join(f"Here n{number}s{serial} says whale {part}. " for part in range(2 + (number + serial) % 9))


@dataclass
class Outcome:
    role: str
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def show(self) -> None:
        fields = {"role": self.role, "done": self.done, "wrong": self.wrong[:20], "slowest": round(self.slowest, 3)}
        os.write(1, (json.dumps(fields) + "\n").encode("ascii"))  # in one piece, beside those of others


def write(folder: Path, end: float) -> None:
    """Change, remove, delete, prune, compact and reopen at random until the time is up."""
    crash_child.use_small_fakes(MonkeyPatch())
    rng = random.Random(0)
    outcome = Outcome("writer")
    numbers = board(folder)
    docs = folder / "sea"
    try:
        while _goes_on(end, enough=all(outcome.done[what] for what in WRITES)):
            with pipeline.open(folder / "index", writable=True) as qa:
                for _ in range(rng.randrange(1, 6)):
                    chosen = rng.sample(range(FILES), k=rng.randrange(1, 4))
                    missing = [what for what in WRITES if not outcome.done[what]]
                    what = rng.choice(missing or ["change", "change", *WRITES])
                    _write_once(qa, docs, numbers, chosen, what, outcome)
        with pipeline.open(folder / "index", writable=True) as qa:  # there is something to find for whoever goes on
            _write_once(qa, docs, numbers, list(range(FILES)), "change", outcome)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test has to fail
        outcome.wrong.append(f"{type(error).__name__}: {error}")
    outcome.show()


def _goes_on(end: float, *, enough: bool) -> bool:
    now = time.monotonic()
    return now < end or (not enough and now < end + PATIENCE_SECONDS)


def _write_once(
    qa: QuestionAnswering, docs: Path, numbers: np.ndarray, chosen: list[int], what: str, outcome: Outcome
) -> None:
    outcome.done[what] += 1
    if what == "compact":
        qa._index.compact()
        return
    for number in chosen:
        numbers[STARTED, number] += 1
        if what == "change":
            (docs / f"{number}.txt").write_text(text_of(number, int(numbers[STARTED, number])), encoding="utf-8")
        else:
            (docs / f"{number}.txt").unlink(missing_ok=True)
    if what == "delete":
        qa.delete([f"sea/{number}.txt" for number in chosen])
    else:
        qa.index([docs], prune=True)
    for number in chosen:
        numbers[THERE, number] = what == "change"
        numbers[COMMITTED, number] = numbers[STARTED, number]


def read(folder: Path, end: float, role: str) -> None:
    """Ask until the time is up; `role` is "reader", "reopening" or "read-only"."""
    crash_child.use_small_fakes(MonkeyPatch())
    outcome = Outcome(role)
    if role == "read-only":  # read as where nothing can be written
        MonkeyPatch().setattr("odqa.store.metadata_store.os.access", lambda *_: False)
    qa = pipeline.open(folder / "index")
    numbers = board(folder)
    try:
        while _goes_on(end, enough=all(outcome.done[what] for what in ("answers", HELD))):
            if role == "reopening":
                qa.close()
                qa = pipeline.open(folder / "index")
            began = time.monotonic()
            _read_once(qa, numbers, outcome)
            outcome.slowest = max(outcome.slowest, time.monotonic() - began)
            outcome.done["rounds"] += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the test has to fail
        outcome.wrong.append(f"{type(error).__name__}: {error}")
    qa.close()
    outcome.show()


def _read_once(qa: QuestionAnswering, numbers: np.ndarray, outcome: Outcome) -> None:
    for mode in ("dense", "text", "hybrid"):
        before = numbers.copy()
        passages = [one.passage for one in qa.search("Which whale says?", mode=mode, top_k=ALL)]
        after = numbers.copy()
        _compare(passages, before, after, outcome, mode=mode)
        outcome.done["passages"] += len(passages)
    before = numbers.copy()
    if before[THERE].any():
        result = qa.query("Which whale says?", threshold=0.0)
        _compare([one.passage for one in result.passages], before, None, outcome, mode="query")
        for answer in result.answers:
            document = qa.document(answer.passage.doc_id)
            outcome.done["answers"] += 1
            if document is None:
                continue  # deleted since
            said = {SAID.search(text)[0] for text in (document.text, answer.passage.text)}  # type: ignore[index]
            if len(said) == 1 and answer.span.of(document.text) != answer.text:
                outcome.wrong.append(f"answer {answer.text!r} does not stand at its span of {answer.passage.doc_id}")


def _compare(
    passages: list[Passage], before: np.ndarray, after: np.ndarray | None, outcome: Outcome, *, mode: str
) -> None:
    """Hold passages against the board before and (where all were asked for) after the search."""
    found: dict[int, set[int]] = {}
    for passage in passages:
        said = {(int(n), int(s)) for n, s in SAID.findall(passage.text)}
        number = int(Path(passage.doc_id).stem)
        if len(said) > 1 or {n for n, _ in said} - {number}:
            outcome.wrong.append(f"{mode}: {passage.doc_id} says {passage.text!r}")
        elif passage.text not in text_of(number, next(iter(said))[1] if said else 0) and said:
            outcome.wrong.append(f"{mode}: {passage.doc_id} never said {passage.text!r}")
        found.setdefault(number, set()).update(s for _, s in said)
    for number, serials in found.items():
        # What was replaced or deleted before the search began must not be found.
        least = before[COMMITTED, number] + (0 if before[THERE, number] else 1)
        if any(serial < least for serial in serials):
            outcome.wrong.append(f"{mode}: {number} is stale: {sorted(serials)}, {least} was committed before")
        if len(serials) > 1:
            outcome.wrong.append(f"{mode}: {number} is of several versions: {sorted(serials)}")
    if after is None:
        return
    for number in range(FILES):
        quiet = before[COMMITTED, number] == after[STARTED, number]
        if quiet and before[THERE, number] and found.get(number) != {int(before[COMMITTED, number])}:
            outcome.wrong.append(
                f"{mode}: {number} should be found as {before[COMMITTED, number]}: {found.get(number)}"
            )
        outcome.done[HELD] += int(quiet)


def main(folder: Path, seconds: float, readers: int) -> None:
    (folder / "sea").mkdir()
    board(folder)
    for number in range(FILES):
        (folder / "sea" / f"{number}.txt").write_text(text_of(number, 0), encoding="utf-8")
    numbers = board(folder)
    numbers[THERE] = 1
    start = multiprocessing.get_context("fork" if hasattr(sys, "getdlopenflags") else "spawn")
    first = start.Process(target=make, args=(folder,))
    first.start()
    first.join()
    end = time.monotonic() + seconds
    roles = [("reader", "reopening", "read-only", "reader")[n % 4] for n in range(readers)]
    crowd = [start.Process(target=read, args=(folder, end, role)) for role in roles]
    crowd.append(start.Process(target=write, args=(folder, end)))
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    print(json.dumps({"exit codes": [process.exitcode for process in crowd]}))


def make(folder: Path) -> None:
    crash_child.use_small_fakes(MonkeyPatch())
    with pipeline.open(folder / "index", create=True) as qa:
        qa.index([folder / "sea"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
