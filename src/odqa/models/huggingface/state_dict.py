"""pytorch_model.bin as numpy arrays, without running anything that is in it.

Such a file is a zip archive of raw numbers and a pickle that says where in them each tensor lies. The pickle is not
unpickled: its opcodes are walked by an interpreter that knows what a state dict of tensors is made of, and refuses
everything else by name. Sources: `pickletools` (opcodes), torch/serialization.py (archive), torch/_utils.py (tensors).
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odqa.errors import ModelError

BFLOAT16 = "BF16"
# Types of numbers, by the names that safetensors has for them; bfloat16 is the upper half of a float32.
NUMBER_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", BFLOAT16: "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

_STORAGES = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": BFLOAT16, "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
}  # fmt: skip
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what files of PyTorch before 1.6 begin with
_MOST_PICKLE_BYTES = 64 * 1024 * 1024  # that of a large model has some 100 kB
_DAMAGE = (
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
_CURE = "get it again, or save the model as model.safetensors"


def array(data: bytes | bytearray, kind: str) -> NDArray[Any]:
    """Return raw numbers of a type of `NUMBER_TYPES` as a flat array: floats as float32, whole numbers as they are."""
    numbers = np.frombuffer(data, dtype=NUMBER_TYPES[kind])
    if kind == BFLOAT16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):  # what is too large for float32 becomes infinite, and is found where it is used
        return numbers.astype(np.float32, copy=False) if numbers.dtype.kind == "f" else numbers


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Read all tensors of a pytorch_model.bin by name: floats as float32, whole numbers as they are.

    Raises:
        ModelError: the file is damaged, has the form of PyTorch before 1.6, or its pickle holds anything besides
            tensors. Nothing of it was run.
        OSError: it cannot be read.
    """
    with path.open("rb") as opened:
        start = opened.read(len(_OLD_MAGIC))
    if start == _OLD_MAGIC:
        raise ModelError(
            f"{path} has the form of PyTorch before 1.6, which cannot be read without running it; open it with PyTorch "
            "where it can do no harm, and save it as model.safetensors"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _tensors_of(archive)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be used as weights: {error}; {_CURE}") from error
    except (zipfile.BadZipFile, *_DAMAGE) as error:
        raise ModelError(f"{path} is no whole file of PyTorch ({error!r}); {_CURE}") from error


# ---- what a state dict may mention ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the pickle may mention."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A member of the archive: `count` numbers of one type."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor within a storage; `offset` and `strides` count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what would lead out of the storage, or take more memory than it has."""
        places = (self.offset, *self.shape, *self.strides)
        if not all(type(place) is int and place >= 0 for place in places) or len(self.shape) != len(self.strides):
            raise ValueError(f"a tensor has shape {self.shape[:8]} and strides {self.strides[:8]}")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and (last >= self.storage.count or math.prod(self.shape) > self.storage.count):
            raise ValueError(f"a tensor of shape {self.shape[:8]} needs more than its {self.storage.count} numbers")


def _storage(identifier: object) -> _Storage:
    match identifier:
        case ("storage", _Global(name=name), str(key), str(), int(count)) if name in _STORAGES:
            return _Storage(_STORAGES[name], key, count)
    raise ValueError("a storage is described in an unknown form")


def _rebuild_tensor(*arguments: object) -> _Tensor:
    match arguments:
        case (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return _Tensor(storage, offset, shape, strides)
    raise ValueError("a tensor is described in an unknown form")


def _rebuild_parameter(*arguments: object) -> _Tensor:
    match arguments:
        case (_Tensor() as tensor, *_):
            return tensor
    raise ValueError("a parameter is described in an unknown form")


def _ordered_dict(*arguments: object) -> dict[object, object]:
    if arguments:
        raise ValueError("an OrderedDict is described in an unknown form")
    return {}


# The pickle calls these names, and these functions of our own are called instead.
_CALLS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


# ---- the interpreter -----------------------------------------------------------------------------------------------

_MARK = object()


@dataclass(slots=True)
class _Walker:
    """A stack and a memo, and a method for each opcode that a state dict is made of."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[object, Any] = field(default_factory=dict)

    def walk(self, pickle: bytes) -> object:
        """Return what a pickle describes, with tensors as `_Tensor`.

        Raises:
            ValueError, TypeError: it holds anything but a state dict.
            KeyError, IndexError, AttributeError: it is malformed.
        """
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name == "STOP":
                (found,) = self.stack
                return found
            if opcode.name not in _STEPS:
                raise ValueError(f"it holds the opcode {opcode.name}, which no state dict of tensors needs")
            _STEPS[opcode.name](self, argument)
        raise ValueError("it ends too early")

    def skip(self, _: object) -> None:
        pass

    def push(self, value: object) -> None:
        self.stack.append(value)

    def remember(self, place: object) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def name(self, name: str) -> None:
        if name not in _CALLS and name not in _STORAGES:
            raise ValueError(f"it names {name[:100]!r}, which no state dict of tensors needs, and which was not run")
        self.push(_Global(name))

    def call(self, _: object) -> None:
        called, arguments = self.take(2)
        self.push(_CALLS[called.name](*arguments))

    def set_attributes(self, _: object) -> None:
        self.stack.pop()  # version numbers of modules, of no use here
        if type(self.stack[-1]) is not dict:
            raise ValueError("something besides a dict is given attributes")

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise ValueError("items are put into something besides a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise TypeError("a key is no text")
            self.stack[-1][key] = value

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("values are missing")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def take_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise ValueError("a mark is missing")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken


_STEPS: dict[str, Callable[[_Walker, Any], None]] = {
    "PROTO": _Walker.skip,
    "FRAME": _Walker.skip,
    "MARK": lambda walker, _: walker.push(_MARK),
    "NONE": lambda walker, _: walker.push(None),
    "NEWTRUE": lambda walker, _: walker.push(True),
    "NEWFALSE": lambda walker, _: walker.push(False),
    "EMPTY_DICT": lambda walker, _: walker.push({}),
    "EMPTY_LIST": lambda walker, _: walker.push([]),
    "EMPTY_TUPLE": lambda walker, _: walker.push(()),
    "BININT": _Walker.push,
    "BININT1": _Walker.push,
    "BININT2": _Walker.push,
    "LONG1": _Walker.push,
    "BINFLOAT": _Walker.push,
    "BINUNICODE": _Walker.push,
    "SHORT_BINUNICODE": _Walker.push,
    "BINPUT": _Walker.remember,
    "LONG_BINPUT": _Walker.remember,
    "MEMOIZE": _Walker.remember,
    "BINGET": lambda walker, place: walker.push(walker.memo[place]),
    "LONG_BINGET": lambda walker, place: walker.push(walker.memo[place]),
    "TUPLE1": lambda walker, _: walker.push(tuple(walker.take(1))),
    "TUPLE2": lambda walker, _: walker.push(tuple(walker.take(2))),
    "TUPLE3": lambda walker, _: walker.push(tuple(walker.take(3))),
    "TUPLE": lambda walker, _: walker.push(tuple(walker.take_to_mark())),
    "SETITEM": lambda walker, _: walker.set_items(walker.take(2)),
    "SETITEMS": lambda walker, _: walker.set_items(walker.take_to_mark()),
    "GLOBAL": lambda walker, name: walker.name(".".join(name.split(" ", 1))),
    "STACK_GLOBAL": lambda walker, _: walker.name(".".join(walker.take(2))),
    "BINPERSID": lambda walker, _: walker.push(_storage(walker.stack.pop())),
    "REDUCE": _Walker.call,
    "BUILD": _Walker.set_attributes,
}


# ---- the archive ---------------------------------------------------------------------------------------------------


def _tensors_of(archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError(f"it has {len(pickles)} members named data.pkl instead of one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in members and _member(archive, members[f"{root}byteorder"], most=16) != b"little":
        raise ValueError("it was written on a big-endian machine")
    described = _Walker().walk(_member(archive, members[pickles[0]], most=_MOST_PICKLE_BYTES))
    if not isinstance(described, dict):
        raise TypeError("it holds no state dict of tensors")
    tensors: dict[str, NDArray[Any]] = {}
    storages: dict[_Storage, NDArray[Any]] = {}  # tensors may share one
    for name, tensor in described.items():
        if not isinstance(tensor, _Tensor):
            raise TypeError(f"{name[:100]!r} is no tensor")
        if tensor.storage not in storages:
            storages[tensor.storage] = _numbers(
                archive, members.get(f"{root}data/{tensor.storage.key}"), tensor.storage
            )
        flat = storages[tensor.storage]
        tensors[name] = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.shape, [step * flat.itemsize for step in tensor.strides], writeable=False
        )
    return tensors


def _numbers(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, storage: _Storage) -> NDArray[Any]:
    wanted = storage.count * np.dtype(NUMBER_TYPES[storage.kind]).itemsize
    if info is None or info.file_size != wanted:
        found = "is missing" if info is None else f"has {info.file_size} bytes instead of {wanted}"
        raise ValueError(f"its member data/{storage.key[:20]} {found}")
    return array(_member(archive, info, most=wanted), storage.kind)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, most: int) -> bytes:
    """Read a member; PyTorch never compresses, so none is larger than the file itself."""
    stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
    if not stored or info.file_size > most:
        raise ValueError(f"{info.filename[:100]!r} is compressed or too large, which PyTorch does not write")
    return archive.read(info)
