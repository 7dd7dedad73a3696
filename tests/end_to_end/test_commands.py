"""The command `odqa` in processes of its own: what a user sees, with the bundled models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import CORPUS, QUESTIONS, WITH_CTRL_C, WITH_MODELS, as_json, environment, failed, odqa

from odqa import pipeline
from odqa.models import registry
from odqa.settings import DEFAULT_ENCODER

QUESTION = "Who designed the Town Hall of Skarnhaven?"
ANSWER = "Odile Marchetti"
NOT_SAID = "What is the boiling point of nitrogen?"
MANY_FILES = 1500


@pytest.fixture
def copied(sample_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_index, tmp_path / "copied"))


def frozen_state(index_dir: Path) -> dict[str, bytes]:
    """Everything in the folder, but SQLite's side files, which come and go with readers."""
    files = [path for path in index_dir.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {path.name: path.read_bytes() for path in files}


def change_database(index_dir: Path, statement: str) -> None:
    connection = sqlite3.connect(index_dir / "odqa.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


# ---- commands that do what they are asked --------------------------------------------------------------------------


def test_index_reports_what_it_did(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "gull.txt").write_text("The gull of Skarn steals chips.", encoding="utf-8")
    (docs / "empty.txt").write_bytes(b"")
    words = ("index", docs, "--index-dir", tmp_path / "index")
    done = odqa(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 added, 0 updated, 0 unchanged, 0 vanished, 0 pruned, 1 skipped" in done.stdout
    assert "empty.txt: empty file (0 bytes)" in done.stdout
    assert as_json(odqa(*words, "--json"))["unchanged"] == 1
    (docs / "gull.txt").unlink()
    assert as_json(odqa(*words, "--json", "--prune"))["pruned"] == ["docs/gull.txt"]
    assert "empty.txt" in failed(odqa(*words, "--strict"), 1)


def test_query_for_people(sample_index: Path) -> None:
    done = odqa("query", QUESTION, "--index-dir", sample_index)
    assert (done.returncode, done.stderr) == (0, "")
    assert ANSWER in done.stdout.splitlines()[0]
    assert 'skarnhaven.md, under "Buildings", characters [' in done.stdout
    assert f"{ANSWER}<<" in done.stdout


def test_the_command_does_not_import_what_it_has_no_use_for(sample_index: Path) -> None:
    done = odqa("query", QUESTION, "--index-dir", sample_index, extra={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"openvino", "odqa.pipeline"} <= imported
    assert not {name for name in imported if name.startswith(("openvino.tools.ovc.", "openvino_telemetry"))}
    assert not imported & {"odqa.indexing", "lxml", "pypdfium2", "docx", "numpy.testing"}


def test_query_for_programs(sample_index: Path) -> None:
    options = ("--top-k", "3", "--n-best", "2", "--read-all")
    found = as_json(odqa("query", QUESTION, "--index-dir", sample_index, "--json", *options))
    assert found["question"] == QUESTION
    assert ANSWER in found["answer"]["text"]
    assert found["answer"] == found["answers"][0]
    assert (found["answer"]["heading"], found["answer"]["page"]) == ("Buildings", None)
    assert (len(found["answers"]), len(found["passages"])) == (2, 3)
    with pipeline.open(sample_index) as qa:
        document = qa.document(found["answer"]["passage"]["doc_id"])
    assert document is not None
    span = found["answer"]["span"]
    assert document.text[span["start"] : span["end"]] == found["answer"]["text"]


def test_no_answer_is_null_and_no_error(sample_index: Path) -> None:
    words = ("query", NOT_SAID, "--index-dir", sample_index, "--threshold", "1")
    assert as_json(odqa(*words, "--json"))["answer"] is None
    done = odqa(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("No answer: the documents do not say.")


def test_questions_of_a_file_and_of_standard_input(sample_index: Path, tmp_path: Path) -> None:
    plain, packed = f"{QUESTION}\n{NOT_SAID}\n", json.dumps({"question": QUESTION}) + f"\n{NOT_SAID}\n"
    (tmp_path / "questions.txt").write_text(plain, encoding="utf-8")
    from_file = odqa("query", "--questions", tmp_path / "questions.txt", "--index-dir", sample_index)
    from_input = odqa("query", "--questions", "-", "--index-dir", sample_index, given=packed)
    rows = []
    for done in (from_file, from_input):
        assert (done.returncode, done.stderr) == (0, "")
        rows.append([json.loads(line) for line in done.stdout.splitlines()])
    for one, other in zip(*rows, strict=True):
        assert (one["question"], one["answers"]) == (other["question"], other["answers"])
    assert [row["question"] for row in rows[0]] == [QUESTION, NOT_SAID]
    assert ANSWER in rows[0][0]["answers"][0]["text"]


def test_search(sample_index: Path) -> None:
    found = as_json(odqa("search", QUESTION, "--index-dir", sample_index, "--json", "--where", "suffix=.md"))
    assert found["passages"][0]["passage"]["doc_id"] == "corpus/town/skarnhaven.md"
    assert {one["passage"]["source"].rpartition(".")[2] for one in found["passages"]} == {"md"}
    done = odqa("search", QUESTION, "--mode", "text", "--top-k", "1", extra={"ODQA_INDEX_DIR": str(sample_index)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1. Skarnhaven  score ")


def test_evaluate(sample_index: Path) -> None:
    words = ("evaluate", QUESTIONS, "--index-dir", sample_index, "--limit", "10", "--seed", "1")
    report = as_json(odqa(*words, "--json"))
    assert report["questions"] == 10
    assert report["retrieval"]["recall@20"] == 1.0
    assert report["reading"] == {}  # JSON lines name no paragraph
    assert 0.0 < report["end_to_end"]["em"] <= report["end_to_end"]["f1"] <= 1.0


def test_status_and_check(sample_index: Path) -> None:
    status = as_json(odqa("status", "--index-dir", sample_index, "--json"))
    assert (status["documents"], status["encoder"]) == (49, DEFAULT_ENCODER)
    assert "Documents:      49" in odqa("status", "--index-dir", sample_index).stdout
    check = as_json(odqa("check", "--index-dir", sample_index, "--json"))
    assert (check["clean"], check["problems"], check["documents"]) == (True, [], 49)


def test_delete(copied: Path) -> None:
    doc_id = "corpus/town/skarnhaven.md"
    done = odqa("delete", doc_id, "corpus/none.md", "--index-dir", copied, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"deleted": [doc_id], "unknown": ["corpus/none.md"]}
    assert done.stderr == "odqa: no document corpus/none.md in the index\n"
    found = as_json(odqa("search", QUESTION, "--index-dir", copied, "--json", "--top-k", "100"))
    assert doc_id not in {one["passage"]["doc_id"] for one in found["passages"]}


def test_models_list() -> None:
    listed = as_json(odqa("models", "list", "--json"))["models"]
    assert [model["name"] for model in listed] == [spec.name for spec in registry.models()]
    shown = odqa("models", "list").stdout
    assert all(spec.name in shown for spec in registry.models())


# ---- bad input: one line, the right code, nothing touched ----------------------------------------------------------


def test_no_index_there(tmp_path: Path) -> None:
    for words in (("query", QUESTION), ("check",), ("delete", "x")):
        line = failed(odqa(*words, "--index-dir", tmp_path / "nowhere"), 1)
        assert f"no index in {tmp_path / 'nowhere'}: make one with `odqa index FOLDER --index-dir" in line
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_index(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    as_json(odqa("index", tmp_path / "docs", "--index-dir", tmp_path / "index", "--json"))
    line = failed(odqa("query", QUESTION, "--index-dir", tmp_path / "index"), 1)
    assert "is empty: put documents in with `odqa index FOLDER" in line


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE index_info SET encoder = 'lost-encoder'", "made by encoder 'lost-encoder'"),
        ("UPDATE index_info SET encoder_revision = '0'", "revision='0'"),
        ("PRAGMA user_version = 99", "has schema 99"),
    ],
)
def test_an_index_of_another_encoder_or_version(copied: Path, tmp_path: Path, statement: str, told: str) -> None:
    change_database(copied, statement)
    before = frozen_state(copied)
    for words in (("query", QUESTION), ("index", CORPUS)):
        line = failed(odqa(*words, "--index-dir", copied), 1)
        assert told in line
        assert "or index the documents again into another folder" in line
    assert frozen_state(copied) == before


def test_another_process_is_writing(copied: Path) -> None:
    undisturbed = as_json(odqa("search", QUESTION, "--index-dir", copied, "--json"))["passages"]
    assert "corpus/town/skarnhaven.md" in [one["passage"]["doc_id"] for one in undisturbed]
    with pipeline.open(copied, writable=True) as writer:
        began = time.monotonic()
        line = failed(odqa("index", CORPUS, "--index-dir", copied), 1)
        assert f"is being written to by process {os.getpid()} on " in line
        assert time.monotonic() - began < 20
        assert f"process {os.getpid()}" in failed(odqa("delete", "x", "--index-dir", copied, "--wait", "0.2"), 1)
        found = as_json(odqa("search", QUESTION, "--index-dir", copied, "--json"))  # readers go on
        assert found["passages"] == undisturbed
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(odqa, "index", CORPUS, "--index-dir", copied, "--json", "--wait", "60")
            time.sleep(2)
            assert not waiting.done()
            writer.close()
            assert as_json(waiting.result(timeout=60))["unchanged"] == 49


def test_a_damaged_snapshot(copied: Path) -> None:
    words = ("search", QUESTION, "--index-dir", copied, "--json", "--mode", "dense")
    right = as_json(odqa(*words))
    (snapshot,) = copied.glob("vectors-*.faiss")
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0x10
    snapshot.write_bytes(data)
    done = odqa(*words)
    assert done.returncode == 0
    assert json.loads(done.stdout) == right
    assert "its checksum differs" in done.stderr
    assert "rebuilt from odqa.sqlite" in done.stderr
    assert "Traceback" not in done.stderr
    done = odqa(*words)
    assert (json.loads(done.stdout), done.stderr) == (right, "")  # and no notice any more


def test_a_model_file_is_missing_or_damaged(sample_index: Path, tmp_path: Path) -> None:
    spec = registry.find(DEFAULT_ENCODER)
    weights = spec.file("weights")
    folder = Path(shutil.copytree(registry.BUNDLED, tmp_path / "models"))
    words = (folder, "search", QUESTION, "--index-dir", sample_index)
    data = bytearray((folder / weights.name).read_bytes())
    data[len(data) // 2] ^= 0x01
    (folder / weights.name).write_bytes(data)
    line = failed(odqa(*words, script=WITH_MODELS), 1)
    assert str(folder / weights.name) in line
    assert weights.checksum in line
    (folder / weights.name).write_bytes(data[:-1])
    assert f"{len(data) - 1} bytes instead of {len(data)}" in failed(odqa(*words, script=WITH_MODELS), 1)
    (folder / weights.name).unlink()
    line = failed(odqa(*words, script=WITH_MODELS), 1)
    assert f"{folder} lacks {weights.name}; install odqa again" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("search", QUESTION, "--top-k", "0"), "--top-k"),
        (("search", QUESTION, "--mode", "psychic"), "'psychic' is not one of hybrid, dense, text"),
        (("search", " "), "blank"),
        (("query", ""), "blank"),
        (("query", "?!"), "has no words; ask something"),
        (("search", "🙂"), "has no words; ask something"),
        (("query",), "give either a QUESTION or --questions FILE"),
        (("query", QUESTION, "--threshold", "2"), "2.0 is not a probability"),
        (("search", QUESTION, "--where", "year ~ 3"), "year <-- HERE ~ 3"),
    ],
)
def test_wrong_usage(sample_index: Path, words: tuple[str, ...], told: str) -> None:
    assert told in failed(odqa(*words, "--index-dir", sample_index), 2)


def test_questions_that_cannot_all_be_asked(sample_index: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(f"{QUESTION}\n\n?!\n", encoding="utf-8")
    assert "line 3" in failed(odqa("query", "--questions", path, "--index-dir", sample_index), 2)


def test_missing_documents(tmp_path: Path) -> None:
    line = failed(odqa("index", tmp_path / "nowhere", "--index-dir", tmp_path / "index"), 1)
    assert "nowhere: does not exist" in line
    assert not (tmp_path / "index").exists()


def test_a_traceback_is_shown_to_those_who_ask_for_it(tmp_path: Path) -> None:
    done = odqa("status", "--index-dir", tmp_path / "nowhere", extra={"ODQA_DEBUG": "1"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "NoIndexError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("odqa: no index in ")


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


def committed(index_dir: Path) -> int:
    """Count the documents of an index that is perhaps being made."""
    if not (index_dir / "odqa.sqlite").exists():
        return 0
    with pipeline.open(index_dir) as qa:
        return qa.status().documents


def test_interrupted_indexing_keeps_what_was_committed(tmp_path: Path) -> None:
    docs, index_dir = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    for number in range(MANY_FILES):
        (docs / f"{number:04}.txt").write_text(f"Gull {number} weighs {number * 7} grams.", encoding="utf-8")
    words = ["index", str(docs), "--index-dir", str(index_dir)]
    child = subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        deadline = time.monotonic() + 60
        while not committed(index_dir) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        written, told = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, written) == (130, "")
    assert "Traceback" not in told
    last = told.splitlines()[-1]
    assert last.startswith("odqa: interrupted; what was committed stays in the index. To go on, run the same command")
    kept = committed(index_dir)
    assert 0 < kept < MANY_FILES
    report = as_json(odqa(*words, "--json"))
    assert (report["unchanged"], len(report["added"])) == (kept, MANY_FILES - kept)
    assert committed(index_dir) == MANY_FILES
