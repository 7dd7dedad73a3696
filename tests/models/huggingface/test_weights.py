from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import bert_cases
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odqa.errors import ModelError
from odqa.models.huggingface.weights import read_object, read_weights

TABLE = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
WEIGHTS = {"a": TABLE, "b.c": TABLE[0] + 1, "none": np.zeros((0, 4), np.float32)}
FILES = {"model.safetensors": bert_cases.safetensors_file, "pytorch_model.bin": None}
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, weights: dict[str, np.ndarray]) -> None:
    if path.name.endswith(".safetensors"):
        path.write_bytes(bert_cases.safetensors_file(weights))
    else:
        bert_cases.write_bin(path, weights)


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype
        np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.parametrize("name", FILES)
def test_one_file(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, WEIGHTS)
    assert_same(read_weights(tmp_path), WEIGHTS)


@pytest.mark.parametrize("name", FILES)
def test_types_of_numbers(name: str, tmp_path: Path) -> None:
    given = {
        "half": TABLE.astype(np.float16), "double": TABLE.astype(np.float64), "bfloat": bert_cases.bfloat16(TABLE),
        "whole": np.arange(3),
    }  # fmt: skip
    write(tmp_path / name, given)
    assert_same(read_weights(tmp_path), {"half": TABLE, "double": TABLE, "bfloat": TABLE, "whole": np.arange(3)})


@pytest.mark.parametrize("name", FILES)
def test_parts(name: str, tmp_path: Path) -> None:
    stem, _, end = name.rpartition(".")
    first, second = f"{stem}-00001-of-00002.{end}", f"{stem}-00002-of-00002.{end}"
    write(tmp_path / first, {"a": TABLE, "unlisted": TABLE})
    write(tmp_path / second, {"b.c": WEIGHTS["b.c"], "none": WEIGHTS["none"]})
    index = tmp_path / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": first, "b.c": second, "none": second}}))
    assert_same(read_weights(tmp_path), WEIGHTS)
    index.write_text(json.dumps({"weight_map": {"a": first, "b.c": first}}))
    with pytest.raises(ModelError, match=rf"{first} lacks b\.c, which {name}\.index\.json puts there"):
        read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": f"x-{first}"}}))
    with pytest.raises(ModelError, match=f"x-{first} cannot be read"):
        read_weights(tmp_path)
    for places in ({}, [], {"a": 1}, None):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(ModelError, match="weight_map"):
            read_weights(tmp_path)
    for outside in ("../model.safetensors", "/etc/passwd", "..", "", "a\\b", "c:x"):
        index.write_text(json.dumps({"weight_map": {"a": outside}}))
        with pytest.raises(ModelError, match="outside its folder"):
            read_weights(tmp_path)


def test_safetensors_comes_first_and_a_whole_file_before_parts(tmp_path: Path) -> None:
    write(tmp_path / "pytorch_model.bin", {"from": np.zeros(1, np.float32)})
    (tmp_path / "model.safetensors.index.json").write_text("[")
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json cannot be read"):
        read_weights(tmp_path)
    write(tmp_path / "model.safetensors", WEIGHTS)
    assert_same(read_weights(tmp_path), WEIGHTS)


def test_folders_without_weights_say_what_they_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.safetensors or pytorch_model\.bin, but no files"):
        read_weights(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=r"but tf_model\.h5; save the model as model\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_pointers_of_git_lfs(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ModelError, match="git lfs pull"):
        read_weights(tmp_path)


def test_types_that_are_not_supported(tmp_path: Path) -> None:
    text = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0\0")
    with pytest.raises(ModelError, match="a has the type F8_E4M3"):
        read_weights(tmp_path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model.safetensors", WEIGHTS)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModelError, match=r'needs the package safetensors: pip install "odqa\[import\]"'):
        read_weights(tmp_path)


@pytest.mark.parametrize(("text", "reason"), [("{", "cannot be read"), ("[]", "no JSON object"), ("[" * 99999, "read")])
def test_json(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ModelError, match=rf"x\.json .*{reason}"):
        read_object(tmp_path / "x.json")


@given(at=st.integers(0, 400), bit=st.integers(0, 7), cut=st.none() | st.integers(0, 400))
@FUZZ
def test_damaged_safetensors_are_an_error_or_harmless(at: int, bit: int, cut: int | None, tmp_path: Path) -> None:
    data = bytearray(bert_cases.safetensors_file(WEIGHTS))
    data[at % len(data)] ^= 1 << bit
    (tmp_path / "model.safetensors").write_bytes(data[:cut])
    try:
        found = read_weights(tmp_path)
    except ModelError as error:
        assert "model.safetensors" in str(error)
    else:
        assert all(len(array.tobytes()) == array.nbytes for array in found.values())
