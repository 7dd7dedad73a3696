"""What indexing holds in memory does not grow with the corpus: names of documents and nothing of their contents."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "memory_child.py"
_spec = importlib.util.spec_from_file_location("memory_child", BENCHMARK)
assert _spec is not None and _spec.loader is not None
memory_child = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(memory_child)

# Linux counts what the parent held when the program began to the program's peak, so a small parent is put between.
MEASURE = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak(*words: object) -> int:
    command = [sys.executable, "-c", MEASURE, sys.executable, str(BENCHMARK), *map(str, words)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peaks(tmp_path: Path, *, documents: tuple[int, ...], files: bool) -> tuple[list[int], list[int], int]:
    """Return the peaks in bytes of indexing corpora anew and without change, and the bytes of a document's contents."""
    anew, unchanged = [], []
    for count in documents:
        corpus, index = tmp_path / f"corpus-{count}", tmp_path / f"index-{count}"
        size = memory_child.make_corpus(corpus, count, files=files) // count
        anew.append(peak("index", index, corpus))
        unchanged.append(peak("index", index, corpus))
    return anew, unchanged, size + 2 * memory_child.WIDTH


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Of a document's text and vectors, 3.5 kB, nothing is kept; its name may be."""
    documents = (2000, 6000)  # the caches of SQLite are full from about 1,500 on
    anew, unchanged, contents = peaks(tmp_path, documents=documents, files=False)
    assert contents > 3500
    more = documents[1] - documents[0]
    assert (anew[1] - anew[0]) / more < contents / 2, anew
    assert (unchanged[1] - unchanged[0]) / more < contents / 4, unchanged


@pytest.mark.slow
@pytest.mark.parametrize("files", [False, True])
def test_memory_at_one_four_and_sixteen_times_the_corpus(tmp_path: Path, files: bool) -> None:
    documents = (1000, 4000, 16_000)
    anew, unchanged, contents = peaks(tmp_path, documents=documents, files=files)
    for found in (anew, unchanged):
        assert max(found) < 1.2 * found[0], found
        assert (found[2] - found[0]) / (documents[2] - documents[0]) < contents / 4, found


def test_a_run_without_change_knows_all_documents(tmp_path: Path) -> None:
    """The benchmark measures what it says: first everything is added, then nothing."""
    memory_child.make_corpus(tmp_path / "corpus", 60, files=True)
    for expected in ({"added": 60, "unchanged": 0, "passages": 60}, {"added": 0, "unchanged": 60, "passages": 0}):
        words = [sys.executable, str(BENCHMARK), "index", str(tmp_path / "index"), str(tmp_path / "corpus")]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        assert json.loads(done.stdout) == expected


def test_vectors_of_a_snapshot_are_searched_where_they_are_mapped(tmp_path: Path) -> None:
    """Every code that FAISS scans lies in the mapped file: opening a snapshot copies ids, and nothing else."""
    memory_child.make_snapshot(tmp_path, 5000)
    [(_, path)] = memory_child.snapshot_paths(tmp_path)
    snapshot = memory_child.open_snapshot(path, uuid=memory_child.UUID_OF_MADE, width=memory_child.WIDTH)
    vectors = memory_child.SegmentedVectorIndex(memory_child.WIDTH)
    vectors.add_codes(snapshot.ids, snapshot.codes, mapped=True)
    base = snapshot.codes
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    [segment] = vectors._segments
    assert np.shares_memory(segment.codes, base)
    assert not segment.codes.flags.writeable
