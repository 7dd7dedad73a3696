"""One index of the sample corpus for all end-to-end tests, made by the command with the bundled models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import commands
import pytest


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the index, and the report of the run that made it. Tests that write take a copy."""
    folder = tmp_path_factory.mktemp("sample") / "index"
    return folder, commands.as_json(commands.odqa("index", commands.CORPUS, "--index-dir", folder, "--json"))


@pytest.fixture(scope="session")
def sample_index(indexed: tuple[Path, dict[str, Any]]) -> Path:
    """The folder of the index."""
    return indexed[0]
