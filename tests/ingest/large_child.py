"""Indexes a folder with the tokenizer of the bundled encoder and an encoder that is quick, and prints the peak memory.

python large_child.py DOCS INDEX
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import fake_models

from odqa import pipeline, settings
from odqa.models import registry
from odqa.models.runtime import Tokenizer
from odqa.protocols import TokenIds

WIDTH = 1024  # that of the bundled encoder


class QuickEncoder(fake_models.BagEncoder):
    """Vectors from a hash of the passage; the tokenizer is the real one."""

    def __init__(self, spec: registry.ModelSpec) -> None:
        super().__init__(spec)
        self.tokenizer = TOKENIZER

    def encode_passages(
        self, passages: Sequence[str], *, titles: Sequence[str], ids: Sequence[TokenIds] | None = None
    ) -> np.ndarray:
        vectors = np.zeros((len(passages), WIDTH), np.float32)
        for row, passage in zip(vectors, passages, strict=True):
            row[:16] = np.frombuffer(hashlib.sha256(passage.encode()).digest()[:16], np.uint8)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


bundled = registry.find(settings.DEFAULT_ENCODER)
[vocabulary] = [file.name for file in bundled.files if file.role == "vocabulary"]
TOKENIZER = Tokenizer(registry.folder(bundled) / vocabulary, lower_case=bundled.lower_case)
with fake_models.pytest.MonkeyPatch.context() as patch:
    spec = fake_models.replace(fake_models.ENCODER_SPEC, width=WIDTH)
    patch.setattr(fake_models, "ENCODER_SPEC", spec)
    patch.setattr(fake_models, "BagEncoder", QuickEncoder)
    fake_models.use_fake_models(patch)
    patch.setattr("odqa.pipeline.load_encoder", lambda _: QuickEncoder(spec))
    with pipeline.open(Path(sys.argv[2]), create=True) as qa:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = qa.index([Path(sys.argv[1])])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
figures = {"added": report.added, "passages": report.passages, "before": before * unit, "peak": peak * unit}
sys.stdout.write(json.dumps(figures) + "\n")
