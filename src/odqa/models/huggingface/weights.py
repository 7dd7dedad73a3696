"""The weights of a Hugging Face folder as numpy arrays: safetensors or pytorch_model.bin, in one file or in several.

Source: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from odqa.errors import ModelError
from odqa.models.huggingface.state_dict import NUMBER_TYPES, array, read_state_dict

WHOLE = ("model.safetensors", "pytorch_model.bin")  # in this order of preference
IMPORT_EXTRA = 'pip install "odqa[import]"'

_LFS = b"version https://git-lfs"


def read_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """Read all tensors of a folder by name: floats as float32, whole numbers as they are.

    Takes model.safetensors, else the parts that model.safetensors.index.json names, else the same of pytorch_model.bin.

    Raises:
        ModelError: there is no such file, or one is malformed or cannot be read without running what is in it.
    """
    for name in WHOLE:
        if (folder / name).is_file():
            return _read_file(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_parts(folder / f"{name}.index.json")
    raise ModelError(
        f"{folder} has no {' or '.join(WHOLE)}, but {names_in(folder)}; save the model as model.safetensors"
    )


def names_in(folder: Path) -> str:
    """Return the names of what lies in a folder, for messages."""
    return ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "no files"


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a file of JSON.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; restore the file") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}; restore the file") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object; restore the file")
    return found


def _read_parts(index: Path) -> dict[str, NDArray[Any]]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f'{index} has no "weight_map" of tensors and files; restore the file')
    tensors: dict[str, NDArray[Any]] = {}
    for name in sorted(set(places.values())):
        if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
            raise ModelError(f"{index} names a file outside its folder: {name!r}; restore the file")
        part = _read_file(index.parent / name)
        wanted = [tensor for tensor, place in places.items() if place == name]
        lacking = [tensor for tensor in wanted if tensor not in part]
        if lacking:
            raise ModelError(f"{index.parent / name} lacks {lacking[0]}, which {index.name} puts there; restore it")
        tensors.update((tensor, part[tensor]) for tensor in wanted)
    return tensors


def _read_file(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as opened:
            start = opened.read(len(_LFS))
        if start == _LFS:
            raise ModelError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull` in its folder")
        return _read_safetensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}; restore the file") from error


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        safetensors = importlib.import_module("safetensors")
    except ImportError as error:
        raise ModelError(f"reading {path} needs the package safetensors: {IMPORT_EXTRA}") from error
    try:
        found = safetensors.deserialize(path.read_bytes())  # not `safetensors.numpy`, which knows no bfloat16
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} is no whole file of safetensors ({error}); get it again") from error
    tensors: dict[str, NDArray[Any]] = {}
    while found:  # a tensor's bytes are let go once they are converted
        name, described = found.pop()
        if described["dtype"] not in NUMBER_TYPES:
            raise ModelError(
                f"{path}: {name} has the type {described['dtype']}, which is not supported; "
                "save the model with weights in F32, F16 or BF16"
            )
        tensors[name] = array(described["data"], described["dtype"]).reshape(described["shape"])
    return tensors
