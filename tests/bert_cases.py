"""Random BERT models for tests: their tensors, their outputs by numpy in float64, and the files that hold them.

Everything is written by hand: the right answers and the files come from no library that the code under test uses.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small_networks import VOCABULARY, write_vocabulary

Arrays = dict[str, NDArray[Any]]

EPSILON = 1e-12
WITH_HEAD = "bert."


def config(**changes: object) -> dict[str, Any]:
    """Return a config.json of a question-answering model."""
    return {
        "architectures": ["BertForQuestionAnswering"],
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 400,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        **changes,
    }


def tensors(given: Mapping[str, Any], *, seed: int = 0, prefix: str = WITH_HEAD, head: bool = True) -> Arrays:
    """Return the weights of a model, float32: norms near 1, others large enough for attention to matter."""
    rng = np.random.default_rng(seed)
    hidden, inner = given["hidden_size"], given["intermediate_size"]
    size = hidden // given["num_attention_heads"]
    found: Arrays = {}

    def random(*shape: int, scale: float = 0.3) -> NDArray[np.float32]:
        return rng.normal(scale=scale, size=shape).astype(np.float32)

    def norm(name: str) -> None:
        found[f"{prefix}{name}.weight"] = 1 + random(hidden, scale=0.1)
        found[f"{prefix}{name}.bias"] = random(hidden, scale=0.1)

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{prefix}{name}.weight"] = random(outputs, inputs, scale=1 / math.sqrt(max(inputs, 1)))
        found[f"{prefix}{name}.bias"] = random(outputs)

    sizes = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    for name, rows in sizes.items():
        found[f"{prefix}embeddings.{name}_embeddings.weight"] = random(given[rows], hidden)
    norm("embeddings.LayerNorm")
    for layer in range(given["num_hidden_layers"]):
        removed = given.get("pruned_heads", {}).get(str(layer), [])
        width = (given["num_attention_heads"] - len(removed)) * size
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{at}.attention.self.{part}", width, hidden)
        linear(f"{at}.attention.output.dense", hidden, width)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", inner, hidden)
        linear(f"{at}.output.dense", hidden, inner)
        norm(f"{at}.output.LayerNorm")
    if head:
        found["qa_outputs.weight"], found["qa_outputs.bias"] = random(2, hidden), random(2)
    return found


# ---- the right answers ---------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])
_ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def hidden_states(
    weights: Mapping[str, NDArray[Any]],
    given: Mapping[str, Any],
    ids: Sequence[int],
    types: Sequence[int],
    prefix: str = WITH_HEAD,
) -> NDArray[np.float64]:
    """Return the last hidden states [tokens, hidden] of one unpadded row, after Devlin et al. 2019."""
    own = {name.removeprefix(prefix): tensor.astype(np.float64) for name, tensor in weights.items()}

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ own[f"{name}.weight"].T + own[f"{name}.bias"]

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + given["layer_norm_eps"])
        return scaled * own[f"{name}.weight"] + own[f"{name}.bias"]

    size = given["hidden_size"] // given["num_attention_heads"]
    x = (
        own["embeddings.word_embeddings.weight"][list(ids)]
        + own["embeddings.token_type_embeddings.weight"][list(types)]
    )
    x = norm("embeddings.LayerNorm", x + own["embeddings.position_embeddings.weight"][: len(ids)])
    for layer in range(given["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        query, key, value = (linear(f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        contexts = [np.zeros((len(ids), 0))]
        for start in range(0, query.shape[1], size):
            part = slice(start, start + size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            contexts.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        x = norm(f"{at}.attention.output.LayerNorm", linear(f"{at}.attention.output.dense", np.hstack(contexts)) + x)
        inner = _ACTIVATIONS[given["hidden_act"]](linear(f"{at}.intermediate.dense", x))
        x = norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", inner) + x)
    return x


def logits(
    weights: Mapping[str, NDArray[Any]], given: Mapping[str, Any], ids: Sequence[int], types: Sequence[int]
) -> NDArray[np.float64]:
    """Return start and end logits [2, tokens] of one unpadded row."""
    states = hidden_states(weights, given, ids, types)
    return (states @ weights["qa_outputs.weight"].T.astype(np.float64) + weights["qa_outputs.bias"]).T


# ---- files ---------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, given: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> Path:
    """Write config.json, vocab.txt and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(given), encoding="utf-8")
    write_vocabulary(folder)
    (folder / "model.safetensors").write_bytes(safetensors_file(weights))
    return folder


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Cut float32 to its upper half."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


_NAMES = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "<u2": "BF16"}  # uint16 stands for bfloat16


def safetensors_file(weights: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a file of safetensors."""
    header, pieces, at = {}, [], 0
    for name, tensor in weights.items():
        data = tensor.tobytes()
        places = [at, at + len(data)]
        header[name] = {"dtype": _NAMES[tensor.dtype.str], "shape": list(tensor.shape), "data_offsets": places}
        pieces.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)


_STORAGES = {"<f4": "Float", "<f2": "Half", "<f8": "Double", "<i8": "Long", "<u2": "BFloat16"}


def _number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def tensor_pickle(
    kind: str, key: str, *, shape: Sequence[int], strides: Sequence[int], count: int, offset: int = 0
) -> bytes:
    """Return the opcodes that PyTorch writes for a tensor."""
    storage = _tuple(_text("storage"), b"ctorch\n%sStorage\n" % kind.encode(), _text(key), _text("cpu"), _number(count))
    hooks = b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    sizes = [_tuple(*map(_number, numbers)) for numbers in (shape, strides)]
    parts = _tuple(storage + pickle.BINPERSID, _number(offset), *sizes, pickle.NEWFALSE, hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + parts + pickle.REDUCE


def state_dict_pickle(values: Mapping[str, bytes]) -> bytes:
    """Return the pickle of a dict of opcodes by name."""
    items = b"".join(_text(name) + value for name, value in values.items())
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def archive(path: Path, pickled: bytes, members: Mapping[str, bytes]) -> Path:
    """Write a file in the form of `torch.save`: a zip archive with a pickle and raw numbers."""
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/data.pkl", pickled)
        for key, data in members.items():
            opened.writestr(f"archive/data/{key}", data)
        opened.writestr("archive/version", "3\n")
    return path


def write_bin(path: Path, weights: Mapping[str, NDArray[Any]]) -> Path:
    """Write tensors as pytorch_model.bin, each in a storage of its own."""
    values, members = {}, {}
    for number, (name, tensor) in enumerate(weights.items()):
        strides = [step // tensor.itemsize for step in np.empty(tensor.shape, tensor.dtype).strides]
        kind = _STORAGES[tensor.dtype.str]
        values[name] = tensor_pickle(kind, str(number), shape=tensor.shape, strides=strides, count=tensor.size)
        members[str(number)] = tensor.tobytes()
    return archive(path, state_dict_pickle(values), members)


# ---- files of sentence-transformers ---------------------------------------------------------------------------------

_TYPES = "sentence_transformers.models."


def write(path: Path, content: object) -> None:
    """Write a file of JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def modules(folder: Path, *kinds: str, pooling: dict[str, Any] | None = None) -> None:
    """Write the steps of sentence-transformers behind Transformer and Pooling."""
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, f"{i}_{kind}") for i, kind in enumerate(kinds, 2))]
    write(folder / "modules.json", [{"idx": 0, "name": "0", "path": p, "type": _TYPES + kind} for kind, p in steps])
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True} if pooling is None else pooling)


def dense(folder: Path, outputs: int, inputs: int = 8, **more: object) -> Arrays:
    """Write the folder of a dense layer, and return its weights."""
    rng = np.random.default_rng(3)
    weights = {"linear.weight": rng.normal(size=(outputs, inputs)).astype(np.float32)}
    if more.get("bias", True):
        weights["linear.bias"] = rng.normal(size=outputs).astype(np.float32)
    write(folder / "config.json", {"in_features": inputs, "out_features": outputs} | more)
    (folder / "model.safetensors").write_bytes(safetensors_file(weights))
    return weights
