"""A model's files, fetched because somebody asked for it; nothing here runs by itself.

Every file is held against the size and the checksum of its registry entry before it counts. Where the publisher names
none, the file is trusted when it is first fetched: what came is recorded beside it, and later downloads are held
against that record.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from odqa.errors import DownloadError, ModelError
from odqa.models.fetch import AbsentFileError, Patience, fetch
from odqa.models.lock import model_lock
from odqa.models.registry import IR, ModelFile, ModelSpec, differs, file_checksum, folder, models_folder

ORIGINALS = ".downloads"  # in the models folder: files that have to be converted, and what was recorded of them
RECORD = "recorded.json"
_OPTIONAL = "settings"  # the role of files that may be absent at their source
_ADVICE = "try another source with --base-url, and do not trust this one before you know why"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How a file of a model stands: `bytes_total` is 0 where it is not known. `note` says what went wrong, or is ""."""

    file: str
    bytes_done: int
    bytes_total: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file as it was when it was first fetched: bytes, checksum, address, and the day (UTC)."""

    size: int
    checksum: str
    url: str
    date: str


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did: names of files fetched, of files that were there, and of fetched files trusted at first use."""

    folder: Path
    fetched: tuple[str, ...]
    present: tuple[str, ...]
    trusted: tuple[str, ...]


Progress = Callable[[PullProgress], None]


def pull(
    spec: ModelSpec,
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
    environment: Mapping[str, str] = os.environ,
) -> PullReport:
    """Fetch the files of a model that are not here or not the right ones; several processes may ask for it at once.

    Files in IR form go to the folder that the model is loaded from, others to the one of `originals_folder`.

    Args:
        spec: a model as it is published, of the source "pull".
        base_url: a mirror, http, https or file; a file's address is `<base_url>/<model name>/<file name>`.
        progress: called with every piece that comes, in the thread of the caller.
        patience: how long a download is tried; None for the defaults.
        environment: where the models folder is looked up. Proxies are those of the process's own environment.

    Raises:
        ValueError: `base_url` is not the address of a mirror.
        DownloadError: a file could not be fetched, or is not the right one.
        ModelError: the model is not one that can be pulled, or the models folder cannot be written to.
    """
    check_base_url(base_url)
    shown = progress or _silent
    waiting = partial(shown, PullProgress(spec.files[0].name, 0, 0, "another process is pulling it; waiting for that"))
    with model_lock(spec.name, environment=environment, waiting=waiting):
        return pull_locked(spec, base_url=base_url, progress=shown, patience=patience, environment=environment)


def pull_locked(
    spec: ModelSpec,
    *,
    base_url: str | None,
    progress: Progress | None,
    patience: Patience | None,
    environment: Mapping[str, str],
) -> PullReport:
    """Do what `pull` does; the caller holds the model's lock."""
    if spec.source != "pull":
        raise ModelError(f"model {spec.name} is {_SOURCES[spec.source]}; there is nothing to pull")
    place = folder(spec, environment=environment) if spec.form == IR else originals_folder(spec, environment)
    job = _Job(spec, place, base_url, progress or _silent, patience or Patience())
    try:
        place.mkdir(parents=True, exist_ok=True)
        missing = [file for file in spec.files if not job.is_right(file)]
        job.need_room(missing)
        for file in missing:
            job.get(file)
    except OSError as error:
        raise DownloadError(f"{place} cannot be written to: {error.strerror or error}; set ODQA_MODELS_DIR") from error
    present = [file.name for file in spec.files if file not in missing]
    return PullReport(place, tuple(job.fetched), tuple(present), tuple(job.trusted))


def originals_folder(spec: ModelSpec, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of files that have to be converted before they can be loaded, and of their record."""
    return models_folder(environment=environment) / ORIGINALS / spec.name


def recorded(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> dict[str, Recorded]:
    """Return what was recorded of the files that were fetched, by name; empty if nothing was.

    Raises:
        ModelError: the record cannot be read.
    """
    return _read_record(originals_folder(spec, environment) / RECORD, spec.name)


def check_base_url(base_url: str | None) -> None:
    """Refuse what cannot be the address of a mirror.

    Raises:
        ValueError: it is not a plain http, https or file address.
    """
    if base_url is None:
        return
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        raise ValueError(f"{base_url} is not an address; write http://…, https://… or file:///…")
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise ValueError(f"{base_url} names another machine; write file:/// and the path")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an address of a mirror holds no user, no password, no query and no fragment")
    if not base_url.isascii() or any(character.isspace() for character in base_url):
        raise ValueError(f"{base_url}: write blanks and letters beyond ASCII as %XX")


# ---- one pull ------------------------------------------------------------------------------------------------------

_SOURCES = {"bundled": "in the package", "local": "an imported one"}


class _Job:
    """One pull of one model, under its lock."""

    def __init__(
        self, spec: ModelSpec, place: Path, base_url: str | None, progress: Progress, patience: Patience
    ) -> None:
        self._spec, self._place, self._base_url = spec, place, base_url
        self._progress, self._patience = progress, patience
        self._record = _read_record(place / RECORD, spec.name)
        self.fetched: list[str] = []
        self.trusted: list[str] = []

    def is_right(self, file: ModelFile) -> bool:
        """Tell whether a file is here and what it has to be."""
        for name in (file.name, *file.alternatives):
            size, checksum = self._wanted(file, name)
            path = self._place / name
            if checksum is not None and path.is_file() and differs(path, size=size, checksum=checksum) is None:
                return True
        return False

    def need_room(self, missing: Sequence[ModelFile]) -> None:
        """Refuse to begin what the disk cannot hold, as far as sizes are known."""
        parts = [self._place / (file.name + ".part") for file in missing]
        here = sum(part.stat().st_size for part in parts if part.is_file())
        needed = sum(file.size or 0 for file in missing) - here
        free = shutil.disk_usage(self._place).free
        if 0 < free < needed:  # some file systems say 0 whatever they hold
            raise DownloadError(
                f"model {self._spec.name} needs {needed / 1e6:.0f} MB more, and {self._place} has {free / 1e6:.0f} MB "
                "left; make room, or name another folder with ODQA_MODELS_DIR"
            )

    def get(self, file: ModelFile) -> None:
        """Fetch a file, or the first of its alternatives that is there; one that was recorded comes first."""
        names = sorted((file.name, *file.alternatives), key=lambda name: name not in self._record)
        for name in names:
            try:
                self._fetch(file, name)
                return
            except AbsentFileError:
                if name == names[-1] and file.role != _OPTIONAL:
                    raise

    def _fetch(self, file: ModelFile, name: str) -> None:
        size, checksum = self._wanted(file, name)
        url, target = self._address(file, name), self._place / name
        known = self._record.get(name)
        witness, advice = "the list of models", _ADVICE
        if file.checksum is None and known is not None:
            witness = f"the record of its first download on {known.date}"
            advice = f"if you trust the new one, `odqa models remove {self._spec.name}` forgets the old"

        def report(done: int, total: int | None, note: str) -> None:
            self._progress(PullProgress(name, done, total or 0, note))

        fetch(
            url,
            target,
            size=size,
            checksum=checksum,
            witness=witness,
            advice=advice,
            patience=self._patience,
            report=report,
        )
        self.fetched.append(name)
        if checksum is None:
            today = datetime.now(UTC).date().isoformat()
            self._record[name] = Recorded(target.stat().st_size, file_checksum(target), url, today)
            self.trusted.append(name)
            _write_record(self._place / RECORD, self._record)

    def _wanted(self, file: ModelFile, name: str) -> tuple[int | None, str | None]:
        """Return size and checksum of a file: as published, else as recorded, else None."""
        if file.checksum is not None:
            return file.size, file.checksum
        known = self._record.get(name)
        return (known.size, known.checksum) if known else (file.size, None)

    def _address(self, file: ModelFile, name: str) -> str:
        if self._base_url is not None:
            return f"{self._base_url.rstrip('/')}/{self._spec.name}/{name}"
        return f"{str(file.url).rpartition('/')[0]}/{name}"


def _read_record(path: Path, name: str) -> dict[str, Recorded]:
    if not path.is_file():
        return {}
    try:
        return {key: Recorded(**value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {name}: the record of its first download, {path}, cannot be read ({error}); to begin anew, remove "
            f"it with `odqa models remove {name}`"
        ) from error


def _write_record(path: Path, record: Mapping[str, Recorded]) -> None:
    """Write the record whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({name: asdict(one) for name, one in record.items()}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _silent(_: PullProgress) -> None:
    """Show nothing."""
