from __future__ import annotations

import functools
from pathlib import Path

import fake_models
import pytest


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


@pytest.fixture
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)
    monkeypatch.setattr(fake_models, "word_vector", functools.cache(fake_models.word_vector))
