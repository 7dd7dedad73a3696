"""Compiled networks are kept for the next process, and never taken for another one's or when they are damaged."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest

from odqa.models import compiled, registry, runtime
from odqa.models.compiled import CompiledCache, cache_of, compiled_folder
from odqa.models.opening import open_model
from odqa.models.runtime import Row

ROWS = [Row([101, 2040, 2881, 102]), Row([101, 7592, 102])]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"ODQA_COMPILED_DIR": str(tmp_path / "kept"), "HOME": str(tmp_path)}


def spec() -> registry.ModelSpec:
    return registry.find("odqa-encoder-small-int8")


def vectors(environment: dict[str, str]) -> np.ndarray:
    return open_model(spec(), environment=environment)[1].vectors(ROWS)


def files(environment: dict[str, str]) -> list[Path]:
    return sorted(Path(environment["ODQA_COMPILED_DIR"]).iterdir())


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts what is compiled and what is read back."""
    done: list[str] = []

    class Watched:
        def __init__(self, core: openvino.Core) -> None:
            self._core = core

        def __getattr__(self, name: str) -> object:
            if name in ("compile_model", "import_model"):
                done.append(name)
            return getattr(self._core, name)

    watched = Watched(runtime.core())
    monkeypatch.setattr(runtime, "core", lambda: watched)
    return done


def test_what_was_compiled_is_read_back_and_says_the_same(environment: dict[str, str], compilations: list[str]) -> None:
    first = vectors(environment)
    (kept,) = files(environment)
    assert compilations == ["compile_model"]
    assert kept.name.startswith("odqa-encoder-small-int8-") and kept.suffix == ".compiled"
    assert np.array_equal(vectors(environment), first)
    assert compilations == ["compile_model", "import_model"] and files(environment) == [kept]
    assert np.array_equal(vectors({"ODQA_COMPILED_DIR": "none"}), first)
    assert compilations[2:] == ["compile_model"]


@pytest.mark.parametrize("damage", ["bit", "end", "magic", "empty", "longer"])
def test_a_damaged_file_never_reaches_openvino(
    environment: dict[str, str], compilations: list[str], damage: str
) -> None:
    first = vectors(environment)
    (kept,) = files(environment)
    data = bytearray(kept.read_bytes())
    if damage in ("bit", "magic"):
        data[len(data) // 2 if damage == "bit" else 0] ^= 4
    kept.write_bytes({"end": data[:-1], "empty": b"", "longer": data + b"\0"}.get(damage, bytes(data)))
    assert np.array_equal(vectors(environment), first)
    assert compilations == ["compile_model", "compile_model"]
    assert np.array_equal(vectors(environment), first)  # it was written anew
    assert compilations[2:] == ["import_model"]


def test_what_openvino_does_not_take_is_compiled(environment: dict[str, str], compilations: list[str]) -> None:
    first = vectors(environment)
    (kept,) = files(environment)
    payload = b"no network"
    kept.write_bytes(compiled.MAGIC + hashlib.sha256(payload).digest() + payload)
    assert np.array_equal(vectors(environment), first)
    assert compilations[1:] == ["import_model", "compile_model"]
    assert files(environment)[0].stat().st_size > 1_000_000


def test_a_file_belongs_to_its_network_version_and_options(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "new" / "folder", "m", "sha256:1")
    assert cache.load("2026.1", "cpu") is None
    cache.keep(b"one", "2026.1", "cpu")
    assert cache.load("2026.1", "cpu") == b"one"
    assert cache.load("2026.1cpu") is None and cache.load("2026.2", "cpu") is None
    assert CompiledCache(cache.folder, "m", "sha256:2").load("2026.1", "cpu") is None
    CompiledCache(cache.folder, "m-large", "sha256:1").keep(b"large", "2026.1", "cpu")
    cache.keep(b"two", "2026.2", "cpu")  # takes the place of the one of the other version, and of no other model's
    assert len(list(cache.folder.iterdir())) == 2
    assert cache.load("2026.1", "cpu") is None and cache.load("2026.2", "cpu") == b"two"
    old, young = cache.folder / "m-1234.tmp", cache.folder / "m-5678.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1.5e9, 1.5e9))
    cache.keep(b"three", "2026.3", "cpu")
    assert not old.exists() and young.exists()  # that one may be being written
    cache.discard("2026.3", "cpu")
    assert cache.load("2026.3", "cpu") is None


def test_a_network_that_was_read_back_holds_the_memory_that_it_reads_from(environment: dict[str, str]) -> None:
    made, kept = (open_model(spec(), environment=environment)[1] for _ in range(2))
    assert made._alone._memory is None
    (file,) = files(environment)
    assert kept._alone._memory == file.read_bytes()[40:]
    assert np.array_equal(kept.vectors(ROWS), made.vectors(ROWS))


class Halting(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def readinto(self, buffer: memoryview) -> int:
        return super().readinto(buffer[:3])


def test_a_file_is_read_to_its_end_or_not_taken() -> None:
    content = memoryview(bytearray(10))
    assert compiled._read_into(content, Halting(b"0123456789"))
    assert content == b"0123456789"
    assert not compiled._read_into(content, Halting(b"01234"))  # it became shorter meanwhile
    assert compiled._read_into(memoryview(b""), Halting(b""))


def test_a_folder_that_cannot_be_written_to_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = CompiledCache(tmp_path / "file", "m", "c")
    cache.keep(b"one", "v")
    assert cache.load("v") is None
    cache.discard("v")
    assert (tmp_path / "file").read_text() == "no folder"


def test_where_they_are_kept(tmp_path: Path) -> None:
    assert compiled_folder({"ODQA_MODELS_DIR": str(tmp_path)}) == tmp_path / ".compiled"
    assert compiled_folder({"ODQA_MODELS_DIR": "/m", "ODQA_COMPILED_DIR": str(tmp_path)}) == tmp_path
    assert compiled_folder({"ODQA_COMPILED_DIR": "none"}) is None
    assert cache_of(spec(), environment={"ODQA_COMPILED_DIR": "none"}) is None
    large = replace(
        spec(), files=tuple(replace(one, size=64_000_001) if one.role == "weights" else one for one in spec().files)
    )
    assert cache_of(large, environment={"ODQA_COMPILED_DIR": str(tmp_path)}) is None
    kept = cache_of(spec(), environment={"ODQA_COMPILED_DIR": str(tmp_path)})
    assert kept == CompiledCache(tmp_path, spec().name, spec().checksum)


def test_two_threads_load_both_models_at_once(tmp_path: Path) -> None:
    """In a fresh process: OpenVINO fills a table at its first use, in which two threads could wait for each other."""
    code = """
import threading
from odqa.models.registry import find
from odqa.models.opening import open_model
names = ("odqa-encoder-small-int8", "odqa-reader-small-int8")
threads = [threading.Thread(target=open_model, args=(find(name),)) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    environment = {**os.environ, "ODQA_COMPILED_DIR": str(tmp_path)}
    for _ in range(4):  # compiled once, then read back
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
    assert len(list(tmp_path.iterdir())) == 2
