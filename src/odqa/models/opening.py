"""A model by its description: its files verified, then its tokenizer and its network loaded."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping

from odqa.errors import ModelError
from odqa.models.compiled import cache_of
from odqa.models.registry import ENCODE, ModelSpec, folder, verify
from odqa.models.runtime import Network, Tokenizer

# Models of one vocabulary share a tokenizer as long as one of them lives: making it takes longer than a search.
_tokenizers: weakref.WeakValueDictionary[tuple[object, ...], Tokenizer] = weakref.WeakValueDictionary()
_tokenizers_lock = threading.Lock()


def open_model(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> tuple[Tokenizer, Network]:
    """Verify a model's files, then load its vocabulary and its network.

    Raises:
        DamagedModelError: a file is missing or is not the one that the registry names.
        ModelError: the files cannot be loaded.
    """
    verify(spec, environment=environment)
    paths = {file.role: folder(spec, environment=environment) / file.name for file in spec.files}
    tokenizer = _tokenizer(spec, environment=environment)
    network = Network(
        paths["network"],
        paths["weights"],
        inputs=spec.inputs,
        outputs=spec.outputs,
        per_token=spec.task != ENCODE,
        pad_id=tokenizer.pad_id,
        cache=cache_of(spec, environment=environment),
    )
    needed = max(spec.passage_tokens, spec.window_tokens, spec.question_tokens)
    if network.most_tokens is not None and network.most_tokens < needed:
        raise ModelError(
            f"model {spec.name}: {paths['network']} takes {network.most_tokens} tokens and cannot be given another "
            f"length, but its entry says {needed}; use a file of that length, or correct the entry"
        )
    return tokenizer, network


def _tokenizer(spec: ModelSpec, *, environment: Mapping[str, str]) -> Tokenizer:
    file = spec.file("vocabulary")
    key = (file.checksum, spec.lower_case, spec.strip_accents)
    with _tokenizers_lock:
        found = _tokenizers.get(key) if file.checksum else None
        if found is None:
            path = folder(spec, environment=environment) / file.name
            found = Tokenizer(path, lower_case=spec.lower_case, strip_accents=spec.strip_accents)
            _tokenizers[key] = found
        return found
