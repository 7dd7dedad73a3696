"""A BERT network as numpy arrays: config.json and named tensors -> a checked description, layer by layer.

Layers may have lost heads (`pruned_heads` of config.json) and neurons: the shapes in the file say what is there, and
config.json has to agree. Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805; names as in transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odqa.errors import ModelError

Floats = NDArray[np.float32]

# Names of `hidden_act` -> the function. The "gelu" kinds differ: by the error function, or by its tanh approximation.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh",
}  # fmt: skip
# Settings that make another network out of the same weights -> the only value that is supported.
_PLAIN = {"position_embedding_type": "absolute", "is_decoder": False, "layer_norm_type": "layer_norm"}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer norms, in weights that came from TensorFlow
_WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True, slots=True)
class BertConfig:
    """What config.json says of the network; `head_size` is the width of a head, whether others are removed or not."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary_size: int
    most_positions: int
    token_types: int
    epsilon: float
    activation: str
    pruned_heads: Mapping[int, frozenset[int]]

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.heads


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x @ weight.T + bias; weight float32 [outputs, inputs], bias float32 [outputs]."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer norm over the last dimension: factors and what is added, float32 [hidden] each."""

    factor: Floats
    added: Floats


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: attention with `heads` heads (0: only the bias of `output` is left of it), then two dense layers.

    query and key are [heads * a, hidden], value is [heads * b, hidden], output is [hidden, heads * b]; a and b are
    alike as the file has them, and may differ where rows of zeros were dropped.
    """

    heads: int
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    widen: Linear
    narrow: Linear
    norm: Norm


@dataclass(frozen=True, slots=True)
class Bert:
    """The network up to its last hidden states; `head_size` is what attention scores are scaled by (its root)."""

    words: Floats
    positions: Floats
    types: Floats
    norm: Norm
    layers: tuple[Layer, ...]
    head_size: int
    epsilon: float
    activation: str

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.words.shape[1])

    def arrays(self) -> Iterator[Floats]:
        """Yield all weights."""
        yield from (self.words, self.positions, self.types, self.norm.factor, self.norm.added)
        for layer in self.layers:
            for norm in (layer.attention_norm, layer.norm):
                yield from (norm.factor, norm.added)
            for part in (layer.query, layer.key, layer.value, layer.output, layer.widen, layer.narrow):
                yield from (part.weight, part.bias)


# ---- config.json ---------------------------------------------------------------------------------------------------


def bert_config(config: Mapping[str, Any]) -> BertConfig:
    """Read the settings of the network out of config.json.

    Raises:
        ModelError: one is missing, impossible, or not supported; the message names it.
    """
    for name, supported in _PLAIN.items():
        if config.get(name, supported) not in (supported, None):
            raise _wrong(name, config[name], f"only {supported!r} is supported")
    epsilon, activation = config.get("layer_norm_eps", 1e-12), config.get("hidden_act", "gelu")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise _wrong("layer_norm_eps", epsilon, "it must be a number between 0 and 1")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise _wrong("hidden_act", activation, f"supported are {', '.join(ACTIVATIONS)}")
    hidden_size, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    layers = _count(config, "num_hidden_layers")
    if hidden_size % heads:
        raise _wrong("num_attention_heads", heads, f"hidden_size {hidden_size} cannot be divided by it")
    return BertConfig(
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        intermediate_size=_count(config, "intermediate_size"),
        vocabulary_size=_count(config, "vocab_size"),
        most_positions=_count(config, "max_position_embeddings"),
        token_types=_count(config, "type_vocab_size"),
        epsilon=float(epsilon),
        activation=ACTIVATIONS[activation],
        pruned_heads=_pruned_heads(config.get("pruned_heads") or {}, layers=layers, heads=heads),
    )


def _wrong(name: str, value: object, reason: str) -> ModelError:
    return ModelError(f"config.json has {name} {repr(value)[:80]}: {reason}; the model cannot be imported")


def _count(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, value, "it must be a whole number above 0")
    return value


def _pruned_heads(given: object, *, layers: int, heads: int) -> dict[int, frozenset[int]]:
    reason = f"it must give heads below {heads} for layers below {layers}"
    if not isinstance(given, dict):
        raise _wrong("pruned_heads", given, reason)
    found = {}
    for layer, removed in given.items():
        known = re.fullmatch(r"\d{1,6}", str(layer)) and int(layer) < layers and isinstance(removed, list)
        if not known or not all(type(head) is int and 0 <= head < heads for head in removed):
            raise _wrong("pruned_heads", given, reason)
        found[int(layer)] = frozenset(removed)
    return found


# ---- tensors -------------------------------------------------------------------------------------------------------


class TensorSource:
    """Tensors by their names, without the prefix that a model with a head has; every one is checked as it is taken."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Bring the names of all forms of a BERT model into one form."""
        self._tensors = {}
        for name, tensor in tensors.items():
            stem, _, last = name.removeprefix("bert.").rpartition(".")
            self._tensors[f"{stem}.{_OLD_NAMES.get(last, last)}" if stem else last] = tensor

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def layers(self) -> int:
        """Return the number of layers that the tensors' names speak of."""
        numbers = [int(match[1]) for name in self._tensors if (match := _LAYER.match(name)) and len(match[1]) < 7]
        return max(numbers, default=-1) + 1

    def rows(self, name: str) -> int:
        """Return the first dimension of a tensor."""
        return int(self._take(name).shape[0]) if self._take(name).ndim else 0

    def take(self, name: str, *shape: int) -> Floats:
        """Return a tensor of a shape.

        Raises:
            ModelError: it is missing, has another shape, or holds no finite floating point numbers.
        """
        tensor = self._take(name)
        if tensor.shape != shape:
            raise ModelError(f"the weight {name} has the shape {list(tensor.shape)} instead of {list(shape)}")
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ModelError(f"the weight {name} holds numbers that are no finite floating point numbers")
        return np.ascontiguousarray(tensor)

    def linear(self, name: str, outputs: int, inputs: int) -> Linear:
        """Return a dense layer."""
        return Linear(self.take(f"{name}.weight", outputs, inputs), self.take(f"{name}.bias", outputs))

    def norm(self, name: str, width: int) -> Norm:
        """Return a layer norm."""
        return Norm(self.take(f"{name}.weight", width), self.take(f"{name}.bias", width))

    def _take(self, name: str) -> NDArray[Any]:
        if name not in self._tensors:
            some = ", ".join(sorted(self._tensors)[:3]) or "nothing"
            raise ModelError(f"the weights lack {name} (they have {some}, ...): this is not the model of config.json")
        return self._tensors[name]


def read_bert(source: TensorSource, config: BertConfig) -> Bert:
    """Put a network together out of its tensors.

    Raises:
        ModelError: tensors are missing, have other shapes than config.json says, or are not finite.
    """
    hidden = config.hidden_size
    words = source.take(_WORDS, config.vocabulary_size, hidden)
    if source.layers() > config.layers:
        raise ModelError(f"the weights have {source.layers()} layers where config.json has {config.layers}")
    return Bert(
        words=words,
        positions=source.take("embeddings.position_embeddings.weight", config.most_positions, hidden),
        types=source.take("embeddings.token_type_embeddings.weight", config.token_types, hidden),
        norm=source.norm("embeddings.LayerNorm", hidden),
        layers=tuple(_layer(source, config, number) for number in range(config.layers)),
        head_size=config.head_size,
        epsilon=config.epsilon,
        activation=config.activation,
    )


def _layer(source: TensorSource, config: BertConfig, number: int) -> Layer:
    at, hidden = f"encoder.layer.{number}", config.hidden_size
    heads = _heads(source, config, number)
    width = heads * config.head_size
    query, key, value = (
        source.linear(f"{at}.attention.self.{part}", width, hidden)
        if heads
        else Linear(np.zeros((0, hidden), np.float32), np.zeros(0, np.float32))
        for part in ("query", "key", "value")
    )
    output = f"{at}.attention.output.dense"
    weight = source.take(f"{output}.weight", hidden, width) if heads else np.zeros((hidden, 0), np.float32)
    neurons = source.rows(f"{at}.intermediate.dense.weight")
    if neurons > config.intermediate_size:
        raise ModelError(
            f"layer {number} has {neurons} neurons, more than the {config.intermediate_size} of config.json"
        )
    return Layer(
        heads=heads,
        query=query,
        key=key,
        value=value,
        output=Linear(weight, source.take(f"{output}.bias", hidden)),
        attention_norm=source.norm(f"{at}.attention.output.LayerNorm", hidden),
        widen=source.linear(f"{at}.intermediate.dense", neurons, hidden),
        narrow=source.linear(f"{at}.output.dense", hidden, neurons),
        norm=source.norm(f"{at}.output.LayerNorm", hidden),
    )


def _heads(source: TensorSource, config: BertConfig, number: int) -> int:
    """Return how many heads a layer has by its weights, if config.json says the same."""
    name = f"encoder.layer.{number}.attention.self.query.weight"
    left = config.heads - len(config.pruned_heads.get(number, ()))
    if left == 0 and name not in source:
        return 0
    rows = source.rows(name)
    if rows != left * config.head_size:
        raise ModelError(
            f"layer {number} has {rows / config.head_size:g} heads in its weights where config.json leaves {left} of "
            f"{config.heads} (pruned_heads): these weights are not those of this config.json"
        )
    return left


# ---- activations ---------------------------------------------------------------------------------------------------


def activate(activation: str, values: Floats) -> NDArray[np.float64]:
    """Compute an activation of `ACTIVATIONS` in float64, a number at a time: for constants only."""
    functions = {
        "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
        "gelu_tanh": lambda x: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "relu": lambda x: max(x, 0.0),
        "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
        "tanh": math.tanh,
    }
    function = functions[activation]
    return np.array([function(float(value)) for value in values], dtype=np.float64)
