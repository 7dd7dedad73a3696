"""The word pieces of a Hugging Face folder, and how its text is prepared: from vocab.txt or tokenizer.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odqa.errors import ModelError
from odqa.models.huggingface.weights import read_object

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_BRACKETED = re.compile(r"\[.*\]")  # special pieces and unused ones
_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast")
# Parts of tokenizer.json -> what they have to be: text is prepared and cut as BERT does it, in no other way.
_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}
_MODEL = {"continuing_subword_prefix": "##", "unk_token": "[UNK]"}
# Settings that change how text is cut -> the only value that is supported.
_PLAIN = {"tokenize_chinese_chars": True, "handle_chinese_chars": True, "do_basic_tokenize": True, "clean_text": True}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Word pieces in the order of their ids; `strip_accents` None means: as `lower_case`."""

    pieces: tuple[str, ...]
    lower_case: bool
    strip_accents: bool | None


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read vocab.txt, or without it the pieces in tokenizer.json, and what the folder says of case and accents.

    Case is kept or lowered as tokenizer_config.json says, else as tokenizer.json says; without both, a vocabulary with
    capital letters keeps case.

    Raises:
        ModelError: there is no vocabulary, it is not one of BERT's WordPiece, or text is prepared in another way.
    """
    tokenizer = read_object(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}
    config = read_object(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if tokenizer:
        _check_tokenizer(tokenizer, folder / "tokenizer.json")
    elif config.get("tokenizer_class", _TOKENIZERS[0]) not in (*_TOKENIZERS, None):
        raise _unsupported(folder / "tokenizer_config.json", "tokenizer_class", config["tokenizer_class"])
    _check_plain(config, folder / "tokenizer_config.json")
    if (folder / "vocab.txt").is_file():
        pieces = _read_lines(folder / "vocab.txt")
    elif tokenizer:
        pieces = _pieces(tokenizer, folder / "tokenizer.json")
    else:
        raise ModelError(f"{folder} has neither vocab.txt nor tokenizer.json; put the model's own there")
    lacking = [piece for piece in _SPECIAL if piece not in pieces]
    if lacking:
        raise ModelError(f"the vocabulary of {folder} lacks {', '.join(lacking)}: it is not that of a BERT model")
    normalizer = tokenizer.get("normalizer", {})
    lower = _first(config.get("do_lower_case"), normalizer.get("lowercase"))
    if lower is None:
        lower = not any(piece != piece.lower() for piece in pieces if not _BRACKETED.fullmatch(piece))
    strip = config["strip_accents"] if "strip_accents" in config else normalizer.get("strip_accents")
    return _lowered(folder, Vocabulary(pieces, lower, None if strip == lower else _first(strip)))


def _first(*values: object) -> bool | None:
    """Return the first that is given."""
    return next((bool(value) for value in values if value is not None), None)


def _lowered(folder: Path, vocabulary: Vocabulary) -> Vocabulary:
    """Follow sentence-transformers, which may lower the case of a text before the tokenizer, accents kept."""
    path = folder / "sentence_bert_config.json"
    if vocabulary.lower_case or not path.is_file() or not read_object(path).get("do_lower_case"):
        return vocabulary
    return Vocabulary(vocabulary.pieces, True, bool(vocabulary.strip_accents))


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the vocabulary {path} cannot be read: {error}; restore the file") from error


def _unsupported(path: Path, name: str, value: object) -> ModelError:
    return ModelError(
        f"{path} has {name} {repr(value)[:80]}, which is not supported: only the tokenizer of BERT (WordPiece) is"
    )


def _check_plain(settings: Mapping[str, Any], path: Path) -> None:
    for name, supported in _PLAIN.items():
        if settings.get(name) not in (supported, None):
            raise _unsupported(path, name, settings[name])


def _check_tokenizer(tokenizer: Mapping[str, Any], path: Path) -> None:
    for part, kind in _PARTS.items():
        found = tokenizer.get(part)
        if not isinstance(found, dict) or found.get("type") != kind:
            raise _unsupported(path, part, found.get("type") if isinstance(found, dict) else found)
    for name, value in _MODEL.items():
        if tokenizer["model"].get(name, value) != value:
            raise _unsupported(path, name, tokenizer["model"][name])
    _check_plain(tokenizer["normalizer"], path)


def _pieces(tokenizer: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    vocabulary = tokenizer["model"].get("vocab")
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise ModelError(f"{path} has no vocabulary of pieces and numbers; restore the file")
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ModelError(f"the numbers of the pieces in {path} do not run from 0 without gaps; restore the file")
    if any("\n" in piece or "\r" in piece for piece in pieces):
        raise ModelError(f"{path} has a piece with a line end in it, which no tokenizer of BERT has; restore the file")
    return tuple(pieces)
