"""A Hugging Face folder -> a BERT network, the head for its task, and its vocabulary.

Encoders are folders of sentence-transformers (modules.json names the steps behind the network) or of a plain BertModel,
whose vectors are then the means over tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from odqa.errors import ModelError
from odqa.models.huggingface.bert import ACTIVATIONS, Bert, BertConfig, Linear, TensorSource, bert_config, read_bert
from odqa.models.huggingface.graph import Dense, Normalise, SpanHead, VectorHead
from odqa.models.huggingface.vocabulary import Vocabulary, read_vocabulary
from odqa.models.huggingface.weights import names_in, read_json, read_object, read_weights
from odqa.models.spec import ENCODE, PLAIN_NAME, READ

_TASKS = {"BertForQuestionAnswering": READ, "BertModel": ENCODE}  # what an architecture is for
_QA_HEAD = "qa_outputs"
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "mean": "mean", "cls": "cls"}
_SUPPORTED = "only BERT for question answering (BertForQuestionAnswering) and BERT encoders (BertModel) can be imported"
_LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *[\"']?([\w. -]+?)[\"']? *\n")


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a folder holds.

    `licence` is that of its README.md, or ""; `prompts` are texts that it wants in front of others.
    """

    config: BertConfig
    bert: Bert
    head: SpanHead | VectorHead
    vocabulary: Vocabulary
    licence: str
    prompts: tuple[str, ...] = ()

    @property
    def task(self) -> Literal["encode", "read"]:
        """What it is for: "read" or "encode"."""
        return "read" if isinstance(self.head, SpanHead) else "encode"


def read_folder(folder: Path, *, task: str | None = None) -> Pretrained:
    """Read a folder: config.json, the vocabulary, the weights, and what sentence-transformers has put there.

    Args:
        folder: a local folder, as the hub of Hugging Face or `save_pretrained` makes it.
        task: "read" or "encode"; None for what config.json says.

    Raises:
        ModelError: something is missing, damaged, not BERT, or not for this task; the message names what was found.
    """
    try:
        return _read(folder, task)
    except ModelError as error:
        if re.search(rf"(?<!\w){re.escape(str(folder))}(?!\w)", str(error)):
            raise
        raise ModelError(f"{folder}: {error}") from error
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error}") from error


def _read(folder: Path, task: str | None) -> Pretrained:
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give the folder that holds config.json, vocabulary and weights")
    modules = _modules(folder)
    body = folder / modules[0][1] if modules else folder
    if not (body / "config.json").is_file():
        raise ModelError(
            f"{body} has no config.json, but {names_in(body)}; give the folder of a Hugging Face model that holds "
            "config.json, vocabulary and weights"
        )
    given = read_object(body / "config.json")
    found = _task(given, task, sentence_transformers=bool(modules))
    config = bert_config(given)
    vocabulary = read_vocabulary(body)
    if len(vocabulary.pieces) > config.vocabulary_size:
        raise ModelError(
            f"the vocabulary has {len(vocabulary.pieces)} pieces, more than the {config.vocabulary_size} of config.json"
        )
    source = TensorSource(read_weights(body))
    has_head = f"{_QA_HEAD}.weight" in source
    if found is None:
        found = READ if has_head else ENCODE
    if found == ENCODE and has_head and not modules and task is None:
        raise ModelError("config.json says BertModel, but the weights have a question-answering head; say the task")
    if found == READ and config.token_types < 2:  # question and passage
        raise ModelError("config.json has type_vocab_size 1; a reader needs 2, for question and passage")
    head: SpanHead | VectorHead
    if found == READ:
        head = SpanHead(source.linear(_QA_HEAD, 2, config.hidden_size))
    else:
        head = _vector_head(folder, modules, config.hidden_size)
    return Pretrained(config, read_bert(source, config), head, vocabulary, _licence(folder), _prompts(folder))


def _task(config: Mapping[str, Any], task: str | None, *, sentence_transformers: bool) -> str | None:
    """Return the task of config.json if it is a BERT's and the one asked for; None where only the weights can say."""
    kind, architectures = config.get("model_type"), config.get("architectures")
    name = str(architectures[0])[:80] if isinstance(architectures, list) and architectures else None
    if kind is None and name is None:
        raise ModelError(
            'config.json names neither model_type nor architectures; if it is BERT, add "model_type": "bert"'
        )
    if kind not in ("bert", None) or (name is not None and not name.startswith("Bert")):
        raise ModelError(f"config.json has {name or 'no architecture'} of the type {str(kind)[:80]}; {_SUPPORTED}")
    if name is None:
        return ENCODE if sentence_transformers else task
    own = _TASKS.get(name)
    if own is None and (sentence_transformers or task == ENCODE):
        own = ENCODE  # its body is what encoders are made of
    if own is None:
        raise ModelError(f"config.json has {name}; {_SUPPORTED}, or the body of any BERT with the task {ENCODE!r}")
    if task not in (own, None):
        raise ModelError(f"config.json has {name}, which is for the task {own!r}, not {task!r}")
    return own


def _licence(folder: Path) -> str:
    try:
        found = _LICENCE.match((folder / "README.md").read_text(encoding="utf-8")[:10_000])
    except (OSError, ValueError):  # it is but a hint
        return ""
    return found[1] if found else ""


# ---- sentence-transformers -----------------------------------------------------------------------------------------


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return the steps of a folder of sentence-transformers: type without its package, and sub-folder."""
    path = folder / "modules.json"
    if not path.is_file():
        return (
            [("Transformer", ""), ("Pooling", "1_Pooling")] if (folder / "1_Pooling" / "config.json").is_file() else []
        )
    entries, found = read_json(path), []
    for entry in entries if isinstance(entries, list) else [None]:
        kind, place = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(place, str) or (place and not PLAIN_NAME.fullmatch(place)):
            raise ModelError(f"{path} is no list of modules with a type and a folder each; restore the file")
        found.append((kind.rpartition(".")[2], place))
    if [kind for kind, _ in found[:2]] != ["Transformer", "Pooling"]:
        raise ModelError(f"{path} begins with {[kind for kind, _ in found[:2]]} instead of Transformer and Pooling")
    return found


def _vector_head(folder: Path, modules: list[tuple[str, str]], width: int) -> VectorHead:
    if not modules:
        return VectorHead()
    pooling = _pooling(folder / modules[1][1] / "config.json", width)
    steps: list[Dense | Normalise] = []
    for kind, place in modules[2:]:
        if kind == "Dense":
            dense = _dense(folder / place, width)
            steps.append(dense)
            width = len(dense.linear.bias)
        elif kind == "Normalize":
            steps.append(Normalise())
        elif kind != "Dropout":  # which is for training alone
            raise ModelError(f"modules.json has a step {kind[:80]}; supported are Dense, Normalize and Dropout")
    return VectorHead("cls" if pooling == "cls" else "mean", tuple(steps))


def _pooling(path: Path, width: int) -> str:
    config = read_object(path)
    if config.get("word_embedding_dimension", width) != width:
        raise ModelError(
            f"{path} is for vectors of {config['word_embedding_dimension']} numbers, the network has {width}"
        )
    named = config.get("pooling_mode")
    modes = (
        [named] if isinstance(named, str) else [name for name, on in config.items() if "mode_" in name and on is True]
    )
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ModelError(
            f"{path} asks for the pooling {', '.join(modes) or 'of none'}; supported is one of mean and cls"
        )
    return _POOLINGS[modes[0]]


def _dense(place: Path, width: int) -> Dense:
    config = read_object(place / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2].lower()
    if activation not in ("identity", *ACTIVATIONS):
        raise ModelError(f"{place} has the activation {activation[:80]!r}, which is not supported")
    outputs = config.get("out_features")
    if config.get("in_features") != width or type(outputs) is not int or not 0 < outputs < 1 << 20:
        raise ModelError(f"{place} takes {config.get('in_features')} numbers and gives {outputs}; it is given {width}")
    source = TensorSource(read_weights(place))
    weight = source.take("linear.weight", outputs, width)
    bias = source.take("linear.bias", outputs) if config.get("bias", True) else np.zeros(outputs, np.float32)
    return Dense(Linear(weight, bias), ACTIVATIONS.get(activation, activation))


def _prompts(folder: Path) -> tuple[str, ...]:
    """Return the texts that a folder of sentence-transformers wants in front of others."""
    path = folder / "config_sentence_transformers.json"
    prompts = read_object(path).get("prompts") if path.is_file() else None
    texts = prompts.values() if isinstance(prompts, dict) else ()
    return tuple(dict.fromkeys(str(text) for text in texts if text))
