"""A model of the tests and pulls of it into a folder, for the tests of downloads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from download_server import Server, Step

from odqa.errors import DownloadError
from odqa.models import registry
from odqa.models.download import PullProgress, PullReport, pull
from odqa.models.fetch import Patience
from odqa.models.registry import ModelFile, ModelSpec

# A busy machine can keep the server of a test silent for a second: only servers that are told to stall are left early.
QUICK = Patience(stall_seconds=60.0, attempts=3, pause_seconds=0.01, longest_pause_seconds=0.02)
STALLING = replace(QUICK, stall_seconds=2.0)
NAME = "zoo-reader"
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
FILES = {"reader.xml": b"<net/>" * 500, "reader.bin": WEIGHTS, "vocab.txt": b"[PAD]\n[UNK]\n"}
ROLES = {"reader.xml": "network", "reader.bin": "weights", "vocab.txt": "vocabulary"}


def zoo_spec(files: Mapping[str, bytes] = FILES, *, base: str = "https://example.org/zoo/FP32") -> ModelSpec:
    made = tuple(
        ModelFile(
            name, ROLES[name], f"{base}/{name}", len(data), "sha384:" + hashlib.sha384(data).hexdigest()  # type: ignore[arg-type]
        )
        for name, data in files.items()
    )  # fmt: skip
    return ModelSpec(
        name=NAME, task="read", revision="1", description="a test's", licence="Apache-2.0", source="pull",
        architecture="none", files=made, lower_case=True, question_tokens=64, inputs=("input_ids",),
        outputs=("output_s", "output_e"), window_tokens=384,
    )  # fmt: skip


HUGGING = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")


def hugging_face_spec() -> ModelSpec:
    roles = ("configuration", "settings", "vocabulary", "weights")
    files = [
        ModelFile(name, role, f"https://example.org/{name}", None, None)  # type: ignore[arg-type]
        for name, role in zip(HUGGING, roles, strict=True)
    ]
    files[3] = replace(files[3], alternatives=("pytorch_model.bin",))
    return replace(zoo_spec(), form="huggingface", files=tuple(files))


class Pulled:
    """Pulls of one model into one folder."""

    def __init__(self, server: Server, root: Path, spec: ModelSpec) -> None:
        self.server, self.root, self.spec = server, root, spec
        self.seen: list[PullProgress] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"ODQA_MODELS_DIR": str(self.root)}

    @property
    def folder(self) -> Path:
        return self.root / NAME

    def __call__(self, *, base_url: str | None = None, **more: Any) -> PullReport:
        given: dict[str, Any] = {"patience": QUICK, "progress": self.seen.append} | more
        return pull(self.spec, base_url=base_url or self.server.url, environment=self.environment, **given)

    def fails(self, match: str, kind: type[Exception] = DownloadError, **more: Any) -> str:
        with pytest.raises(kind, match=match) as caught:
            self(**more)
        return str(caught.value)

    def part(self, name: str = "reader.bin") -> bytes | None:
        path = self.folder / f"{name}.part"
        return path.read_bytes() if path.exists() else None

    def is_whole(self) -> bool:
        """All files are right, and nothing else is left."""
        registry.verify(self.spec, environment=self.environment)
        return {path.name for path in self.folder.iterdir()} == FILES.keys()


def interrupted(pulled: Pulled) -> None:
    """Leave the first 100,000 bytes of the weights of version 1."""
    pulled.server.steps = [Step(cut=100_000)]
    pulled.fails("ended", patience=replace(QUICK, attempts=1))
    pulled.server.requests.clear()
