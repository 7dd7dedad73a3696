"""The models that there are: where their files lie, and whether they are the right ones.

A model is an entry of registry.json, or of a `model.json` beside the files of a model that was imported or converted
here. Code never branches on a model's name. Nothing heavy is imported here, so that listing models costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from odqa.errors import DamagedModelError, MissingModelError, ModelError, UnknownModelError
from odqa.models.spec import (
    ENCODE,
    HUGGINGFACE,
    IR,
    PLAIN_NAME,
    READ,
    Calibration,
    ModelFile,
    ModelSpec,
    entry_of,
    need_task,
    not_pulled,
    read_entry,
)

__all__ = [
    "BUNDLED",
    "ENCODE",
    "HUGGINGFACE",
    "IR",
    "LOCAL_ENTRY",
    "READ",
    "REGISTRY",
    "Calibration",
    "ModelFile",
    "ModelSpec",
    "differs",
    "entry_of",
    "file_checksum",
    "find",
    "folder",
    "is_here",
    "models",
    "models_folder",
    "need_here",
    "need_task",
    "problems",
    "published",
    "read_entry",
    "read_registry",
    "verify",
]

REGISTRY = Path(__file__).with_name("registry.json")
BUNDLED = Path(__file__).with_name("bundled")
LOCAL_ENTRY = "model.json"  # the entry of an imported or converted model, beside its files

# What to do about a file that is missing or wrong.
_CURES = {
    "bundled": "install odqa again",
    "pull": "get it again with `odqa models pull {}`",
    "local": "remove it with `odqa models remove {}` and import it again",
}


def read_registry(path: Path) -> tuple[ModelSpec, ...]:
    """Read a registry file: a JSON list of entries.

    Raises:
        ModelError: the file cannot be read, an entry is malformed, or two entries share a name.
    """
    try:
        specs = tuple(read_entry(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"the list of models {path} cannot be used ({error!r}); install odqa again") from error
    names = [name for spec in specs for name in (spec.name, *spec.other_names)]
    if len(set(names)) != len(names):
        raise ModelError(f"the list of models {path} uses a name twice; install odqa again")
    return specs


def _read_local(path: Path) -> ModelSpec:
    """Read the `model.json` of a model that was imported or converted here."""
    name = path.parent.name
    cure = f"remove it with `odqa models remove {name}` and get it again"
    try:
        spec = read_entry(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"model {name}: {path} cannot be used ({error!r}); {cure}") from error
    if spec.name != name or spec.form != IR or spec.source != "local":
        raise ModelError(f"model {name}: {path} is not the entry of this model; {cure}")
    return spec


# ---- what there is -------------------------------------------------------------------------------------------------


@cache
def published() -> tuple[ModelSpec, ...]:
    """Return every model of the registry, as it is published, the bundled ones first.

    Raises:
        ModelError: the registry cannot be read.
    """
    return read_registry(REGISTRY)


def models(*, environment: Mapping[str, str] = os.environ) -> tuple[ModelSpec, ...]:
    """Return every model: those of the registry, the bundled ones first, then the imported ones by name.

    A model that has to be converted is described as it was converted here, if it was. Models whose `model.json` cannot
    be used are left out, and stand in `problems`.

    Raises:
        ModelError: the registry cannot be read.
    """
    return _look(environment)[0]


def problems(*, environment: Mapping[str, str] = os.environ) -> Mapping[str, ModelError]:
    """Return what is wrong with models in the models folder whose `model.json` cannot be used, by name."""
    return _look(environment)[1]


def _look(environment: Mapping[str, str]) -> tuple[tuple[ModelSpec, ...], dict[str, ModelError]]:
    found: dict[str, ModelSpec] = {}
    wrong: dict[str, ModelError] = {}
    for path in sorted(models_folder(environment=environment).glob(f"*/{LOCAL_ENTRY}")):
        if PLAIN_NAME.fullmatch(path.parent.name):
            try:
                found[path.parent.name] = _read_local(path)
            except ModelError as error:
                wrong[path.parent.name] = error
    listed = [_as_converted(spec, found.pop(spec.name, None)) for spec in published()]
    return (*listed, *found.values()), wrong


def _as_converted(spec: ModelSpec, converted: ModelSpec | None) -> ModelSpec:
    """Join what is published of a model to the files that it was converted into."""
    if spec.form == IR or converted is None:
        return spec
    return replace(
        spec,
        form="ir",
        files=converted.files,
        inputs=converted.inputs,
        outputs=converted.outputs,
        strip_accents=converted.strip_accents,
        architecture=converted.architecture,
        measured=MappingProxyType({**spec.measured, **converted.measured}),
        parameters_millions=spec.parameters_millions or converted.parameters_millions,
    )


def find(
    name: str, *, task: Literal["encode", "read"] | None = None, environment: Mapping[str, str] = os.environ
) -> ModelSpec:
    """Return the model of a name, and with a `task` one that is for it.

    Raises:
        UnknownModelError: there is none; the message lists the names that there are.
        ModelError: it is for another task; or it was imported or converted here, and its `model.json` cannot be used.
    """
    known = models(environment=environment)
    named = next((spec for spec in known if name == spec.name or name in spec.other_names), None)
    wrong = problems(environment=environment).get(named.name if named else name)
    if wrong is not None:
        raise wrong
    if named is None:
        names = ", ".join(spec.name for spec in known if task in (None, spec.task))
        raise UnknownModelError(f"no model is named {name!r}; use one of: {names}")
    if task is not None:
        need_task(named, task)
    return named


def _cache_folder(environment: Mapping[str, str]) -> Path:
    if sys.platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return Path(local) / "odqa" / "Cache" if local else Path.home() / "AppData" / "Local" / "odqa" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "odqa"
    named = Path(environment.get("XDG_CACHE_HOME", ""))  # by its specification, a relative path counts as unset
    return (named if named.is_absolute() else Path.home() / ".cache") / "odqa"


def models_folder(*, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the models that are not in the package, whether it is there or not.

    It is `ODQA_MODELS_DIR`, or without that `models` in odqa's folder in the user's cache.
    """
    chosen = environment.get("ODQA_MODELS_DIR")
    return Path(chosen) if chosen else _cache_folder(environment) / "models"


def folder(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that a model is loaded from, whether it is there or not.

    Bundled models lie in the package. Others lie in a folder of their name in the models folder.
    """
    return BUNDLED if spec.source == "bundled" else models_folder(environment=environment) / spec.name


# ---- whether the files are the right ones --------------------------------------------------------------------------


def is_here(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a model can be loaded: all files are there with their sizes. Checksums are verified when it is."""
    place = folder(spec, environment=environment)
    return spec.form == IR and all(_size(place / file.name) == file.size for file in spec.files)


def need_here(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a model that has not been pulled, before work is begun that would need it. Costs no reading of files.

    Raises:
        MissingModelError: none of its files is there; the message says how to get them.
    """
    place = folder(spec, environment=environment)
    none = spec.form != IR or not any((place / file.name).is_file() for file in spec.files)
    if none and spec.source == "pull":
        raise MissingModelError(not_pulled(spec))


def verify(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> None:
    """Check that every file of a model is there and has the size and the checksum of its entry.

    Reads the files whole: about 1 ms per megabyte.

    Raises:
        MissingModelError: it has not been pulled.
        DamagedModelError: a file is missing or differs; the message names it, what was expected and what was found.
    """
    need_here(spec, environment=environment)
    place, cure = folder(spec, environment=environment), _CURES[spec.source].format(spec.name)
    missing = [file.name for file in spec.files if not (place / file.name).is_file()]
    if missing:
        raise DamagedModelError(f"model {spec.name} is not complete: {place} lacks {', '.join(missing)}; {cure}")
    for file in spec.files:
        difference = differs(place / file.name, size=file.size, checksum=file.checksum)
        if difference is not None:
            raise DamagedModelError(f"model {spec.name}: {place / file.name} has {difference}; {cure}")


def differs(path: Path, *, size: int | None, checksum: str | None) -> str | None:
    """Return how a file differs from its size in bytes and its checksum, or None; what is None is not compared."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found} bytes instead of {size}"
    if checksum is None:
        return None
    sum_found = file_checksum(path, algorithm=checksum.partition(":")[0])
    return None if sum_found == checksum else f"checksum {sum_found} instead of {checksum}"


def file_checksum(path: Path, *, algorithm: str = "sha256") -> str:
    """Return the checksum of a file in the form "sha256:" and hex digits."""
    with path.open("rb") as opened:
        return f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()}"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
