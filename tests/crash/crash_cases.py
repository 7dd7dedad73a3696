"""The commands that are disturbed: what each begins with and leads to, and how the outcome is looked at."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crash_child import Job, Server

from odqa import cli, pipeline
from odqa.store.blocks import decode_text

# doc_id -> (text, vectors by span); a document is one of these, or is not there.
Held = tuple[str, tuple[tuple[int, int, bytes], ...]]
State = dict[str, Held]

ANIMALS = "whale seal orca krill gull cod eel ray".split()


def text_of(animal: str, version: int) -> str:
    """A text of a few passages in which every sentence names its document, its version and its place."""
    return "".join(
        f"Sentence {n} of the {animal} says {animal}{version}x{n} about the {animal}. " for n in range(3 + version)
    )


def write_version(docs: Path, animals: list[str], version: int) -> None:
    docs.mkdir(exist_ok=True)
    for animal in animals:
        (docs / f"{animal}.txt").write_text(text_of(animal, version), encoding="utf-8")


def state_of(folder: Path) -> State:
    """Read what an index holds straight out of SQLite, by contents: ids and generations may differ between runs.

    What lies in `-wal` stays there: odqa itself has to cope with it.
    """
    if not (folder / "odqa.sqlite").exists():
        return {}
    connection = sqlite3.connect(f"file:{folder / 'odqa.sqlite'}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        rows = connection.execute("SELECT document_pk, doc_id FROM documents ORDER BY doc_id").fetchall()
        held: State = {}
        for pk, doc_id in rows:
            blocks = connection.execute(
                "SELECT text, checksum FROM document_blocks WHERE document_pk = ? ORDER BY start", (pk,)
            ).fetchall()
            passages = connection.execute(
                'SELECT "start", "end", vector FROM passages JOIN vectors USING (passage_id)'
                " WHERE document_pk = ? ORDER BY passage_id",
                (pk,),
            ).fetchall()
            held[doc_id] = "".join(decode_text(*block) for block in blocks), tuple(passages)
        return held
    finally:
        connection.close()


@dataclass(frozen=True)
class Case:
    """A command, the index that it begins with (None: there is none), and what both hold before and after."""

    name: str
    words: tuple[str, ...]
    template: Path
    before: State
    after: State
    damage: frozenset[str] = frozenset()  # kinds of problems that `check` finds before
    codes: tuple[int, ...] = (0,)  # of a second run after a first one that was through

    def command(self, folder: Path) -> list[str]:
        return [*self.words, "--index-dir", str(folder)]

    def begin(self, folder: Path) -> Path:
        """Put the index in place that the command begins with."""
        shutil.rmtree(folder, ignore_errors=True)
        if self.template.exists():
            shutil.copytree(self.template, folder)
        return folder


def assert_sound(case: Case, folder: Path, told: str) -> None:
    """The index opens, each document is as before or as after, `check` is clean, and queries return right text."""
    held = state_of(folder)
    for doc_id in held.keys() | case.before.keys() | case.after.keys():
        assert held.get(doc_id) in (case.before.get(doc_id), case.after.get(doc_id)), f"{told}: {doc_id}"
    if (folder / "odqa.sqlite").exists():
        if held and not (case.damage and held == case.before):
            assert_right_answers(folder, held, told)
        report = pipeline.check(folder)
        assert {problem.kind for problem in report.problems} <= case.damage, f"{told}: {report.problems}"
        assert report.documents == len(held), told
    else:
        assert case.before == {}, told


def assert_goes_on(case: Case, folder: Path, told: str) -> None:
    """Running the command again ends in the state of an undisturbed run, and leaves nothing lying about."""
    assert cli.main(case.command(folder)) in case.codes, told
    assert state_of(folder) == case.after, told
    assert pipeline.check(folder).problems == (), told
    left = {re.sub(r"\d+", "N", path.name) for path in folder.iterdir()}  # an older snapshot goes with the next one
    assert left == {"lock", "odqa.sqlite", "vectors-N.faiss"}, f"{told}: {left}"


def assert_right_answers(folder: Path, held: State, told: str) -> None:
    """Every living passage is found by its vector and by its words, with its own text, and no other one is."""
    passages = {(doc_id, span[:2]) for doc_id, (_, spans) in held.items() for span in spans}
    words = {animal: " ".join(f"{animal}{version}x2" for version in (1, 2)) for animal in ANIMALS}
    with pipeline.open(folder) as qa:
        by_vector = qa.search("whale", mode="dense", top_k=len(passages) + 10)
        by_words = qa.search(" ".join(words.values()), mode="text", top_k=len(passages) + 10)
        asked = qa.query("What says whale1x2?", top_k=3)
    for one in (*by_vector, *by_words, *asked.passages):
        assert one.passage.span.of(held[one.passage.doc_id][0]) == one.passage.text, told
    for answer in asked.answers:
        assert answer.span.of(held[answer.passage.doc_id][0]) == answer.text, told
    found = {(one.passage.doc_id, (one.passage.span.start, one.passage.span.end)) for one in by_vector}
    assert found == passages, told
    for doc_id, (text, _) in held.items():
        texts = "".join(one.passage.text for one in by_words if one.passage.doc_id == doc_id)
        for word in " ".join(words.values()).split():
            assert (word in text) == (word in texts), (told, doc_id, word)


def _index(folder: Path, docs: Path, *words: str) -> None:
    assert cli.main(["index", str(docs), "--index-dir", str(folder), *words]) == 0


def _delete(folder: Path, *doc_ids: str) -> None:
    assert cli.main(["delete", *doc_ids, "--index-dir", str(folder)]) == 0


def _injure(folder: Path) -> None:
    """Take a vector away and flip a bit of the snapshot."""
    connection = sqlite3.connect(folder / "odqa.sqlite")
    connection.execute("DELETE FROM vectors WHERE passage_id = (SELECT min(passage_id) FROM vectors)")
    connection.commit()
    connection.close()
    for path in folder.glob("vectors-*"):
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)


def _prepare_update(folder: Path, docs: Path) -> None:
    _index(folder, docs)
    write_version(docs, ANIMALS[:3], 2)
    write_version(docs, ANIMALS[5:7], 1)


def _prepare_prune(folder: Path, docs: Path) -> None:
    _index(folder, docs)
    (docs / "seal.txt").unlink()
    (docs / "orca.txt").unlink()
    write_version(docs, ["krill"], 2)


def _prepare_compact(folder: Path, docs: Path) -> None:
    _prepare_update(folder, docs)
    _index(folder, docs)
    _delete(folder, "docs/orca.txt")
    for snapshot in folder.glob("vectors-*.faiss"):  # so that compaction has to write one
        snapshot.unlink()


def _prepare_repair(folder: Path, docs: Path) -> None:
    _index(folder, docs)
    _injure(folder)


# name -> (how the index is made that the command begins with, the command, exit codes of another run)
PREPARED: dict[str, tuple[Callable[[Path, Path], None] | None, tuple[str, ...], tuple[int, ...]]] = {
    "index": (None, ("index", "DOCS"), (0,)),
    "update": (_prepare_update, ("index", "DOCS"), (0,)),
    "delete": (_index, ("delete", "docs/whale.txt", "docs/orca.txt"), (0, 1)),
    "prune": (_prepare_prune, ("index", "DOCS", "--prune"), (0,)),
    "compact": (_prepare_compact, ("compact",), (0,)),
    "repair": (_prepare_repair, ("check", "--repair"), (0,)),
    "binary": (_prepare_update, ("index", "DOCS", "--vector-index", "binary"), (0,)),  # an update, too
}


def make_case(name: str, folder: Path, server: Server) -> Case:
    """Make the documents and the index of a case in `folder`, and see what an undisturbed run leads to."""
    prepare, words, codes = PREPARED[name]
    docs, template, end = folder / "docs", folder / "template", folder / "end"
    write_version(docs, ANIMALS[:5], 1)
    if prepare is not None:
        prepare(template, docs)
        shutil.copytree(template, end)
    words = tuple(str(docs) if word == "DOCS" else word for word in words)
    before = state_of(template)
    damage = frozenset(p.kind for p in pipeline.check(template).problems) if before else frozenset()
    code, _ = server.run(Job([*words, "--index-dir", str(end)], log=str(folder / "log")))
    assert code == 0, (folder / "log").read_text("utf-8")
    return Case(name, words, template, before, state_of(end), damage, codes)


def hash_of(folder: Path) -> dict[str, str]:
    """The bytes of everything in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
