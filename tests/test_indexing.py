from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fake_models
import pytest
from fake_models import contents, write_files

from odqa import pipeline, settings
from odqa.errors import IngestError, ModelError, SkippedFileError
from odqa.protocols import Vectors
from odqa.types import IndexProgress, IndexReport

ESSAYS = {
    "a.txt": "Ada wrote the first program. The engine was never built.",
    "b.md": "# Whales\n\nThe whale sings in Skarn.\n\n# Seals\n\nThe seal barks.\n",
    "deep/c.html": "<html><head><title>Gulls</title></head><body><h1>Gulls</h1><p>The gull steals.</p></body></html>",
    "log.jsonl": '{"id": "one", "title": "First", "text": "The first entry.", "year": 1901}\n'
    '{"id": "two", "text": "The second entry.", "year": 1902}\n',
}
ESSAY_IDS = ["docs/a.txt", "docs/b.md", "docs/deep/c.html", "docs/log.jsonl#one", "docs/log.jsonl#two"]


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_files(tmp_path / "docs", ESSAYS)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return tmp_path / "index"


def run(
    index_dir: Path,
    *paths: Path,
    prune: bool = False,
    strict: bool = False,
    progress: Callable[[IndexProgress], None] | None = None,
) -> IndexReport:
    with pipeline.open(index_dir, create=True) as qa:
        return qa.index(list(paths), prune=prune, strict=strict, progress=progress)


def counts(report: IndexReport) -> tuple[int, int, int, int, int, int]:
    lists = (report.vanished, report.pruned, report.skipped)
    return (len(report.added), len(report.updated), report.unchanged, *(len(one) for one in lists))  # type: ignore[return-value]


def generation(index_dir: Path) -> int:
    with pipeline.open(index_dir) as qa:
        return qa.status().generation


def test_everything_is_added_once(docs: Path, index_dir: Path) -> None:
    report = run(index_dir, docs)
    assert list(report.added) == ESSAY_IDS
    assert counts(report) == (5, 0, 0, 0, 0, 0)
    assert {doc_id: text for doc_id, (text, _) in contents(index_dir).items()}["docs/log.jsonl#two"] == (
        "The second entry."
    )
    with pipeline.open(index_dir) as qa:
        assert (qa.status().documents, qa.status().passages) == (5, report.passages)
        document = qa.document("docs/log.jsonl#one")
        assert document is not None
        assert (document.title, document.record, document.metadata) == ("First", "one", {"year": 1901})
        assert document.source == (docs / "log.jsonl").resolve().as_posix()


def test_every_passage_has_its_own_vector_behind_its_title(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    with pipeline.open(index_dir) as qa:
        passages = [one.passage for one in qa.search("anything", mode="dense", top_k=100)]
        assert {passage.title for passage in passages} >= {"a", "Gulls", "First"}
        for passage in passages:
            nearest = qa.search(f"{passage.title}\n{passage.text}", mode="dense", top_k=1)[0]
            assert nearest.passage == passage
            assert nearest.dense_score == pytest.approx(0.0, abs=1e-5)


def test_the_second_run_does_nothing(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    before, files = generation(index_dir), sorted(path.name for path in index_dir.iterdir())
    report = run(index_dir, docs)
    assert counts(report) == (0, 0, 5, 0, 0, 0)
    assert report.passages == 0
    assert generation(index_dir) == before
    assert sorted(path.name for path in index_dir.iterdir()) == files


def test_a_changed_file_is_updated_and_keeps_its_id(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    (docs / "a.txt").write_text("Ada dreamt of walruses.", encoding="utf-8")
    os.utime(docs / "b.md", (1, 1))  # a touched file is the same file
    report = run(index_dir, docs)
    assert (report.updated, report.unchanged, report.added) == (("docs/a.txt",), 4, ())
    with pipeline.open(index_dir) as qa:
        assert qa.search("walruses", mode="text")[0].passage.doc_id == "docs/a.txt"
        assert qa.search("engine", mode="text") == ()


def test_a_vanished_file_stays_until_pruned(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    (docs / "a.txt").unlink()
    (docs / "deep" / "c.html").unlink()
    report = run(index_dir, docs)
    assert (report.vanished, report.pruned) == (("docs/a.txt", "docs/deep/c.html"), ())
    assert set(contents(index_dir)) == set(ESSAY_IDS)
    report = run(index_dir, docs, prune=True)
    assert (report.vanished, report.pruned) == ((), ("docs/a.txt", "docs/deep/c.html"))
    assert set(contents(index_dir)) == set(ESSAY_IDS) - {"docs/a.txt", "docs/deep/c.html"}
    with pipeline.open(index_dir) as qa:
        assert qa.search("engine", mode="text") == ()
        assert qa.document("docs/a.txt") is None


def test_pruning_looks_only_below_the_given_paths(docs: Path, index_dir: Path, tmp_path: Path) -> None:
    other = write_files(tmp_path / "docs2", {"x.txt": "A walrus."})
    run(index_dir, docs, other)
    (other / "x.txt").unlink()
    (docs / "deep" / "c.html").unlink()
    assert run(index_dir, docs / "a.txt", prune=True).pruned == ()
    assert run(index_dir, docs, prune=True).pruned == ("docs/deep/c.html",)
    assert run(index_dir, other, prune=True).pruned == ("docs2/x.txt",)


def test_a_removed_record_has_vanished(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    log = docs / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8").splitlines(keepends=True)[1], encoding="utf-8")
    report = run(index_dir, docs)
    assert (report.vanished, report.unchanged) == (("docs/log.jsonl#one",), 4)
    assert run(index_dir, log, prune=True).pruned == ("docs/log.jsonl#one",)


def test_a_changed_record_alone_is_updated(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    log = docs / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace("1902", "1903"), encoding="utf-8")
    assert run(index_dir, docs).updated == ("docs/log.jsonl#two",)


# ---- what could not be read is not gone ----------------------------------------------------------------------------


def test_records_behind_a_damage_are_not_pruned(index_dir: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"id": str(i), "text": f"{os.urandom(400).hex()} entry {i}."}) for i in range(200)]
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    run(index_dir, packed)
    packed.write_bytes(packed.read_bytes()[:-5000])
    report = run(index_dir, packed, prune=True)
    assert report.unchanged < 200
    assert len(report.skipped) == 1
    assert (report.vanished, report.pruned) == ((), ())
    assert len(contents(index_dir)) == 200


def test_a_record_whose_line_is_damaged_is_not_pruned(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    log = docs / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('{"id": "one"', '{"id": "one'), encoding="utf-8")
    report = run(index_dir, docs, prune=True)
    assert [skipped.source for skipped in report.skipped] == [f"{log.resolve().as_posix()}:line 1"]
    assert (report.unchanged, report.pruned) == (4, ())


def test_a_file_that_became_unreadable_is_not_pruned(docs: Path, index_dir: Path) -> None:
    run(index_dir, docs)
    (docs / "a.txt").write_bytes(b"")
    (docs / "b.md").write_text(" \n", encoding="utf-8")
    report = run(index_dir, docs, prune=True)
    assert [Path(skipped.source).name for skipped in report.skipped] == ["a.txt", "b.md"]
    assert report.pruned == ()


def test_files_of_a_folder_that_cannot_be_listed_are_not_pruned(
    docs: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(index_dir, docs)
    scandir = os.scandir

    def failing(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("odqa.ingest.sources.os.scandir", failing)
    report = run(index_dir, docs, prune=True)
    assert [Path(skipped.source).name for skipped in report.skipped] == ["deep"]
    assert (report.unchanged, report.pruned) == (4, ())


def test_a_hidden_folder_that_was_given_by_name_is_not_pruned(docs: Path, index_dir: Path) -> None:
    write_files(docs / ".drafts", {"d.txt": "A hidden walrus."})
    run(index_dir, docs, docs / ".drafts")
    assert counts(run(index_dir, docs, prune=True)) == (0, 0, 5, 0, 0, 0)
    (docs / ".drafts" / "d.txt").unlink()
    assert run(index_dir, docs, prune=True).pruned == (".drafts/d.txt",)


# ---- skipping ------------------------------------------------------------------------------------------------------


def test_skipped_files_keep_the_run_going(docs: Path, index_dir: Path) -> None:
    write_files(docs, {"0.txt": "", "a.xyz": "what?", "broken.jsonl": '{"text": "Fine."}\nnot json\n{"id": 1}\n'})
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 nothing of the kind")
    report = run(index_dir, docs)
    names = [skipped.source.removeprefix(docs.resolve().as_posix() + "/") for skipped in report.skipped]
    assert names == ["0.txt", "a.xyz", "broken.jsonl:line 2", "broken.jsonl:line 3", "broken.pdf"]
    assert all(skipped.reason for skipped in report.skipped)
    assert set(report.added) == {*ESSAY_IDS, "docs/broken.jsonl#line-1"}


def test_strict_raises_at_the_first_and_keeps_what_came_before(docs: Path, index_dir: Path) -> None:
    write_files(docs, {"b.txt": "", "c.xyz": "never reached"})
    with pytest.raises(SkippedFileError, match=r"b\.txt: empty file \(0 bytes\)"):
        run(index_dir, docs, strict=True)
    assert set(contents(index_dir)) == {"docs/a.txt", "docs/b.md"}
    (docs / "b.txt").unlink()
    (docs / "c.xyz").unlink()
    report = run(index_dir, docs, strict=True)
    assert (report.unchanged, len(report.added)) == (2, 3)


def test_a_missing_path_is_an_error_before_anything_is_read(docs: Path, index_dir: Path) -> None:
    with pytest.raises(IngestError, match=r"nowhere: does not exist"):
        run(index_dir, docs, docs / "nowhere")
    assert contents(index_dir) == {}


# ---- names ---------------------------------------------------------------------------------------------------------


def test_the_same_relative_path_in_two_folders(tmp_path: Path, index_dir: Path) -> None:
    write_files(tmp_path, {"a/x.txt": "The text of a.", "b/x.txt": "The text of b."})
    assert run(index_dir, tmp_path / "a", tmp_path / "b").added == ("a/x.txt", "b/x.txt")
    assert {i: text for i, (text, _) in contents(index_dir).items()} == {
        "a/x.txt": "The text of a.",
        "b/x.txt": "The text of b.",
    }


def test_the_same_folder_name_under_two_parents(tmp_path: Path, index_dir: Path) -> None:
    write_files(tmp_path, {"one/a/x.txt": "First.", "two/a/x.txt": "Second.", "three/a/x.txt": "Third."})
    assert run(index_dir, tmp_path / "one" / "a").added == ("a/x.txt",)
    assert run(index_dir, tmp_path / "two" / "a", tmp_path / "three" / "a").added == ("a/x.txt~2", "a/x.txt~3")
    (tmp_path / "two" / "a" / "x.txt").write_text("Second, changed.", encoding="utf-8")
    assert run(index_dir, tmp_path / "two" / "a").updated == ("a/x.txt~2",)
    assert {i: text for i, (text, _) in contents(index_dir).items()} == {
        "a/x.txt": "First.",
        "a/x.txt~2": "Second, changed.",
        "a/x.txt~3": "Third.",
    }


def test_overlapping_paths_index_a_document_once(docs: Path, index_dir: Path) -> None:
    report = run(index_dir, docs / "deep", docs, docs / "a.txt", docs)
    assert sorted(report.added) == ["deep/c.html", *(doc_id for doc_id in ESSAY_IDS if "deep" not in doc_id)]
    assert counts(run(index_dir, docs, docs / "deep")) == (0, 0, 5, 0, 0, 0)
    (docs / "a.txt").unlink()
    assert run(index_dir, docs, docs, prune=True).pruned == ("docs/a.txt",)


# ---- progress and interruption -------------------------------------------------------------------------------------


def many(folder: Path) -> Path:
    return write_files(folder, {f"{i:02}.txt": f"Whale {i} sings song number {i * i}." for i in range(40)})


def test_progress_goes_on_within_a_file(tmp_path: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "COMMIT_PASSAGES", 1)
    lines = [json.dumps({"id": f"r{n}", "text": f"The entry {n} of {os.urandom(8000).hex()}."}) for n in range(6)]
    path = tmp_path / "big.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    seen: list[IndexProgress] = []
    run(index_dir, path, progress=seen.append)
    done = [one.bytes_done for one in seen]
    assert done == sorted(done)
    assert 0 in done
    assert any(0 < one < path.stat().st_size for one in done)
    assert done[-1] == path.stat().st_size == seen[-1].bytes_total


def test_progress_ends_with_everything(docs: Path, index_dir: Path) -> None:
    seen: list[IndexProgress] = []
    report = run(index_dir, docs, progress=seen.append)
    sizes = [path.stat().st_size for path in docs.rglob("*") if path.is_file()]
    assert {one.bytes_total for one in seen} == {sum(sizes)}
    done = [one.bytes_done for one in seen]
    assert done == sorted(done)
    assert (seen[-1].documents, seen[-1].passages, seen[-1].bytes_done) == (5, report.passages, sum(sizes))
    assert seen[-1].current.endswith("docs/log.jsonl")


def test_an_interrupted_run_keeps_what_was_committed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "COMMIT_PASSAGES", 8)
    folder = many(tmp_path / "whales")
    run(tmp_path / "undisturbed", folder)

    def interrupt(progress: IndexProgress) -> None:
        if progress.passages >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "interrupted", folder, progress=interrupt)
    kept = contents(tmp_path / "interrupted")
    assert list(kept) == [f"whales/{i:02}.txt" for i in range(16)]
    report = run(tmp_path / "interrupted", folder)
    assert (report.unchanged, len(report.added)) == (16, 24)
    assert contents(tmp_path / "interrupted") == contents(tmp_path / "undisturbed")
    with pipeline.open(tmp_path / "undisturbed") as whole, pipeline.open(tmp_path / "interrupted") as resumed:
        assert whole.doc_ids() == resumed.doc_ids()
        for question in ("Which whale sings song number 49?", "song"):
            one, other = whole.search(question), resumed.search(question)
            assert [(p.passage, p.score) for p in one] == [(p.passage, p.score) for p in other]


def test_what_cannot_be_encoded_is_told_and_what_was_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "COMMIT_PASSAGES", 8)
    folder = many(tmp_path / "whales")
    encode = fake_models.BagEncoder.encode_passages

    def refuse(self: fake_models.BagEncoder, passages: Sequence[str], **more: Any) -> Vectors:
        if any("Whale 25 " in passage for passage in passages):
            raise ModelError("these are no numbers")
        return encode(self, passages, **more)

    monkeypatch.setattr(fake_models.BagEncoder, "encode_passages", refuse)
    with pytest.raises(ModelError, match="these are no numbers"):
        run(tmp_path / "index", folder)
    assert list(contents(tmp_path / "index")) == [f"whales/{i:02}.txt" for i in range(24)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("odqa")]


def test_two_batches_are_encoded_at_once_and_stored_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "COMMIT_PASSAGES", 8)
    encode, both, second = fake_models.BagEncoder.encode_passages, threading.Barrier(2), threading.Event()

    def meet(self: fake_models.BagEncoder, passages: Sequence[str], **more: Any) -> Vectors:
        started = passages[0].split()[1]
        if started in ("0", "8"):
            both.wait(timeout=60)  # an error unless both batches are under way
        if started == "0":
            assert second.wait(timeout=60)
        vectors = encode(self, passages, **more)
        if started == "8":
            second.set()
        return vectors

    monkeypatch.setattr(fake_models.BagEncoder, "encode_passages", meet)
    run(tmp_path / "index", many(tmp_path / "whales"))
    assert list(contents(tmp_path / "index")) == [f"whales/{i:02}.txt" for i in range(40)]


def test_an_empty_folder_makes_an_empty_index(tmp_path: Path, index_dir: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert counts(run(index_dir, tmp_path / "nothing")) == (0, 0, 0, 0, 0, 0)
    assert contents(index_dir) == {}
