from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import bert_cases
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odqa.errors import ModelError
from odqa.models.huggingface.state_dict import read_state_dict

FILES = Path(__file__).parent / "files"
TABLE = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_a_file_of_pytorch() -> None:
    found = read_state_dict(FILES / "tensors.bin")
    wanted = {
        "whole": TABLE, "turned": TABLE.T, "part": TABLE[1:, 1:3], "same": TABLE, "half": TABLE, "bfloat16": TABLE,
        "double": TABLE, "whole_numbers": np.arange(5), "scalar": np.float32(2.5), "parameter": TABLE + 1,
        "empty": np.zeros((0, 4), np.float32),
    }  # fmt: skip
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, wanted[name])
        assert tensor.dtype == (np.int64 if name == "whole_numbers" else np.float32)


def test_a_module_has_attributes_that_do_not_matter() -> None:
    found = read_state_dict(FILES / "module.bin")
    assert {name: tensor.shape for name, tensor in found.items()} == {"weight": (3, 2), "bias": (3,)}


def test_halves_lose_nothing_and_bfloat16_is_the_upper_half(tmp_path: Path) -> None:
    values = np.array([1.5, -0.0, 3.140625, 1e30, -(2.0**-126)], np.float32)
    path = bert_cases.write_bin(tmp_path / "x.bin", {"b": bert_cases.bfloat16(values), "h": TABLE.astype(np.float16)})
    found = read_state_dict(path)
    np.testing.assert_array_equal(found["b"], (values.view(np.uint32) & 0xFFFF0000).view(np.float32))
    np.testing.assert_array_equal(found["h"], TABLE)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (
            "runs-a-command.bin",
            r"names '(posix|nt)\.system', which no state dict of tensors needs, and which was not run",
        ),
        ("whole-module.bin", r"names 'torch\.nn\.modules\.linear\.Linear'"),
        ("tensors-before-1.6.bin", r"the form of PyTorch before 1\.6, .* save it as model\.safetensors"),
    ],
)
def test_what_cannot_be_read_without_running_it_is_refused(
    file: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=reason) as caught:
        read_state_dict(FILES / file)
    assert str(FILES / file) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Runs:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [(Path.touch, Path("was-run")), (eval, "open('was-run', 'w')"), (getattr, 1, "real")])
def test_no_pickle_calls_anything(
    call: tuple[object, ...], protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bert_cases.archive(tmp_path / "x.bin", pickle.dumps({"a": Runs(*call)}, protocol), {})
    with pytest.raises(ModelError, match=r"x\.bin"):
        read_state_dict(tmp_path / "x.bin")
    assert not (tmp_path / "was-run").exists()


def tensor(**changes: object) -> bytes:
    given = {"shape": (2, 3), "strides": (3, 1), "count": 6} | changes
    return bert_cases.tensor_pickle(given.pop("kind", "Float"), given.pop("key", "0"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"a": tensor(shape=(3, 3))}, r"shape \(3, 3\) needs more than its 6 numbers"),
        ({"a": tensor(offset=1)}, "needs more than its 6"),
        ({"a": tensor(strides=(3, 2))}, "needs more than its 6"),
        ({"a": tensor(shape=(1000000,), strides=(0,))}, "needs more than its 6"),
        ({"a": tensor(strides=(-3, 1))}, "strides"),
        ({"a": tensor(offset=-1)}, "strides"),
        ({"a": tensor(shape=(2,))}, "strides"),
        ({"a": tensor(key="1")}, "data/1 is missing"),
        ({"a": tensor(key="../0")}, r"data/\.\./0 is missing"),
        ({"a": tensor(count=7)}, "data/0 has 24 bytes instead of 28"),
        ({"a": tensor(), "b": tensor(kind="Half", shape=(12,), strides=(1,), count=12)}, None),
        ({"a": tensor(), "b": tensor(kind="Double", count=6)}, "data/0 has 24 bytes instead of 48"),
        ({"a": tensor(kind="Complex")}, r"names 'torch\.ComplexStorage'"),
        ({"a": pickle.NONE}, "'a' is no tensor"),
        ({"a": pickle.EMPTY_DICT}, "'a' is no tensor"),
        ({"a": tensor() + pickle.BINPUT + b"\x01" + pickle.POP}, "opcode POP"),
        ({"a": pickle.BINGET + b"\x09"}, "no whole file"),
        ({"a": b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.EMPTY_TUPLE + pickle.REDUCE}, "unknown form"),
        ({"a": b"ctorch\nFloatStorage\n" + pickle.EMPTY_TUPLE + pickle.REDUCE}, "no whole file"),
        ({"a": bert_cases._text("x") + pickle.BINPERSID}, "unknown form"),
    ],
)
def test_what_a_pickle_may_not_say(values: dict[str, bytes], reason: str | None, tmp_path: Path) -> None:
    data = TABLE.tobytes()[:24]
    path = bert_cases.archive(tmp_path / "x.bin", bert_cases.state_dict_pickle(values), {"0": data})
    if reason is None:
        np.testing.assert_array_equal(read_state_dict(path)["b"], np.frombuffer(data, np.float16))
        return
    with pytest.raises(ModelError, match=reason):
        read_state_dict(path)


@pytest.mark.parametrize(
    "pickled", [b"", b".", b"\x80\x02.", b"\x80\x02N.", b"\x80\x02}", b"\x80\x02}(u.", b"u.", b"(t."]
)
def test_pickles_that_are_none(pickled: bytes, tmp_path: Path) -> None:
    path = bert_cases.archive(tmp_path / "x.bin", pickled, {})
    if pickled == b"\x80\x02}(u.":  # an empty dict
        assert read_state_dict(path) == {}
    else:
        with pytest.raises(ModelError, match=r"x\.bin"):
            read_state_dict(path)


def test_archives_that_pytorch_does_not_write(tmp_path: Path) -> None:
    path, pickled = tmp_path / "x.bin", bert_cases.state_dict_pickle({"a": tensor()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data.pkl", pickled)
    with pytest.raises(ModelError, match="compressed"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/version", "3")
    with pytest.raises(ModelError, match=r"0 members named data\.pkl"):
        read_state_dict(path)
    bert_cases.archive(path, pickled, {"0": b"\0" * 24})
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("archive/byteorder", "big")
    with pytest.raises(ModelError, match="big-endian"):
        read_state_dict(path)
    for data in (b"", b"PK\x03\x04", b"\x80\x04."):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"x\.bin is no whole file of PyTorch .* get it again"):
            read_state_dict(path)


def check(path: Path) -> None:
    try:
        found = read_state_dict(path)
    except ModelError as error:
        assert "x.bin" in str(error)
    else:
        assert all(
            len(array.tobytes()) == array.nbytes for array in found.values()
        )  # every number lies in the file's memory


@given(at=st.integers(0, 3660), bit=st.integers(0, 7), cut=st.none() | st.integers(0, 3660))
@FUZZ
def test_damaged_files_are_an_error_or_harmless(at: int, bit: int, cut: int | None, tmp_path: Path) -> None:
    data = bytearray((FILES / "tensors.bin").read_bytes())
    data[at % len(data)] ^= 1 << bit
    (tmp_path / "x.bin").write_bytes(data[:cut])
    check(tmp_path / "x.bin")


@given(places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@FUZZ
def test_damaged_pickles_are_an_error_or_harmless(places: list[tuple[int, int]], tmp_path: Path) -> None:
    """As above, with the checksum of the archive right: only the interpreter stands in the way."""
    with zipfile.ZipFile(FILES / "tensors.bin") as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    root = next(name for name in members if name.endswith("data.pkl")).removesuffix("data.pkl")
    pickled = bytearray(members[f"{root}data.pkl"])
    for at, value in places:
        pickled[at % len(pickled)] = value
    numbers = {name.removeprefix(f"{root}data/"): data for name, data in members.items() if f"{root}data/" in name}
    check(bert_cases.archive(tmp_path / "x.bin", bytes(pickled), numbers))
