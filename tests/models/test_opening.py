"""Models that are opened share what they can."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from odqa import settings
from odqa.models import registry
from odqa.models.opening import open_model
from odqa.models.registry import ModelSpec


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
