from __future__ import annotations

import json
from dataclasses import replace

import pytest

from odqa import cli, model_checks, settings
from odqa.model_checks import KNOWN, PASSAGES, Known, check_model
from odqa.models import registry


def test_every_known_answer_stands_in_its_passage() -> None:
    for known in KNOWN:
        assert all(answer in PASSAGES[known.passage] for answer in known.answers), known
    assert {known.passage for known in KNOWN} == set(range(len(PASSAGES)))


@pytest.mark.parametrize("name", [settings.DEFAULT_ENCODER, settings.DEFAULT_READER])
def test_the_bundled_models_know_the_answers(name: str) -> None:
    spec = registry.find(name)
    check = check_model(spec)
    assert check.passed, check.answers
    assert [answer.question for answer in check.answers] == [known.question for known in KNOWN]
    assert (check.name, check.task, check.measured) == (name, spec.task, spec.measured)
    assert check.command.startswith("odqa evaluate dev-v1.1.json --stage ")
    assert check.command.endswith(f" {name}")


@pytest.mark.parametrize(
    ("name", "wrong", "found"),
    [
        (settings.DEFAULT_READER, Known("Who designed the Halden Bridge?", 0, ("Tomas Auer",)), "Marta Lindqvist"),
        (settings.DEFAULT_ENCODER, Known("How long is the Halden Bridge?", 3, ()), "The Halden Bridge was opened on …"),
    ],
)
def test_one_wrong_answer_fails(name: str, wrong: Known, found: str) -> None:
    check = check_model(registry.find(name), known=[KNOWN[-1], wrong])
    assert not check.passed
    assert [answer.right for answer in check.answers] == [True, False]
    assert check.answers[1].found == found


def test_the_commands_of_the_checks_are_commands() -> None:
    """Their options exist; only the file and the model are missing."""
    for task, command in model_checks.COMMANDS.items():
        words = command.format("nobody").split()
        assert words[0] == "odqa"
        assert cli.main(words[1:]) == 1, task


def test_verify_deep(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = settings.DEFAULT_READER
    assert cli.main(["models", "verify", "--deep", name, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["name"], written["task"], written["passed"]) == (name, "read", True)
    assert written["answers"][0] == {
        "question": KNOWN[0].question,
        "expected": KNOWN[0].answers[0],
        "found": "Marta Lindqvist",
        "right": True,
    }
    assert written["command"].endswith(name)

    passed = check_model(registry.find(name), known=KNOWN[:2])
    bad = replace(passed.answers[1], found="a bridge", right=False)
    failed = replace(passed, answers=(passed.answers[0], bad), published={"squad_v1.1_dev_f1_percent": 91.0})
    monkeypatch.setattr(model_checks, "check_model", lambda _: failed)
    assert cli.main(["models", "verify", "--deep", name]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name}: failed, 1 of 2 known answers are right"
    assert lines[2] == f"  {KNOWN[1].question}  a bridge  wrong; right is: {KNOWN[1].answers[0]}"
    assert "Published: squad v1.1 dev f1 91 %" in lines
    assert lines[-1] == f"To measure that: {failed.command}"


def test_verify_deep_needs_a_model_that_is_here(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert cli.main(["models", "verify", "--deep"]) == 2
    assert capsys.readouterr().err == "odqa: --deep needs the NAME of a model\n"


def test_verify_deep_of_a_model_that_was_not_pulled(
    capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODQA_MODELS_DIR", str(tmp_path))
    name = "bert-large-uncased-whole-word-masking-squad-0001"
    assert cli.main(["models", "verify", "--deep", name]) == 1
    assert f"odqa models pull {name}" in capsys.readouterr().err
