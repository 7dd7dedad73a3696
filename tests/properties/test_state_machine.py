"""Hypothesis adds, changes, deletes, prunes, compacts, reopens and crashes; a dict says what must be found."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_models import BagEncoder, use_fake_models
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))

import sqlite_calls
from crash_child import use_small_fakes

from odqa import pipeline
from odqa.pipeline import QuestionAnswering
from odqa.store.codes import to_codes
from odqa.store.faults import watched
from odqa.types import Passage

FILES = tuple(f"{name}.txt" for name in "abc")
RECORDS = ("r1", "r2")
WORDS = st.lists(st.sampled_from("whale seal orca krill reef song deep".split()), min_size=1, max_size=40)
YEARS = st.integers(1900, 1905)
# (file or record, its words, its year); without words it is removed
EDIT = st.tuples(st.sampled_from(FILES + RECORDS), st.one_of(WORDS, WORDS, WORDS, st.just([])), YEARS)
EDITS = st.lists(EDIT, min_size=1, max_size=4)
POINTS = st.integers(1, 40)
ALL = 10_000
QUICK = settings(max_examples=18, stateful_step_count=18, derandomize=True, deadline=None, database=None)
LONG = settings(max_examples=100, stateful_step_count=30, derandomize=True, deadline=None, database=None)
NO_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

# doc_id -> (text, year or None)
Model = dict[str, tuple[str, int | None]]


class IndexMachine(RuleBasedStateMachine):
    """Files lie in a folder and are put into an index; `held` is what the index must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="odqa-machine-"))
        self.docs = self.home / "docs"
        self.docs.mkdir()
        self.lives = 0  # the index lies in a new folder after each crash
        self.files: Model = {}
        self.held: Model = {}
        self.serial = 0
        self.gone: set[str] = set()  # words that stood in documents that are deleted or replaced
        self.ids: dict[int, tuple[str, str]] = {}  # every passage id that was ever seen, and what it stood for
        self.retired: set[int] = set()  # those of passages that are no longer there
        self.monkeypatch = pytest.MonkeyPatch()
        use_fake_models(self.monkeypatch)
        use_small_fakes(self.monkeypatch)

    @property
    def folder(self) -> Path:
        return self.home / f"index{self.lives}"

    @initialize(edits=st.lists(EDIT, min_size=4, max_size=8))
    def make(self, edits: list[tuple[str, list[str], int]]) -> None:
        self.writer = pipeline.open(self.folder, create=True)
        self.reader = pipeline.open(self.folder)
        self.index(edits, prune=False, vector_index=None)

    def teardown(self) -> None:
        self.reader.close()
        self.writer.close()
        self.monkeypatch.undo()
        shutil.rmtree(self.home)

    # ---- what happens to files ---------------------------------------------------------------------------------

    def _text(self, words: list[str]) -> str:
        self.serial += 1
        return f"mark{self.serial} " + " ".join(words) + f". end{self.serial}"

    def _edit(self, edits: list[tuple[str, list[str], int]]) -> None:
        """Write files and records, or remove those without words."""
        for name, words, year in edits:
            doc_id = f"docs/log.jsonl#{name}" if name in RECORDS else f"docs/{name}"
            self.files.pop(doc_id, None)
            if words:
                self.files[doc_id] = (self._text(words), year if name in RECORDS else None)
            if name in RECORDS:
                self._write_records()
            elif words:
                (self.docs / name).write_text(self.files[doc_id][0], encoding="utf-8")
            else:
                (self.docs / name).unlink(missing_ok=True)

    def _write_records(self) -> None:
        path = self.docs / "log.jsonl"
        records = {key.partition("#")[2]: value for key, value in self.files.items() if "#" in key}
        lines = [json.dumps({"id": key, "text": text, "year": year}) for key, (text, year) in records.items()]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        if not lines:
            path.unlink()  # an empty file is skipped, and what it held is not gone

    # ---- what happens to the index ------------------------------------------------------------------------------

    def _index(self, *, prune: bool, vector_index: str | None = None) -> None:
        self.writer.index([self.docs], prune=prune, vector_index=vector_index)

    def _indexed(self, *, prune: bool) -> Model:
        return dict(self.files) if prune else {**self.held, **self.files}

    def _now(self, model: Model) -> None:
        """Go over to what the index holds from now on."""
        self.gone |= _names(self.held)
        self.gone -= _names(model)  # a file that was deleted from the index may have been put in again
        self.held = model

    @rule(
        edits=EDITS | st.just([]), prune=st.booleans(), vector_index=st.sampled_from([None, "auto", "flat", "binary"])
    )
    def index(self, edits: list[tuple[str, list[str], int]], prune: bool, vector_index: str | None) -> None:
        self._edit(edits)
        self._index(prune=prune, vector_index=vector_index)
        self._now(self._indexed(prune=prune))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        doomed = data.draw(st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=3, unique=True))
        assert self.writer.delete([*doomed, "docs/nobody.txt"]) == doomed
        self._now({doc_id: value for doc_id, value in self.held.items() if doc_id not in doomed})

    @rule()
    def compact(self) -> None:
        self.writer._index.compact()
        assert self.writer.status().tombstones == 0

    @rule(which=st.sampled_from(["reader", "writer", "both"]))
    def reopen(self, which: str) -> None:
        if which != "writer":
            self.reader.close()
        if which != "reader":
            self.writer.close()
            self.writer = pipeline.open(self.folder, writable=True)
        if which != "writer":
            self.reader = pipeline.open(self.folder)

    @rule(position=st.floats(0, 1))
    def damage_the_snapshot(self, position: float) -> None:
        """Flip a bit of the cache; it is put in place by a rename, for the old one may be mapped."""
        for path in self.folder.glob("vectors-*.faiss"):
            data = bytearray(path.read_bytes())
            data[min(int(position * len(data)), len(data) - 1)] ^= 1 << 3
            path.with_name("damaged").write_bytes(data)
            path.with_name("damaged").replace(path)

    @rule(edits=EDITS, prune=st.booleans(), point=POINTS, with_shm=st.booleans())
    def crash_while_indexing(
        self, edits: list[tuple[str, list[str], int]], prune: bool, point: int, with_shm: bool
    ) -> None:
        self._edit(edits)
        self._crash(lambda: self._index(prune=prune), self._indexed(prune=prune), point, with_shm)

    @precondition(lambda self: self.held)
    @rule(point=POINTS, with_shm=st.booleans())
    def crash_while_deleting(self, point: int, with_shm: bool) -> None:
        doomed = sorted(self.held)[:2]
        left = {doc_id: value for doc_id, value in self.held.items() if doc_id not in doomed}
        self._crash(lambda: self.writer.delete(doomed), left, point, with_shm)

    @rule(point=POINTS, with_shm=st.booleans())
    def crash_while_compacting(self, point: int, with_shm: bool) -> None:
        self._crash(lambda: self.writer._index.compact(), self.held, 3 * point, with_shm)  # of that moment

    def _crash(self, run: Callable[[], object], after: Model, point: int, with_shm: bool) -> None:
        """Die at a point: go on with the files as they lay there at that moment, locks and memory forgotten."""
        remains = self.home / f"index{self.lives + 1}"
        passed = 0

        def die(_name: str) -> None:
            nonlocal passed
            passed += 1
            if passed == point:
                ignored = shutil.ignore_patterns() if with_shm else shutil.ignore_patterns("*-shm")
                shutil.copytree(self.folder, remains, ignore=ignored)

        # SQLite's calls are seen in files that are opened meanwhile.
        self.writer.close()
        with sqlite_calls.hooked(), watched(die):
            self.writer = pipeline.open(self.folder, writable=True)
            run()
        event(f"died: {passed >= point}")
        if passed < point:  # it was through before
            self._now(after)
            return
        self.reader.close()
        self.writer.close()
        self.lives += 1
        self.reader = pipeline.open(self.folder)
        found = _documents(self.reader)
        for doc_id in found.keys() | self.held.keys() | after.keys():
            assert found.get(doc_id) in (self.held.get(doc_id), after.get(doc_id)), doc_id
        self._now(found)
        self.writer = pipeline.open(self.folder, writable=True)

    # ---- what holds at all times --------------------------------------------------------------------------------

    @invariant()
    def both_hold_what_they_must(self) -> None:
        for qa in (self.writer, self.reader):
            assert _documents(qa) == self.held
            if self.held:
                self._searches(qa)
        if not self.held:
            assert len(self.reader._index) == 0
            self.retired = set(self.ids)

    def _searches(self, qa: QuestionAnswering) -> None:
        by_vector = [one.passage for one in qa.search("whale song", mode="dense", top_k=ALL)]
        living = {passage.passage_id: passage for passage in by_vector}
        assert len(living) == len(by_vector) == len(qa._index)
        for doc_id, (text, _) in self.held.items():
            own = sorted((p.span.start, p.span.end) for p in by_vector if p.doc_id == doc_id)
            covered = {position for start, end in own for position in range(start, end)}
            assert all(at in covered or text[at].isspace() for at in range(len(text)))
        for passage in by_vector:
            assert passage.span.of(self.held[passage.doc_id][0]) == passage.text
            assert self.ids.setdefault(passage.passage_id, (passage.doc_id, passage.text)) == (
                passage.doc_id,
                passage.text,
            )
        assert not living.keys() & self.retired  # not even for the same text of the same document
        self.retired = self.ids.keys() - living.keys()
        said = {word for passage in by_vector for word in passage.text.replace(".", "").split()}
        assert not said & self.gone
        assert [passage.passage_id for passage in by_vector] == _brute_force("whale song", by_vector)
        hybrid = qa.search("whale song mark1 end2", top_k=ALL)
        assert {one.passage.passage_id for one in hybrid} == living.keys()
        assert qa.search("whale song mark1 end2", top_k=ALL) == hybrid  # the same order every time
        if self.gone:
            assert qa.search(" ".join(sorted(self.gone)), mode="text", top_k=ALL) == ()
        for doc_id, (text, _) in self.held.items():
            word = text.split()[0]
            found = qa.search(word, mode="text", top_k=ALL)
            assert [one.passage.doc_id for one in found] == [doc_id]
        self._filters(qa, by_vector)

    def _filters(self, qa: QuestionAnswering, living: list[Passage]) -> None:
        expected: dict[str, set[str]] = {
            "suffix=.txt": {doc_id for doc_id in self.held if doc_id.endswith(".txt")},
            "doc_id^=docs/log": {doc_id for doc_id in self.held if "log" in doc_id},
        }
        years = {doc_id: year for doc_id, (_, year) in self.held.items() if year is not None}
        if years:
            expected["year>=1903"] = {doc_id for doc_id, year in years.items() if year >= 1903}
            expected["year!=1901"] = {doc_id for doc_id in self.held if years.get(doc_id) != 1901}
        for where, doc_ids in expected.items():
            found = [one.passage for one in qa.search("whale song", mode="dense", top_k=ALL, where=[where])]
            assert found == [passage for passage in living if passage.doc_id in doc_ids]


def _names(model: Model) -> set[str]:
    """The words that only one text has."""
    words = {word for text, _ in model.values() for word in text.replace(".", "").split()}
    return {word for word in words if word.startswith(("mark", "end"))}


def _documents(qa: QuestionAnswering) -> Model:
    found = {doc_id: qa.document(doc_id) for doc_id in qa.doc_ids()}
    assert all(found.values())
    return {doc_id: (d.text, d.metadata.get("year")) for doc_id, d in found.items() if d}  # type: ignore[misc]


def _brute_force(question: str, passages: list[Passage]) -> list[int]:
    """Ids by squared distance in half precision, then by id: what dense search has to say, without FAISS."""
    encoder = BagEncoder()
    ordered = sorted(passages, key=lambda passage: passage.passage_id)
    titles = [passage.title for passage in ordered]
    vectors = encoder.encode_passages([passage.text for passage in ordered], titles=titles)
    codes = to_codes(vectors, width=vectors.shape[1]).astype(np.float32)
    distances = ((codes - encoder.encode_questions([question])) ** 2).sum(axis=1, dtype=np.float32)
    return [ordered[row].passage_id for row in np.lexsort((np.arange(len(ordered)), np.round(distances, 4)))]


@pytest.mark.parametrize("profile", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)], ids=["quick", "long"])
def test_an_index_is_a_dict(profile: settings) -> None:
    run_state_machine_as_test(IndexMachine, settings=settings(profile, suppress_health_check=NO_CHECKS))
