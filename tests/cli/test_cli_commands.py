import gc
import json
import os
import weakref
from pathlib import Path

import pytest
from cli_cases import ANSWER_JSON, FOUND_JSON, TEXT, Fake, Run

from odqa import pipeline
from odqa.types import (
    CheckReport,
    CompactReport,
    Problem,
)


def test_query_shows_the_answer_and_passes_its_options_on(run: Run, fake: Fake) -> None:
    options = ["--top-k", "3", "--n-best", "2", "--mode", "text", "--where", "year>=1900", "--where", "suffix=.md"]
    options += ["--profile", "omz", "--read-all"]
    code, out, err = run("query", "Who?", *options, "--threshold", "0.25", "--reader", "big", "--index-dir", "ix")
    assert (code, err) == (0, "")
    assert out.startswith("Odile Marchetti\n  /in/hall.md, page 2, characters [29, 44), probability 0.93\n")
    expected = {"top_k": 3, "n_best": 2, "mode": "text", "where": ["year>=1900", "suffix=.md"], "threshold": 0.25}
    expected |= {"profile": "omz", "read_all": True}
    assert fake.asked == [("open", Path("ix"), {"reader": "big"}), ("query", ["Who?"], expected), "closed"]


def test_defaults_are_those_of_the_library(run: Run, fake: Fake) -> None:
    run("query", "Who?")
    expected = {"top_k": 5, "n_best": 5, "mode": "hybrid", "where": (), "threshold": None, "profile": "default"}
    expected["read_all"] = False
    assert fake.asked[:2] == [("open", Path("indexes/default"), {}), ("query", ["Who?"], expected)]


def test_the_index_folder_is_option_then_environment(run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ODQA_INDEX_DIR", "from-environment")
    run("status")
    run("status", "--index-dir", "from-option")
    assert [asked[1] for asked in fake.asked if asked[0] == "open"] == [Path("from-environment"), Path("from-option")]


def test_an_index_is_freed_when_another_is_opened_and_not_when_the_command_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[weakref.ref[Fake]] = []

    def opening(*_: object, **__: object) -> Fake:
        one = Fake()
        opened.append(weakref.ref(one))
        return one

    monkeypatch.setattr(pipeline, "open", opening)
    for count in (1, 2):
        run("query", "Who?")
        gc.collect()
        assert [one() is not None for one in opened] == [False] * (count - 1) + [True]


def test_query_as_json(run: Run, fake: Fake) -> None:
    code, out, _ = run("query", "Wer?", "--json")
    assert code == 0
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "question": "Wer?",
        "answer": ANSWER_JSON,
        "answers": [ANSWER_JSON],
        "passages": [FOUND_JSON],
        "seconds": 0.1,
    }


def test_no_answer_is_done_and_null(run: Run, fake: Fake) -> None:
    fake.answer = None
    assert run("query", "Who?")[:2][0] == 0
    code, out, _ = run("query", "Who?", "--json")
    assert code == 0
    assert json.loads(out)["answer"] is None
    assert json.loads(out)["answers"] == [ANSWER_JSON]


def test_a_file_of_questions_gives_a_line_each(run: Run, fake: Fake) -> None:
    Path("questions").write_text('Who?\n\n{"question": "What?"}\n', encoding="utf-8")
    code, out, err = run("query", "--questions", "questions")
    assert code == 0
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["Who?", "What?"]
    assert err == "odqa: 1 blank line of the questions ignored\n"


def test_search(run: Run, fake: Fake) -> None:
    code, out, _ = run("search", "Who?", "--top-k", "1")
    assert code == 0
    assert out.splitlines() == ["1. Hall  score 0.5000", "   /in/hall.md, page 2, characters [10, 45)", f"   {TEXT}"]
    assert fake.asked[1] == ("search", "Who?", {"top_k": 1, "mode": "hybrid", "where": ()})
    assert json.loads(run("search", "Who?", "--json")[1]) == {"question": "Who?", "passages": [FOUND_JSON]}


def test_index(run: Run, fake: Fake) -> None:
    Path("in").mkdir()
    words = ("--prune", "--strict", "--follow-links", "--wait", "2.5", "--encoder", "e", "--vector-index", "binary")
    code, out, err = run("index", "in", ".", *words)
    assert (code, err) == (0, "")
    assert "1 added" in out
    assert "/in/a.png: unsupported file type" in out
    assert fake.asked[:2] == [
        ("open", Path("indexes/default"), {"encoder": "e", "create": True, "wait_seconds": 2.5}),
        ("index", ["in", "."], {"prune": True, "strict": True, "follow_links": True, "vector_index": "binary"}),
    ]
    assert json.loads(run("index", "in", "--json")[1]) == {
        "added": ["a"],
        "updated": [],
        "unchanged": 0,
        "vanished": [],
        "pruned": [],
        "skipped": [{"source": "/in/a.png", "reason": "unsupported file type"}],
        "passages": 3,
        "seconds": 1.5,
        "partial": [],
    }


def test_index_of_a_missing_path_makes_no_index(run: Run) -> None:
    code, out, err = run("index", "nowhere", "--index-dir", "ix")
    assert (code, out) == (1, "")
    assert err == "odqa: nowhere: does not exist; give an existing file or folder\n"
    assert not Path("ix").exists()


def test_delete(run: Run, fake: Fake) -> None:
    assert run("delete", "hall.md", "x") == (0, "deleted hall.md\n", "odqa: no document x in the index\n")
    assert fake.asked[0] == ("open", Path("indexes/default"), {"writable": True})
    code, out, err = run("delete", "x", "y", "x", "--json")
    assert (code, json.loads(out)) == (1, {"deleted": [], "unknown": ["x", "y"]})
    assert err == "odqa: no document x in the index\nodqa: no document y in the index\n"


def test_status(run: Run, fake: Fake) -> None:
    code, out, _ = run("status")
    assert code == 0
    assert "Documents:      1\n" in out
    assert "Snapshot:       none\n" in out
    assert json.loads(run("status", "--json")[1])["snapshot_generation"] is None


@pytest.mark.parametrize(
    ("problems", "code", "verdict"),
    [((), 0, "clean"), ((Problem("vector", "lost", mended=True),), 0, "clean"), ((Problem("a", "b"),), 1, "damaged")],
)
def test_check(
    run: Run, monkeypatch: pytest.MonkeyPatch, problems: tuple[Problem, ...], code: int, verdict: str
) -> None:
    asked = []

    def check(index_dir: Path, *, repair: bool, wait_seconds: float) -> CheckReport:
        asked.append((index_dir, repair, wait_seconds))
        return CheckReport(problems, 2, 3)

    monkeypatch.setattr(pipeline, "check", check)
    found, out, _ = run("check", "--repair", "--index-dir", "ix")
    assert found == code
    assert out.splitlines()[-1] == f"{verdict}: 2 documents, 3 passages, {len(problems)} problems"
    assert asked == [(Path("ix"), True, 0.0)]
    assert json.loads(run("check", "--json")[1])["clean"] is (code == 0)


def test_check_names_what_was_lost_and_what_is_worth_knowing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = (Problem("text-damaged", "a.txt: its\ntext", mended=True), Problem("sqlite-pages", "page 7"))
    report = CheckReport(problems, 2, 3, lost=("a.txt", "b\x1b.txt"), notices=("there is no snapshot",))
    monkeypatch.setattr(pipeline, "check", lambda *_, **__: report)
    code, out, _ = run("check", "--repair")
    assert (code, out.splitlines()) == (
        1,
        [
            "text-damaged (mended): a.txt: its text",
            "sqlite-pages (not mended): page 7",
            "there is no snapshot",
            "Emptied, because their contents were damaged; `odqa index` reads their files again:",
            "  a.txt",
            "  b\\x1b.txt",
            "damaged: 2 documents, 3 passages, 2 problems",
        ],
    )
    shown = json.loads(run("check", "--json")[1])
    assert (shown["lost"], shown["notices"]) == (["a.txt", "b\x1b.txt"], ["there is no snapshot"])
    assert [problem["kind"] for problem in shown["problems"]] == ["text-damaged", "sqlite-pages"]


def test_compact(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compact(index_dir: Path, *, vector_index: str | None, wait_seconds: float) -> CompactReport:
        asked.append((index_dir, vector_index, wait_seconds))
        return CompactReport("ix", 2_500_000, 999, 12, ("a reader is busy",))

    monkeypatch.setattr(pipeline, "compact", compact)
    assert run("compact", "--index-dir", "ix", "--vector-index", "flat", "--wait", "2") == (
        0,
        "ix: 2.5 MB before, 999 bytes now; 12 deleted passages dropped\na reader is busy\n",
        "",
    )
    assert asked == [(Path("ix"), "flat", 2.0)]
    assert "--vector-index" in run("compact", "--vector-index", "hnsw")[2]
    assert json.loads(run("compact", "--json")[1]) == {
        "path": "ix",
        "bytes_before": 2_500_000,
        "bytes_after": 999,
        "tombstones": 12,
        "notices": ["a reader is busy"],
    }


def test_models_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ODQA_MODELS_DIR", "/nowhere/models")
    code, out, _ = run("models", "list", "--json")
    models = json.loads(out)["models"]
    assert code == 0
    assert [model["name"] for model in models if model["default"]] == [
        "odqa-encoder-small-int8",
        "odqa-reader-small-int8",
    ]
    others = [model for model in models if model["source"] == "pull"]
    assert others
    assert not any(model["here"] for model in others)
    assert {model["folder"] for model in others} == {f"/nowhere/models/{model['name']}" for model in others}
    shown = run("models", "list")[1]
    assert all(model["name"] in shown for model in models)
