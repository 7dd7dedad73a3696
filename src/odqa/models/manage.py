"""Models put into the models folder and taken out of it: pulled, imported, removed. One process at a time for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from odqa import settings
from odqa.errors import ModelError
from odqa.models.download import ORIGINALS, Progress, PullProgress, check_base_url, pull_locked
from odqa.models.fetch import Patience
from odqa.models.lock import model_lock
from odqa.models.registry import (
    HUGGINGFACE,
    LOCAL_ENTRY,
    ModelSpec,
    find,
    folder,
    models_folder,
    problems,
    published,
    verify,
)
from odqa.models.spec import PLAIN_NAME

Precision = Literal["fp32", "fp16", "int8"]

_STAGED = ".converting"  # in the models folder: a model before it is whole
_REMOVED = ".removed"  # and one that is going away


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that can be used now.

    `fetched` names the files that had to come for it, `trusted` those of them that nobody publishes a checksum of.
    """

    name: str
    folder: Path
    fetched: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """A model that was removed, and the bytes that its files took."""

    name: str
    folder: Path
    size_bytes: int


def install(
    name: str,
    *,
    base_url: str | None = None,
    precision: Precision | None = None,
    calibration_texts: Sequence[str] | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Installed:
    """Pull a model, and convert it if it comes in another form than OpenVINO's.

    What is here and whole is left alone; without `precision` that holds for a converted model of any precision. The
    originals of a converted model are removed when it is whole, what was recorded of them stays.

    Args:
        name: a model of the registry.
        base_url: a mirror; see `odqa.models.download.pull`.
        precision: of a model that is converted; None for fp16.
        calibration_texts: texts such as the model will see, needed for int8.
        progress: called with every piece that comes, and before the conversion.
        patience: how long a download is tried.
        environment: where the models folder is looked up.

    Raises:
        ValueError: a wrong `base_url`, or a precision that this model cannot have.
        UnknownModelError: the registry has no such model.
        DownloadError: a file could not be fetched, or is not the right one.
        ModelError: it is no model to pull, or cannot be converted, or the models folder cannot be written to.
    """
    check_base_url(base_url)
    listed = [spec for spec in published() if name == spec.name or name in spec.other_names]
    spec = listed[0] if listed else find(name, environment=environment)
    _check_precision(spec, precision, calibration_texts)
    shown = progress or (lambda _: None)
    with _locked(spec.name, shown, environment):
        if spec.form == HUGGINGFACE and precision is None and _is_whole(spec.name, environment):
            return Installed(spec.name, folder(spec, environment=environment))
        report = pull_locked(spec, base_url=base_url, progress=shown, patience=patience, environment=environment)
        if spec.form == HUGGINGFACE:
            chosen = precision or settings.DEFAULT_PRECISION
            shown(PullProgress(spec.name, 0, 0, f"converting it to OpenVINO's form, {chosen}"))
            _convert(report.folder, spec.name, chosen, spec.task, calibration_texts, environment)
            for file in spec.files:
                for original in (file.name, *file.alternatives):
                    (report.folder / original).unlink(missing_ok=True)
    return Installed(spec.name, folder(spec, environment=environment), report.fetched, report.trusted)


def import_folder(
    path: Path,
    *,
    name: str,
    precision: Precision = settings.DEFAULT_PRECISION,
    task: Literal["read", "encode"] | None = None,
    calibration_texts: Sequence[str] | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ModelSpec:
    """Convert a Hugging Face folder on this machine into a model that is found by `name`. The folder stays as it is.

    Raises:
        ValueError: `name` cannot be the name of a model, or int8 was asked for without texts.
        ModelError: the name is taken, the folder holds no model that can be converted, or the models folder cannot be
            written to.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a name: use letters, digits, dots, dashes and underscores")
    if any(name in (spec.name, *spec.other_names) for spec in published()):
        raise ModelError(f"{name} is the name of a model that odqa knows; choose another")
    _check_int8(precision, calibration_texts)
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder; give the folder that holds config.json, vocabulary and weights")
    shown = progress or (lambda _: None)
    with _locked(name, shown, environment):
        present = models_folder(environment=environment) / name
        if os.path.lexists(present):
            cure = f"`odqa models remove {name}`" if (present / LOCAL_ENTRY).exists() else "move that away"
            raise ModelError(f"{present} is there already; choose another name, or {cure} first")
        shown(PullProgress(name, 0, 0, f"converting it to OpenVINO's form, {precision}"))
        _convert(path, name, precision, task, calibration_texts, environment)
    return find(name, environment=environment)


def remove(name: str, *, environment: Mapping[str, str] = os.environ) -> Removed:
    """Remove a pulled or imported model with all its files, and what was recorded when it was first fetched.

    Raises:
        UnknownModelError: there is no such model.
        ModelError: it is in the package, or none of its files is here, or they cannot be removed.
    """
    name = name if name in problems(environment=environment) else _removable(name, environment)
    with model_lock(name, environment=environment):
        place = models_folder(environment=environment)
        there = [path for path in (place / name, place / ORIGINALS / name, place / _STAGED / name) if path.is_dir()]
        if not there:
            raise ModelError(f"model {name} is not here; there is nothing to remove")
        size = sum(file.stat().st_size for path in there for file in path.rglob("*") if file.is_file())
        try:
            for number, path in enumerate(there):
                _put_away(path, place / _REMOVED / f"{name}.{number}")
        except OSError as error:
            raise ModelError(f"model {name} cannot be removed: {error}; make {place} writable") from error
    return Removed(name, place / name, size)


# ---- parts of these ------------------------------------------------------------------------------------------------


def _removable(name: str, environment: Mapping[str, str]) -> str:
    spec = find(name, environment=environment)
    if spec.source == "bundled":
        raise ModelError(f"model {spec.name} is in the package and cannot be removed")
    return spec.name


@contextmanager
def _locked(name: str, progress: Progress, environment: Mapping[str, str]) -> Iterator[None]:
    note = PullProgress(name, 0, 0, f"another process is working on model {name}; waiting for it")
    with model_lock(name, environment=environment, waiting=partial(progress, note)):
        yield


def _check_precision(spec: ModelSpec, precision: Precision | None, texts: Sequence[str] | None) -> None:
    if spec.form != HUGGINGFACE and (precision is not None or texts is not None):
        raise ValueError(f"model {spec.name} is published in one precision; leave out precision and calibration")
    _check_int8(precision, texts)


def _check_int8(precision: Precision | None, texts: Sequence[str] | None) -> None:
    if (precision == "int8") != (texts is not None):
        raise ValueError(
            "int8 needs texts to calibrate with (--calibration FILE), and only int8 does: give both or neither"
        )


def _is_whole(name: str, environment: Mapping[str, str]) -> bool:
    try:
        verify(find(name, environment=environment), environment=environment)
    except ModelError:  # damaged, or its entry is: then it is made anew
        return False
    return True


def _convert(
    source: Path,
    name: str,
    precision: Precision,
    task: Literal["read", "encode"] | None,
    texts: Sequence[str] | None,
    environment: Mapping[str, str],
) -> None:
    """Convert into a folder apart, and give it its place when it is whole; what was there before goes away then."""
    from odqa.models.convert import import_model  # only now: it loads OpenVINO

    place = models_folder(environment=environment)
    staged = place / _STAGED
    shutil.rmtree(staged / name, ignore_errors=True)  # left by a process that was killed; its lock is ours now
    try:
        import_model(
            source,
            name=name,
            precision=precision,
            task=task,
            calibration_texts=texts,
            environment={**environment, "ODQA_MODELS_DIR": str(staged)},
        )
        try:
            if (place / name).is_dir():
                _put_away(place / name, place / _REMOVED / name)
            (staged / name).replace(place / name)
        except OSError as error:
            raise ModelError(f"model {name} cannot be put into {place}: {error}; make it writable") from error
    finally:
        shutil.rmtree(staged / name, ignore_errors=True)


def _put_away(path: Path, aside: Path) -> None:
    """Remove a folder: it is gone from its place at once, and a model is never half there."""
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    path.replace(aside)
    if aside.is_symlink():
        aside.unlink()
    else:
        shutil.rmtree(aside)
