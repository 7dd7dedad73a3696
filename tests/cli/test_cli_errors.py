import json

import pytest
from cli_cases import Fake, Run

from odqa import pipeline
from odqa.errors import LockedIndexError, NoIndexError
from odqa.types import Span


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
