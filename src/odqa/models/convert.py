"""A Hugging Face folder of a BERT reader or encoder -> a model that odqa runs: OpenVINO files and an entry."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.errors import ModelError
from odqa.models.huggingface import graph
from odqa.models.huggingface.bert import Linear
from odqa.models.huggingface.folder import Pretrained, read_folder
from odqa.models.huggingface.quantize import Feed, need_nncf, quantize
from odqa.models.huggingface.sparsity import without_zeros
from odqa.models.registry import (
    ENCODE,
    IR,
    LOCAL_ENTRY,
    READ,
    ModelFile,
    ModelSpec,
    entry_of,
    file_checksum,
    models_folder,
    published,
)
from odqa.models.runtime import LENGTH_BUCKETS, Network, Row, Tokenizer, bucket
from odqa.models.spec import PLAIN_NAME, Role

Precision = Literal["fp32", "fp16", "int8"]

MIN_TEXTS = 20  # for int8; fewer say too little about the ranges of activations
MOST_TEXTS = 300  # more make calibration slower, not better
CHECK_EVERY = 10  # one text in so many is kept apart: what int8 costs is measured on it
MIN_AGREEMENT = 0.9  # of int8 with float32; below it, it is another model

_FILES: dict[str, Role] = {"network.xml": "network", "network.bin": "weights", "vocab.txt": "vocabulary"}
_NUMBERS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.")  # no folders of these names on Windows
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_HALF_LIMIT = 65504.0  # the largest float16


def import_model(
    path: Path,
    *,
    name: str,
    precision: Precision = "fp16",
    task: str | None = None,
    calibration_texts: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ModelSpec:
    """Convert a Hugging Face folder into a model in the folder `name` of the models folder, and return its entry.

    The folder holds config.json, vocab.txt or tokenizer.json, and model.safetensors or pytorch_model.bin, whole or in
    parts; tokenizer_config.json and the files of sentence-transformers are heeded where they are. Nothing in it is
    run. Heads and neurons that were removed, or that hold only zeros, cost nothing in the result. The model appears
    whole or not at all. The same folder gives the same files, and so the same checksum, in fp32 and fp16.

    Int8 is quantised on `calibration_texts`: passages such as the model will see. Encoders see them whole, and of every
    third the first sentence as a question; readers see the first sentence as the question to the whole text. One text
    in ten is kept apart to compare with float32: `measured` of the entry holds the agreement (the cosine of vectors,
    the correlation of logits), and below 90 % the import fails.

    Args:
        path: the folder; it stays as it is.
        name: letters, digits, dots, dashes and underscores.
        precision: of the weights; the network computes in float32, or in int8 where it is quantised.
        task: "read" or "encode"; None for what config.json says.
        calibration_texts: for int8 only, at least `MIN_TEXTS`; `MOST_TEXTS` of them are used.
        environment: where the models folder is looked up.

    Raises:
        ValueError: `name` cannot be a name, precision or task is unknown, or texts and int8 are not given together.
        ModelError: the name is taken; the folder holds no BERT model for the task, or a damaged one; a package is
            missing; there are too few texts; the models folder cannot be written to.
    """
    _check_arguments(name, precision, task, calibration_texts)
    place = models_folder(environment=environment) / name
    _check_free(name, place)
    texts = _calibration(calibration_texts)
    pretrained = read_folder(path, task=task)
    tokens = _longest(pretrained)
    pretrained = replace(pretrained, bert=without_zeros(pretrained.bert))
    if precision == "fp16":
        _check_halves(pretrained)
    spec = _spec(pretrained, name, precision, tokens, of=path.resolve().name)
    with _staged(place) as staged:
        vocabulary = staged / "vocab.txt"
        vocabulary.write_text("\n".join(pretrained.vocabulary.pieces) + "\n", encoding="utf-8", newline="\n")
        tokenizer = Tokenizer(vocabulary, lower_case=spec.lower_case, strip_accents=spec.strip_accents)
        network = graph.build(pretrained.bert, pretrained.head)
        if precision == "int8":
            graph.save(network, staged / "float.xml", halves=False)
            spec = replace(spec, measured=_quantised(staged, spec, tokenizer, texts))
        else:
            graph.save(network, staged / "network.xml", halves=precision == "fp16")
        del network
        spec = replace(spec, files=tuple(_file(staged / file, role) for file, role in _FILES.items()))
        _outputs(staged / "network.xml", spec, tokenizer, [Row([tokenizer.cls_id, tokenizer.sep_id])])  # it runs
        (staged / LOCAL_ENTRY).write_text(json.dumps(entry_of(spec), indent=2, ensure_ascii=False) + "\n", "utf-8")
    return spec


# ---- before the work -----------------------------------------------------------------------------------------------


def _check_arguments(name: str, precision: str, task: str | None, texts: Sequence[str] | None) -> None:
    if not PLAIN_NAME.fullmatch(name) or _RESERVED.fullmatch(name) or len(name) > 100:
        raise ValueError(f"{name!r} cannot be a name: use up to 100 letters, digits, dots, dashes and underscores")
    if precision not in _NUMBERS or task not in (READ, ENCODE, None):
        raise ValueError(
            f"unknown precision {precision!r} or task {task!r}: use {', '.join(_NUMBERS)}; {READ}, {ENCODE}"
        )
    if (precision == "int8") != (texts is not None):
        raise ValueError(
            "int8 needs texts to calibrate with (--calibration FILE), and only int8 does: give both or neither"
        )


def _check_free(name: str, place: Path) -> None:
    """Refuse a name that is taken. A model that is published in another form is converted under its own name."""
    for spec in published():
        if name in spec.other_names or (name == spec.name and spec.form == IR):
            raise ModelError(f"{name} is the name of a model that odqa knows; choose another")
    if os.path.lexists(place):
        raise ModelError(f"{place} is there already; choose another name, or remove that first")


def _calibration(texts: Sequence[str] | None) -> list[str]:
    """Choose texts evenly; none are needed where none are given."""
    if texts is None:
        return []
    need_nncf()
    told = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(told) < MIN_TEXTS:
        raise ModelError(
            f"int8 needs at least {MIN_TEXTS} different texts to calibrate with, not {len(told)}; "
            "give some hundred passages such as the model will see"
        )
    return [told[number * len(told) // min(MOST_TEXTS, len(told))] for number in range(min(MOST_TEXTS, len(told)))]


def _longest(pretrained: Pretrained) -> int:
    """Return the longest input in tokens: rows are padded to the lengths of buckets, and those need positions too."""
    positions = pretrained.config.most_positions
    if pretrained.task == ENCODE:
        tokens = needed = settings.PASSAGE_TOKENS
    else:
        tokens = settings.READER_TOKENS
        needed = bucket(settings.READER_QUESTION_TOKENS + settings.DOC_STRIDE_TOKENS + 4)
    fitting = max((length for length in LENGTH_BUCKETS if length <= min(positions, tokens)), default=0)
    if fitting < needed:
        raise ModelError(
            f"the model takes {positions} tokens (max_position_embeddings), and odqa needs one that takes {needed}; "
            "choose another model"
        )
    return fitting


def _check_halves(pretrained: Pretrained) -> None:
    head = pretrained.head
    dense = [head.linear] if isinstance(head, graph.SpanHead) else _dense(head)
    arrays = [*pretrained.bert.arrays(), *(array for linear in dense for array in (linear.weight, linear.bias))]
    if any(array.size and max(array.max(), -array.min()) > _HALF_LIMIT for array in arrays):
        raise ModelError(f"the model has weights beyond {_HALF_LIMIT:g}, too large for fp16; import it as fp32")


def _dense(head: graph.VectorHead) -> list[Linear]:
    return [step.linear for step in head.steps if isinstance(step, graph.Dense)]


# ---- the entry -----------------------------------------------------------------------------------------------------


def _spec(pretrained: Pretrained, name: str, precision: Precision, tokens: int, *, of: str) -> ModelSpec:
    """Return the entry, with files of no size: they are not written yet."""
    reads = pretrained.task == READ
    head = pretrained.head
    note = f" It wants {', '.join(map(repr, pretrained.prompts))} in front of texts, which odqa leaves out."
    return ModelSpec(
        name=name,
        task=pretrained.task,
        revision="1",
        description=f"Imported from the folder {of}." + (note if pretrained.prompts else ""),
        licence=pretrained.licence or "not stated",
        source="local",
        architecture=f"{_architecture(pretrained)}; {_NUMBERS[precision]}",
        files=tuple(ModelFile(file, role, None, 0, "sha256:" + "0" * 64) for file, role in _FILES.items()),
        lower_case=pretrained.vocabulary.lower_case,
        strip_accents=pretrained.vocabulary.strip_accents,
        question_tokens=settings.READER_QUESTION_TOKENS if reads else settings.QUESTION_TOKENS,
        window_tokens=tokens if reads else 0,
        passage_tokens=0 if reads else tokens,
        inputs=graph.READER_INPUTS if reads else graph.ENCODER_INPUTS,
        outputs=graph.READER_OUTPUTS if reads else graph.ENCODER_OUTPUTS,
        width=0 if isinstance(head, graph.SpanHead) else graph.width(pretrained.bert, head.steps),
        parameters_millions=round(sum(array.size for array in pretrained.bert.arrays()) / 1e6, 2),
    )


def _architecture(pretrained: Pretrained) -> str:
    config, layers, head = pretrained.config, pretrained.bert.layers, pretrained.head
    heads, neurons = sum(layer.heads for layer in layers), sum(len(layer.widen.bias) for layer in layers)
    parts = [f"BERT, {config.layers} layers, hidden {config.hidden_size}"]
    whole = config.heads * config.layers
    parts.append(f"{config.heads} heads" if heads == whole else f"{heads} of {whole} heads")
    whole = config.intermediate_size * config.layers
    parts += [] if neurons == whole else [f"{neurons} of {whole} neurons"]
    if isinstance(head, graph.SpanHead):
        return ", ".join([*parts, "span head"])
    parts.append("[CLS]" if head.pooling == "cls" else "mean over tokens")
    for step in head.steps:
        parts.append(f"dense layer to {len(step.linear.bias)}" if isinstance(step, graph.Dense) else "length 1")
    return ", ".join(parts)


def _file(path: Path, role: Role) -> ModelFile:
    return ModelFile(path.name, role, None, path.stat().st_size, file_checksum(path))


# ---- files ---------------------------------------------------------------------------------------------------------


@contextmanager
def _staged(place: Path) -> Iterator[Path]:
    """Give a folder beside `place`, which takes that place if all goes well, and is removed if not."""
    staged = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        staged.mkdir(parents=True)
        yield staged
        staged.rename(place)
    except OSError as error:
        taken = "is there already" if place.exists() else f"cannot be written: {error}"
        raise ModelError(f"{place} {taken}; choose another name, or another folder with ODQA_MODELS_DIR") from error
    except RuntimeError as error:  # OpenVINO's own
        raise ModelError(f"OpenVINO cannot write {place}: {str(error).strip().splitlines()[-1]}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


# ---- int8 ----------------------------------------------------------------------------------------------------------


def _quantised(staged: Path, spec: ModelSpec, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Turn float.xml into network.xml, and return what was measured."""
    rows = _rows(spec, tokenizer, texts)
    held_out = rows[::CHECK_EVERY]
    feeds = [_feed(row, spec.inputs) for number, row in enumerate(rows) if number % CHECK_EVERY]
    quantize(staged / "float.xml", feeds, staged / "network.xml")
    wanted = _outputs(staged / "float.xml", spec, tokenizer, held_out)
    found = _outputs(staged / "network.xml", spec, tokenizer, held_out)
    agreement = float(np.mean([_agreement(*pair, spec.task) for pair in zip(wanted, found, strict=True)]))
    if agreement < MIN_AGREEMENT:
        raise ModelError(
            f"the int8 network agrees with the float32 network to {agreement:.0%} only, less than {MIN_AGREEMENT:.0%}; "
            "give more texts such as the model will see, or import it as fp16"
        )
    for path in (staged / "float.xml", staged / "float.bin"):
        path.unlink()
    return {"int8_agreement_percent": round(100 * agreement, 2)}


def _rows(spec: ModelSpec, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Row]:
    """Make inputs out of texts, as the encoder and the reader of odqa make them."""
    cls_id, sep_id, rows = tokenizer.cls_id, tokenizer.sep_id, []
    whole = tokenizer.encode_batch(texts)
    first = tokenizer.encode_batch([_SENTENCE.split(text.strip(), maxsplit=1)[0] for text in texts])
    for number, (text, sentence) in enumerate(zip(whole, first, strict=True)):
        if spec.task == READ:
            head = [cls_id, *sentence.ids[: spec.question_tokens], sep_id]
            context = [*text.ids[: spec.window_tokens - len(head) - 1], sep_id]
            rows.append(Row([*head, *context], [0] * len(head) + [1] * len(context)))
        elif number % 3 == 0:
            rows.append(Row([cls_id, *sentence.ids[: spec.question_tokens - 2], sep_id]))
        else:
            rows.append(Row([cls_id, *text.ids[: spec.passage_tokens - 2], sep_id]))
    return rows


def _feed(row: Row, inputs: Sequence[str]) -> Feed:
    tokens = len(row.ids)
    found = {
        "input_ids": np.array([row.ids], np.int32),
        "attention_mask": np.ones((1, tokens), np.int32),
        "token_type_ids": np.array([row.token_types or [0] * tokens], np.int32),
        "position_ids": np.arange(tokens, dtype=np.int32)[None],
    }
    return {name: found[name] for name in inputs}


def _outputs(path: Path, spec: ModelSpec, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
    """Run rows: a vector [width] or start and end logits [2, tokens] for each.

    Raises:
        ModelError: OpenVINO refuses the network, or its outputs are not finite.
    """
    network = Network(
        path,
        path.with_suffix(".bin"),
        inputs=spec.inputs,
        outputs=spec.outputs,
        per_token=spec.task == READ,
        pad_id=tokenizer.pad_id,
    )
    return [np.stack(pair) for pair in network.logits(rows)] if spec.task == READ else list(network.vectors(rows))


def _agreement(wanted: NDArray[np.float32], found: NDArray[np.float32], task: str) -> float:
    """Return the cosine of two vectors, or the mean correlation of start logits and of end logits, in [-1, 1]."""
    if task == READ:
        wanted, found = (values - values.mean(axis=1, keepdims=True) for values in (wanted, found))
    lengths = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(found, axis=-1)
    return float(np.mean((wanted * found).sum(axis=-1) / np.maximum(lengths, 1e-12)))
