from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_networks import VOCABULARY, write_vocabulary

from odqa.errors import ModelError
from odqa.models.huggingface.vocabulary import read_vocabulary

LOWER = [piece for piece in VOCABULARY if piece == piece.lower() or piece.startswith("[")]


def tokenizer(pieces: list[str] = VOCABULARY, **changes: dict[str, Any] | None) -> dict[str, Any]:
    """Return a tokenizer.json as the tokenizers library writes it for BERT; `changes` go into its parts."""
    parts: dict[str, dict[str, Any]] = {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "vocab": {piece: number for number, piece in enumerate(pieces)},
        },
    }  # fmt: skip
    for part, own in changes.items():
        parts[part] = parts[part] | own if own is not None else None  # type: ignore[assignment]
    return {"version": "1.0", "added_tokens": [], **parts}


def write(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_lines(folder: Path, pieces: list[str], end: str = "\n") -> Path:
    (folder / "vocab.txt").write_bytes((end.join(pieces) + end).encode())
    return folder


def test_pieces_of_a_text_file(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    assert read_vocabulary(tmp_path).pieces == tuple(VOCABULARY)
    write_lines(tmp_path, [*VOCABULARY, "", "\u2028"], "\r\n")
    assert read_vocabulary(tmp_path).pieces == (*VOCABULARY, "", "\u2028")


def test_pieces_of_a_tokenizer_file_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    given = tokenizer()
    given["model"]["vocab"] = dict(sorted(given["model"]["vocab"].items()))
    assert read_vocabulary(write(tmp_path, tokenizer=given)).pieces == tuple(VOCABULARY)


@pytest.mark.parametrize(
    ("config", "normalizer", "pieces", "wanted"),
    [
        # tokenizer_config.json has the say, then tokenizer.json, then the pieces.
        ({"do_lower_case": False}, {"lowercase": True}, LOWER, (False, None)),
        ({"do_lower_case": True}, {"lowercase": False}, VOCABULARY, (True, None)),
        ({"do_lower_case": None}, {"lowercase": False}, LOWER, (False, None)),
        ({}, {"lowercase": True}, VOCABULARY, (True, None)),
        (None, {"lowercase": False}, LOWER, (False, None)),
        (None, None, VOCABULARY, (False, None)),
        (None, None, LOWER, (True, None)),
        ({"model_max_length": 512}, None, VOCABULARY, (False, None)),
        # Accents
        ({"do_lower_case": True, "strip_accents": False}, None, LOWER, (True, False)),
        ({"do_lower_case": False, "strip_accents": True}, None, LOWER, (False, True)),
        ({"do_lower_case": True, "strip_accents": True}, None, LOWER, (True, None)),
        ({"do_lower_case": True}, {"strip_accents": False}, LOWER, (True, False)),
        ({"do_lower_case": True, "strip_accents": None}, {"strip_accents": False}, LOWER, (True, None)),
        (None, {"lowercase": False, "strip_accents": False}, LOWER, (False, None)),
    ],
)
def test_case_and_accents(
    config: dict[str, Any] | None,
    normalizer: dict[str, Any] | None,
    pieces: list[str],
    wanted: tuple[bool, bool | None],
    tmp_path: Path,
) -> None:
    write_lines(tmp_path, pieces)
    if config is not None:
        write(tmp_path, tokenizer_config=config)
    if normalizer is not None:
        write(tmp_path, tokenizer=tokenizer(pieces, normalizer=normalizer))
    found = read_vocabulary(tmp_path)
    assert (found.lower_case, found.strip_accents) == wanted


def test_sentence_transformers_may_lower_the_case_before(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    write(tmp_path, sentence_bert_config={"max_seq_length": 256, "do_lower_case": True})
    found = read_vocabulary(tmp_path)
    assert (found.lower_case, found.strip_accents) == (True, False)
    write(tmp_path, sentence_bert_config={"do_lower_case": False})
    assert not read_vocabulary(tmp_path).lower_case


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"type": "Unigram"}}, "model 'Unigram'"),
        ({"model": None}, "model None"),
        ({"model": {"continuing_subword_prefix": "@@"}}, "continuing_subword_prefix '@@'"),
        ({"model": {"unk_token": "<unk>"}}, "unk_token '<unk>'"),
        ({"model": {"vocab": []}}, "no vocabulary"),
        ({"model": {"vocab": {"a": "0"}}}, "no vocabulary"),
        ({"model": {"vocab": {"[PAD]": 0, "a": 2}}}, "without gaps"),
        ({"model": {"vocab": {"[PAD]": 0, "a": 0}}}, "without gaps"),
        ({"model": {"vocab": {"[PAD]": 0, "a\nb": 1}}}, "line end"),
        ({"model": {"vocab": {"[PAD]": 0}}}, r"lacks \[UNK\], \[CLS\], \[SEP\]"),
        ({"normalizer": {"type": "Sequence"}}, "normalizer 'Sequence'"),
        ({"normalizer": None}, "normalizer None"),
        ({"normalizer": {"handle_chinese_chars": False}}, "handle_chinese_chars False"),
        ({"normalizer": {"clean_text": False}}, "clean_text False"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "pre_tokenizer 'ByteLevel'"),
    ],
)
def test_tokenizers_that_are_not_those_of_bert(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        read_vocabulary(write(tmp_path, tokenizer=tokenizer(**changes)))
    assert str(tmp_path) in str(caught.value)


def test_settings_that_cut_text_in_another_way(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    with pytest.raises(ModelError, match="tokenizer_class 'BertJapaneseTokenizer', which is not supported"):
        read_vocabulary(write(tmp_path, tokenizer_config={"tokenizer_class": "BertJapaneseTokenizer"}))
    with pytest.raises(ModelError, match="tokenize_chinese_chars False"):
        read_vocabulary(write(tmp_path, tokenizer_config={"tokenize_chinese_chars": False}))
    # With tokenizer.json it can be seen what a class of any name does.
    write(tmp_path, tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"}, tokenizer=tokenizer())
    assert read_vocabulary(tmp_path).lower_case


def test_folders_without_a_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has neither vocab\.txt nor tokenizer\.json"):
        read_vocabulary(tmp_path)
    write_lines(tmp_path, ["[PAD]", "[UNK]", "<s>", "</s>"])
    with pytest.raises(ModelError, match=r"lacks \[CLS\], \[SEP\]"):
        read_vocabulary(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"vocab\.txt cannot be read"):
        read_vocabulary(tmp_path)
