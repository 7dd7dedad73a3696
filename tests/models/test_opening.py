"""Models that are opened share what they can, and are loaded ahead by the command line alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from odqa import settings
from odqa.errors import DamagedModelError
from odqa.models import ahead, opening, registry
from odqa.models.opening import open_model
from odqa.models.registry import ModelSpec


@pytest.fixture(autouse=True)
def _nothing_begun() -> Iterator[None]:
    yield
    ahead._begun.clear()


def spec(name: str = settings.DEFAULT_ENCODER) -> ModelSpec:
    return registry.find(name)


def test_models_of_one_vocabulary_share_a_tokenizer() -> None:
    names = [settings.DEFAULT_ENCODER, settings.DEFAULT_READER]
    with ThreadPoolExecutor(2) as pool:
        (first, _), (second, _) = pool.map(lambda name: open_model(spec(name)), names)
    assert first is second


def test_models_that_split_words_otherwise_do_not() -> None:
    other = replace(spec(), lower_case=False)
    lowered, kept = open_model(spec())[0], open_model(other)[0]
    assert lowered.encode("Tower").ids != kept.encode("Tower").ids


def test_what_was_loaded_ahead_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    real = opening.load_model

    def load_model(spec: ModelSpec, **options: object) -> object:
        loaded.append(spec.name)
        return real(spec, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "load_model", load_model)
    ahead.begin([settings.DEFAULT_ENCODER, settings.DEFAULT_READER]).join()
    assert loaded == [settings.DEFAULT_ENCODER, settings.DEFAULT_READER]
    _, network = open_model(spec())
    open_model(spec(settings.DEFAULT_READER))
    assert len(loaded) == 2
    assert open_model(spec())[1] is not network
    assert len(loaded) == 3


def test_what_goes_wrong_ahead_is_told_to_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_model(spec: ModelSpec, **_: object) -> object:
        raise DamagedModelError(f"{spec.name} is damaged")

    with monkeypatch.context() as patched:
        patched.setattr(opening, "load_model", load_model)
        ahead.begin([settings.DEFAULT_ENCODER, "no-such-model"]).join()
    with pytest.raises(DamagedModelError, match="is damaged"):
        open_model(spec())
    open_model(spec())  # the next one loads it itself
    assert ahead.take(replace(spec(), name="no-such-model")) is not None


def test_other_surroundings_do_not_take_it(tmp_path: Path) -> None:
    ahead.begin([settings.DEFAULT_ENCODER]).join()
    open_model(spec(), environment={"HOME": str(tmp_path), "ODQA_COMPILED_DIR": "none"})
    assert ahead.take(spec()) is not None


def test_nothing_heavy_is_imported_to_begin() -> None:
    code = (
        "import sys; from odqa.models import ahead; from odqa import settings; "
        "print(sorted({'numpy', 'openvino', 'tokenizers', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
