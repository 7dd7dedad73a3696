"""Compiled networks kept in the user's cache, so that a command does not compile them anew.

Compiling a network takes several times as long as reading back what came of it. A file is used only by the very
network, version of OpenVINO, processor and options that it was made with, and only after its checksum was compared:
OpenVINO's parser never sees other bytes than it wrote.

    offset  bytes  content
         0      8  magic "ODQACMP2"
         8     32  SHA-256 of the rest
        40      …  what OpenVINO exported
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odqa.models.embeddings import keep_embeddings_small
from odqa.models.registry import ModelSpec, models_folder

if TYPE_CHECKING:
    import openvino

MAGIC = b"ODQACMP2"
_HEADER_BYTES = len(MAGIC) + 32
_FOLDER = ".compiled"
NO_FOLDER = "none"
# Of the weights of a network that is kept: exporting takes several times their size in memory and on disk, which for
# the largest readers is gigabytes, and reading that back would save little.
MOST_WEIGHT_BYTES = 64_000_000
_LEFT_SECONDS = 3600.0  # no file takes that long to write


def compiled_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return where compiled networks are kept: `ODQA_COMPILED_DIR`, else below the models folder; None for "none"."""
    chosen = environment.get("ODQA_COMPILED_DIR")
    if chosen == NO_FOLDER:
        return None
    return Path(chosen) if chosen else models_folder(environment=environment) / _FOLDER


@dataclass(frozen=True, slots=True)
class CompiledCache:
    """The compiled form of one model's network, in a folder that may be missing, full, or not to be written to.

    Args:
        folder: where files go.
        model: name of the model; a file that is kept takes the place of the model's others.
        checksum: over the files of the model.
    """

    folder: Path
    model: str
    checksum: str

    def load(self, *made_with: str) -> memoryview | None:
        """Return what was exported, or None where no whole file of that model, made with the same, is there.

        It is a copy of the file, in memory that may be written to: OpenVINO takes no other.
        """
        try:
            with self._path(made_with).open("rb", buffering=0) as file:
                content = memoryview(bytearray(os.fstat(file.fileno()).st_size))
                whole = _read_into(content, file)
        except OSError:
            return None
        header, payload = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
        return payload if whole and header == MAGIC + hashlib.sha256(payload).digest() else None

    def keep(self, payload: bytes, *made_with: str) -> None:
        """Keep what was exported: whole (by a rename) or not at all. Where that fails, nothing is lost but time."""
        path = self._path(made_with)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=f"{self.model}-", suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(MAGIC + hashlib.sha256(payload).digest())
                    file.write(payload)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self._tidy(path)

    def _tidy(self, keep: Path) -> None:
        """Remove the model's files of other versions, and what a process that was killed left half written."""
        for other in self.folder.glob(f"{self.model}-*"):
            ours = len(other.name) == len(keep.name) or other.suffix == ".tmp"
            left = other.suffix == ".compiled" or time.time() - other.stat().st_mtime > _LEFT_SECONDS
            if other != keep and ours and left:
                other.unlink(missing_ok=True)

    def discard(self, *made_with: str) -> None:
        """Remove a file that OpenVINO does not take."""
        with contextlib.suppress(OSError):
            self._path(made_with).unlink(missing_ok=True)

    def _path(self, made_with: tuple[str, ...]) -> Path:
        key = hashlib.sha256("\0".join((self.checksum, *made_with)).encode()).hexdigest()[:16]
        return self.folder / f"{self.model}-{key}.compiled"


def _read_into(content: memoryview, file: FileIO) -> bool:
    """Fill a buffer from a file, and tell whether there was enough. One copy, where `read` makes two."""
    at = 0
    while at < len(content) and (count := file.readinto(content[at:])):
        at += count
    return at == len(content)


def cache_of(spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> CompiledCache | None:
    """Return the cache of a model, or None where none is wanted, or the model is large."""
    folder = compiled_folder(environment)
    size = spec.file("weights").size
    if folder is None or size is None or size > MOST_WEIGHT_BYTES:
        return None
    return CompiledCache(folder, spec.name, spec.checksum)


def compiled_network(
    core: openvino.Core, model: openvino.Model, options: Mapping[str, Any], cache: CompiledCache | None
) -> tuple[openvino.CompiledModel, memoryview | None]:
    """Compile a network for the processor, or take what was kept of an earlier time; changes `model`.

    Returns:
        The compiled network, and memory that it reads from as long as it is used: whoever holds it must hold both.

    Raises:
        RuntimeError: OpenVINO refuses it.
    """
    if cache is None:
        keep_embeddings_small(model)
        return core.compile_model(model, "CPU", dict(options)), None
    import openvino

    processor = [str(core.get_property("CPU", name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    made_with = (openvino.__version__, *processor, str(os.cpu_count()), repr(sorted(options.items())))
    kept = cache.load(*made_with)
    if kept is not None:
        try:
            exported = openvino.Tensor(np.frombuffer(kept, np.uint8), shared_memory=True)
            return core.import_model(exported, "CPU", dict(options)), kept
        except RuntimeError:  # for a reason that the key does not tell; the network itself is there
            cache.discard(*made_with)
    keep_embeddings_small(model)
    compiled = core.compile_model(model, "CPU", dict(options))
    cache.keep(compiled.export_model().getvalue(), *made_with)
    return compiled, None
