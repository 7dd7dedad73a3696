from __future__ import annotations

from pathlib import Path

import pytest

from odqa import settings
from odqa.models import registry


@pytest.mark.parametrize(
    ("argument", "variable", "expected"),
    [
        ("given", "named", Path("given")),
        (Path("given"), "", Path("given")),
        (None, "named", Path("named")),
        (None, "", Path("indexes/default")),
        (None, None, Path("indexes/default")),
    ],
)
def test_index_dir(argument: Path | str | None, variable: str | None, expected: Path) -> None:
    environment = {} if variable is None else {"ODQA_INDEX_DIR": variable}
    assert settings.index_dir(argument, environment) == expected


@pytest.mark.parametrize(
    ("argument", "variable", "expected"), [("a", "b", "a"), (None, "b", "b"), (None, "", None), (None, None, None)]
)
def test_models(argument: str | None, variable: str | None, expected: str | None) -> None:
    environment = {} if variable is None else {"ODQA_ENCODER": variable, "ODQA_READER": variable}
    assert settings.encoder_name(argument, environment) == expected
    assert settings.reader_name(argument, environment) == (expected or settings.DEFAULT_READER)


def test_the_environment_of_the_process_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODQA_INDEX_DIR", "elsewhere")
    monkeypatch.setenv("ODQA_READER", "some-reader")
    assert settings.index_dir(None) == Path("elsewhere")
    assert settings.reader_name(None) == "some-reader"


def test_the_defaults_fit_the_bundled_models() -> None:
    encoder, reader = registry.find(settings.DEFAULT_ENCODER), registry.find(settings.DEFAULT_READER)
    assert (encoder.task, reader.task) == ("encode", "read")
    assert (encoder.source, reader.source) == ("bundled", "bundled")
    assert (encoder.passage_tokens, encoder.question_tokens) == (settings.PASSAGE_TOKENS, settings.QUESTION_TOKENS)
    assert (reader.window_tokens, reader.question_tokens) == (
        settings.READER_TOKENS,
        settings.READER_QUESTION_TOKENS,
    )
    assert settings.DEFAULT_MODE in settings.MODES
    assert settings.TITLE_TOKENS + settings.DOC_STRIDE_TOKENS < settings.READER_TOKENS


def test_the_limits_of_a_file() -> None:
    assert settings.file_limits({}) == settings.FileLimits(60.0, 1024)
    given = {"ODQA_FILE_SECONDS": "1.5", "ODQA_FILE_MEMORY_MB": "99.2"}
    assert settings.file_limits(given) == settings.FileLimits(1.5, 100)
    assert settings.file_limits({"ODQA_FILE_SECONDS": ""}) == settings.FileLimits()


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "a minute", "1e400"])
def test_a_limit_is_a_number_above_zero(value: str) -> None:
    with pytest.raises(ValueError, match=r"ODQA_FILE_MEMORY_MB is .*; give a number above 0"):
        settings.file_limits({"ODQA_FILE_MEMORY_MB": value})
