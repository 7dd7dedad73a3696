import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from odqa import cli, pipeline
from odqa.errors import LockedIndexError, NoIndexError
from odqa.types import (
    Answer,
    CheckReport,
    CompactReport,
    IndexReport,
    IndexStatus,
    Passage,
    Place,
    Problem,
    QueryResult,
    RetrievedPassage,
    Section,
    SkippedFile,
    Span,
)

TEXT = "It was designed by Odile Marchetti."
PASSAGE = Passage(
    7, "hall.md", "Hall", TEXT, Span(10, 45), "/in/hall.md", (Section(Span(0, 50), page=2),), {"year": 1868}
)
SPAN = Span(29, 44)
ANSWER = Answer("Odile Marchetti", SPAN, PASSAGE, 3.5, 0.93, (Place(PASSAGE, SPAN),))
FOUND = (RetrievedPassage(PASSAGE, 0.5, 1, -0.25, None),)
RESULT = QueryResult("", ANSWER, (ANSWER,), FOUND, 0.1)
REPORT = IndexReport(("a",), (), 0, (), (), (SkippedFile("/in/a.png", "unsupported file type"),), 3, 1.5)
STATUS = IndexStatus("ix", 1, 3, 0, 4, "enc", "1", 384, 1, 1000, 2000, None, None, "auto")

REFERENCE = {
    "passage_id": 7,
    "doc_id": "hall.md",
    "title": "Hall",
    "span": {"start": 10, "end": 45},
    "source": "/in/hall.md",
}
WHERE = {"span": {"start": 29, "end": 44}, "page": 2, "heading": None, "passage": REFERENCE}
ANSWER_JSON = {"text": "Odile Marchetti", "score": 3.5, "probability": 0.93, "places": [WHERE]} | WHERE
FOUND_JSON = {
    "passage": REFERENCE
    | {
        "text": TEXT,
        "sections": [{"span": {"start": 0, "end": 50}, "page": 2, "heading": None}],
        "metadata": {"year": 1868},
    },
    "score": 0.5,
    "rank": 1,
    "dense_score": -0.25,
    "text_score": None,
}


@dataclass
class Fake:
    """Stands for an open index: gives fixed results, and keeps what it was asked for."""

    error: BaseException | None = None
    answer: Answer | None = ANSWER
    notices: tuple[str, ...] = ()
    asked: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Fake":
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def _done(self, *what: object) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def query_many(self, questions: Sequence[str], **options: object) -> Iterator[QueryResult]:
        self._done("query", list(questions), options)
        for question in questions:
            yield replace(RESULT, question=question, answer=self.answer)

    def search(self, question: str, **options: object) -> tuple[RetrievedPassage, ...]:
        self._done("search", question, options)
        return FOUND

    def index(self, paths: Sequence[str], **options: object) -> IndexReport:
        self._done("index", list(paths), {name: value for name, value in options.items() if name != "progress"})
        return REPORT

    def delete(self, doc_ids: Sequence[str]) -> list[str]:
        self._done("delete", list(doc_ids))
        return [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id == "hall.md"]

    def status(self) -> IndexStatus:
        return STATUS


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("ODQA_DEBUG", "ODQA_INDEX_DIR", "ODQA_ENCODER", "ODQA_READER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake()

    def opened(index_dir: Path, **options: object) -> Fake:
        one.asked.append(("open", index_dir, {name: value for name, value in options.items() if value}))
        return one

    monkeypatch.setattr(pipeline, "open", opened)
    return one


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


def test_version(run: Run) -> None:
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("odqa 0.")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("models",),
        ("nope",),
        ("query",),
        ("query", "Who?", "--questions", "-"),
        ("query", "--questions", "nowhere"),
        ("query", " "),
        ("query", "caf\udce9"),
        ("query", "Who?", "Where?"),
        ("query", "Who?", "--top-k", "0"),
        ("query", "Who?", "--top-k", "many"),
        ("query", "Who?", "--top-k", "1" + "0" * 30),
        ("query", "Who?", "--n-best", "-1"),
        ("query", "Who?", "--mode", "bm25"),
        ("query", "Who?", "--where", "year"),
        ("query", "Who?", "--where", "modified>yesterday"),
        ("query", "Who?", "--threshold", "nan"),
        ("query", "Who?", "--threshold", "1.5"),
        ("query", "Who?", "--index-dir", ""),
        ("query", "Who?", "--reader", ""),
        ("query", "Who?", "--bogus"),
        ("search",),
        ("search", "Who?", "--where", "=1"),
        ("index",),
        ("index", ""),
        ("index", ".", "--wait", "-1"),
        ("index", ".", "--wait", "nan"),
        ("delete",),
        ("delete", ""),
        ("delete", "caf\udce9"),
    ],
)
def test_wrong_usage_is_code_2_before_anything_is_opened(run: Run, fake: Fake, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: odqa") if words in ((), ("models",)) else err.count("\n") == 1
    assert "Traceback" not in err
    assert fake.asked == []


def test_usage_errors_do_not_steer_the_terminal(run: Run) -> None:
    for words in (
        ("\x1b[31mx",),
        ("query", "--\x1b[31mx"),
        ("query", "q", "--mode", "\x1b[31m\nx"),
        ("index", "\x9b31m"),
    ):
        err = run(*words)[2]
        assert "\x1b" not in err
        assert "\x9b" not in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (NoIndexError("no index in ix"), 1, "odqa: no index in ix\n"),
        (LockedIndexError("two\nlines \x1b[0m"), 1, "odqa: two lines \\x1b[0m\n"),
        (
            RuntimeError("it\nbroke"),
            1,
            "odqa: unexpected RuntimeError: it broke (set ODQA_DEBUG=1 to see the traceback)\n",
        ),
        (KeyError("x"), 1, "odqa: unexpected KeyError: 'x' (set ODQA_DEBUG=1 to see the traceback)\n"),
        (
            ValueError("shapes differ"),
            1,
            "odqa: unexpected ValueError: shapes differ (set ODQA_DEBUG=1 to see the traceback)\n",
        ),
        (KeyboardInterrupt(), 130, "odqa: interrupted\n"),
    ],
)
def test_errors_are_one_line(run: Run, fake: Fake, error: BaseException, code: int, message: str) -> None:
    fake.error = error
    assert run("query", "Who?") == (code, "", message)
    assert fake.asked[-1] == "closed"


def test_debug_shows_the_traceback(run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.error = RuntimeError("it \x1b[31mbroke")
    monkeypatch.setenv("ODQA_DEBUG", "1")
    code, _, err = run("query", "Who?")
    assert code == 1
    assert err.startswith("Traceback")
    assert "\x1b" not in err


def test_value_error_of_the_library_is_wrong_usage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open", lambda *_, **__: Span(3, 1))
    assert run("status") == (2, "", "odqa: not a span: [3, 1)\n")


def test_interrupted_indexing_says_how_to_go_on(run: Run, fake: Fake) -> None:
    fake.error = KeyboardInterrupt()
    code, out, err = run("index", ".")
    assert (code, out) == (130, "")
    assert "what was committed stays" in err
    assert "run the same command again" in err


def test_notices_are_shown_on_stderr(run: Run, fake: Fake) -> None:
    fake.notices = ("the snapshot vectors-1.faiss is not used: \x1b",)
    code, out, err = run("status", "--json")
    assert code == 0
    assert json.loads(out)
    assert err == "odqa: the snapshot vectors-1.faiss is not used: \\x1b\n"


# ---- as a process of its own ---------------------------------------------------------------------------------------


def test_help_is_quick() -> None:
    code = (
        "import sys\nfrom odqa.cli import main\nmain(['query', '--help']); main(['models', 'list', '--json'])\n"
        "print(*[n for n in ('faiss', 'numpy', 'openvino', 'sqlalchemy', 'tokenizers') if n in sys.modules], 'loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: odqa query")
    assert done.stdout.splitlines()[-1] == "loaded"


def test_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "odqa", "models", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (tmp_path / "out").open("rb") as unwritable:
        command = [sys.executable, "-m", "odqa", "models", "list", "--json"]
        done = subprocess.run(command, stdout=unwritable, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("odqa: unexpected OSError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams_do_no_harm(closed: int) -> None:
    code = f"import os, sys\nos.close({closed})\nos.execv(sys.executable, [sys.executable, '-m', 'odqa', '--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("odqa ") or closed == 1


def test_json_is_utf_8_whatever_the_locale_says(tmp_path: Path) -> None:
    code = "from odqa import cli\ncli.print_json({'a': 'Łódź'})\nimport sys\nsys.exit(cli.main(['index', 'Łódź']))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert done.stdout == '{"a": "Łódź"}\n'.encode()
    assert done.stderr.startswith(b"odqa: \\u0141\\xf3d\\u017a: does not exist")
    assert done.returncode == 1
