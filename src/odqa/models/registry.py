"""The list of models as data: what each one is, where its files lie, and whether they are the right ones.

A model is an entry of registry.json. Code never branches on a model's name. Nothing heavy is imported here, so that
listing models costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from odqa.errors import DamagedModelError, ModelError, UnknownModelError

REGISTRY = Path(__file__).with_name("registry.json")
BUNDLED = Path(__file__).with_name("bundled")

ENCODE = "encode"
READ = "read"

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model.

    `name` is its name in the model's folder, `size` is in bytes, `checksum` is "sha256:" or "sha384:" and hex digits,
    and `url` is where it can be had, or None for a bundled file.

    Raises:
        ValueError: the name has a folder in it, the role is unknown, or the checksum is malformed.
    """

    name: str
    role: Literal["network", "weights", "vocabulary"]
    url: str | None
    size: int
    checksum: str

    def __post_init__(self) -> None:
        """Refuse entries that could not be verified, or that would lead out of the model's folder."""
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"not a plain file name: {self.name!r}")
        if self.role not in ("network", "weights", "vocabulary"):
            raise ValueError(f"{self.name}: unknown role {self.role!r}")
        if not _CHECKSUM.fullmatch(self.checksum):
            raise ValueError(
                f"{self.name}: a checksum must be sha256: or sha384: and hex digits, not {self.checksum!r}"
            )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the scores of a reader become the order and the probabilities of answers; see `odqa.reader.merge`.

    The final score of a span is `reader_weight` * its reader score + `retrieval_weight` * -log(rank of its passage).
    `support_weight` in [0, 1] says how far equal answers from several places raise the score. The probability of an
    answer is sigmoid(`score_coefficient` * score + `margin_coefficient` * margin + `intercept`), with the margin to
    the best other answer held in [-`margin_cap`, `margin_cap`]. Below `threshold` the result is "no answer".
    """

    reader_weight: float = 1.0
    retrieval_weight: float = 0.0
    support_weight: float = 0.0
    score_coefficient: float = 1.0
    margin_coefficient: float = 0.0
    intercept: float = 0.0
    margin_cap: float = 10.0
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model, as its registry entry describes it.

    Lengths are in tokens, [CLS] and [SEP] included: `passage_tokens` (encoders; 0 for readers), `window_tokens`
    (readers; 0 for encoders) and `question_tokens` ([CLS] and [SEP] not counted for readers, where a question shares
    its window). `inputs` and `outputs` are the network's names in the order of their positions: a file with other names
    is bound by position. `width` is the length of an encoder's vectors, 0 for readers. `published` and `measured` hold
    figures by name. `trained_no_answer` tells whether a reader was trained to point at [CLS] when there is no answer.
    `other_names` are names under which it can be found as well.
    """

    name: str
    task: Literal["encode", "read"]
    revision: str
    description: str
    licence: str
    source: Literal["bundled", "pull"]
    architecture: str
    files: tuple[ModelFile, ...]
    lower_case: bool
    question_tokens: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    passage_tokens: int = 0
    window_tokens: int = 0
    width: int = 0
    published: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    trained_no_answer: bool = False
    calibration: Calibration = field(default_factory=Calibration)
    other_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse entries that cannot be loaded."""
        if self.task not in (ENCODE, READ) or self.source not in ("bundled", "pull"):
            raise ValueError(f"{self.name}: unknown task {self.task!r} or source {self.source!r}")
        if sorted(file.role for file in self.files) != ["network", "vocabulary", "weights"]:
            raise ValueError(f"{self.name}: needs one network, one weights and one vocabulary file")
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"not a plain model name: {self.name!r}")

    def file(self, role: Literal["network", "weights", "vocabulary"]) -> ModelFile:
        """Return the file of a role."""
        return next(file for file in self.files if file.role == role)

    @property
    def checksum(self) -> str:
        """One checksum for all that decides the outputs: SHA-256 over the checksums of the files, in order of role."""
        lines = [f"{file.role} {file.checksum}\n" for file in sorted(self.files, key=lambda file: file.role)]
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def _spec(entry: Mapping[str, Any]) -> ModelSpec:
    fields = dict(entry)
    fields.update(fields.pop("maximum_lengths"))
    fields["files"] = tuple(ModelFile(**file) for file in fields["files"])
    for name in ("inputs", "outputs", "other_names"):
        fields[name] = tuple(fields.get(name, ()))
    for name in ("published", "measured"):
        fields[name] = MappingProxyType(dict(fields.get(name, {})))
    fields["calibration"] = Calibration(**fields.get("calibration", {}))
    return ModelSpec(**fields)


def read_registry(path: Path) -> tuple[ModelSpec, ...]:
    """Read a registry file: a JSON list of entries.

    Raises:
        ModelError: the file cannot be read, an entry is malformed, or two entries share a name.
    """
    try:
        specs = tuple(_spec(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the list of models {path} cannot be used ({error!r}); install odqa again") from error
    names = [name for spec in specs for name in (spec.name, *spec.other_names)]
    if len(set(names)) != len(names):
        raise ModelError(f"the list of models {path} uses a name twice; install odqa again")
    return specs


@cache
def models() -> tuple[ModelSpec, ...]:
    """Return every model of the registry, the bundled ones first.

    Raises:
        ModelError: the registry cannot be read.
    """
    return read_registry(REGISTRY)


def find(name: str) -> ModelSpec:
    """Return the model of a name.

    Raises:
        UnknownModelError: the registry has none; the message lists the names it has.
    """
    for spec in models():
        if name == spec.name or name in spec.other_names:
            return spec
    raise UnknownModelError(f"no model is named {name!r}; use one of: {', '.join(spec.name for spec in models())}")


def _cache_folder(environment: Mapping[str, str]) -> Path:
    if sys.platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return Path(local) / "odqa" / "Cache" if local else Path.home() / "AppData" / "Local" / "odqa" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "odqa"
    named = Path(environment.get("XDG_CACHE_HOME", ""))  # by its specification, a relative path counts as unset
    return (named if named.is_absolute() else Path.home() / ".cache") / "odqa"


def folder(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of a model's files, whether they are there or not.

    Bundled models lie in the package. Others lie in a folder of their name in `ODQA_MODELS_DIR`, or without that in
    `models` in odqa's folder in the user's cache.
    """
    if spec.source == "bundled":
        return BUNDLED
    chosen = environment.get("ODQA_MODELS_DIR")
    return (Path(chosen) if chosen else _cache_folder(environment) / "models") / spec.name


def verify(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> None:
    """Check that every file of a model is there and has the size and the checksum of the registry.

    Reads the files whole: about 1 ms per megabyte.

    Raises:
        DamagedModelError: a file is missing or differs; the message names it, what was expected and what was found.
    """
    place = folder(spec, environment=environment)
    bundled = spec.source == "bundled"
    missing = [file for file in spec.files if not (place / file.name).is_file()]
    if missing:
        listed = ", ".join(file.name if file.url is None else f"{file.name} ({file.url})" for file in missing)
        cure = "install odqa again" if bundled else "put the files there"
        raise DamagedModelError(f"model {spec.name} is not complete: {place} lacks {listed}; {cure}")
    for file in spec.files:
        path = place / file.name
        cure = "install odqa again" if bundled else f"replace it by the file of {file.url}"
        size = path.stat().st_size
        if size != file.size:
            raise DamagedModelError(f"model {spec.name}: {path} has {size} bytes instead of {file.size}; {cure}")
        algorithm = file.checksum.partition(":")[0]
        with path.open("rb") as opened:
            found = f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()}"
        if found != file.checksum:
            raise DamagedModelError(
                f"model {spec.name}: {path} has checksum {found} instead of {file.checksum}; {cure}"
            )
