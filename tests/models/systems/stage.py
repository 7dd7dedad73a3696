"""Makes odqa know the written systems by their published names, in this process and in commands of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from published_systems import Made, described, write_registry

from odqa.models import manage, registry
from odqa.models.registry import ModelSpec

DATA = Path(__file__).resolve().parents[3] / "data"
CORPUS = [DATA / "corpus" / name for name in ("sea/cape-dorrit-lighthouse.md", "town/skarnhaven.md")]
QUESTION = "Who designed the tower of Cape Dorrit?"

# Runs the command with another list of models: that of the registry, with the files that were written here.
WITH_REGISTRY = """
import sys
from pathlib import Path
from odqa.models import registry
registry.REGISTRY = Path(sys.argv[1])
from odqa.cli import main
sys.exit(main(sys.argv[2:]))
"""


@contextmanager
def known_models(folder: Path, made: Sequence[Made]) -> Iterator[None]:
    """Let odqa take its models from `folder`: zoo files lie there, Hugging Face folders are pulled from their place."""
    zoo = [one for one in made if one.system.shape is not None]
    write_registry(list_of(folder), [described(one) for one in zoo])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODQA_MODELS_DIR", str(folder))
        patch.setattr(registry, "REGISTRY", list_of(folder))
        registry.published.cache_clear()
        try:
            for one in made:
                if one.system.shape is None:
                    manage.install(one.system.name, base_url=one.folder.parent.as_uri(), precision="fp32")
            yield
        finally:
            registry.published.cache_clear()


def list_of(folder: Path) -> Path:
    """Return the list of models that goes with a models folder."""
    return folder / "registry.json"


def spec_of(made: Made) -> ModelSpec:
    """Return a model's description as odqa finds it."""
    return registry.find(made.system.name)


def odqa(folder: Path, *words: str | Path) -> Any:
    """Run `odqa WORDS --json` in a process of its own, with the models of `folder`, and return what it wrote."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ODQA_")}
    done = subprocess.run(
        [sys.executable, "-c", WITH_REGISTRY, str(list_of(folder)), *map(str, words), "--json"],
        env={**kept, "ODQA_MODELS_DIR": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
