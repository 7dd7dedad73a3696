"""The profile "omz" on the whole path; `tests/reader/test_omz.py` has its windows and scores."""

from __future__ import annotations

import json
from pathlib import Path

import fake_models
import pytest
from fake_models import write_files

from odqa import cli, pipeline
from odqa.evaluation import evaluate

QUESTION = "What is the great whale of Skarn called?"
FILES = {
    "whales.md": "# Whales\n\nThe great whale of Skarn is called Borealis.\n",
    "seals.md": "The seal of Orrel is called Bo.\n",
}


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    docs = write_files(tmp_path / "docs", FILES)
    with pipeline.open(tmp_path / "index", create=True) as qa:
        qa.index([docs])
    return tmp_path / "index"


def test_omz_orders_by_its_own_score_and_always_answers(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        for question in (QUESTION, "Who painted the gull?"):
            result = qa.query(question, profile="omz")
            texts = [[one.passage.text for one in result.passages]]
            spans = qa.reader.read_as_omz([question], texts)[0]
            assert result.answer is result.answers[0]
            assert [a.score for a in result.answers] == sorted((s.score for s in spans), reverse=True)
            assert [a.probability for a in result.answers] == [a.score for a in result.answers]
        assert qa.query("Who painted the gull?").answer is None
        assert len(qa.query(QUESTION, profile="omz", n_best=1).answers) == 1
        both = list(qa.query_many([QUESTION, "Who painted the gull?"], profile="omz"))
        assert [one.answers for one in both] == [qa.query(one.question, profile="omz").answers for one in both]


def test_profiles_that_are_none(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        with pytest.raises(ValueError, match="unknown profile 'zoo': one of default, omz"):
            qa.query(QUESTION, profile="zoo")
        with pytest.raises(ValueError, match='never says "no answer", so it takes no threshold'):
            qa.query(QUESTION, profile="omz", threshold=0.5)


def test_the_command_takes_a_profile(index_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--index-dir", str(index_dir)]
    assert cli.main(["query", "Who painted the gull?", *where, "--profile", "omz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] is not None
    assert cli.main(["query", QUESTION, *where, "--profile", "omz", "--threshold", "0.5"]) == 2
    assert cli.main(["query", QUESTION, *where, "--profile", "zoo"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "takes no threshold" in errors[0]
    assert "'zoo' is not one of default, omz" in errors[1]


def test_a_profile_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The profile's own best span counts; that of the fake reader is the one that it would else take last."""
    paragraph = {
        "context": "The great whale of Skarn is called Borealis. The seal eats chips.",
        "qas": [{"question": QUESTION, "answers": [{"text": "Borealis"}]}],
    }
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"title": "Sea", "paragraphs": [paragraph]}]}), encoding="utf-8")
    assert evaluate(path, mode="text").reading["em"] == 1.0
    omz = evaluate(path, mode="text", profile="omz")
    assert (omz.reading["em"], omz.end_to_end["em"]) == (0.0, 0.0)
    assert cli.main(["evaluate", str(path), "--mode", "text", "--profile", "omz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reading"] == omz.reading
    with pytest.raises(ValueError, match="unknown profile 'zoo'"):
        evaluate(path, profile="zoo")
