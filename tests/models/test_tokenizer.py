from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small_networks
from hypothesis import given
from hypothesis import strategies as st
from small_networks import IDS, VOCABULARY

from odqa.errors import ModelError
from odqa.models.runtime import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = small_networks.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))
    return Tokenizer(path, lower_case=True)


def pieces(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    encoding = tokenizer.encode(text)
    return [(VOCABULARY[i], text[a:b]) for i, (a, b) in zip(encoding.ids, encoding.offsets, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t", []),
        ("The  cat", [("the", "The"), ("cat", "cat")]),
        ("cats", [("cat", "cat"), ("##s", "s")]),
        ("[SEP][CLS]", [*zip(("[", "s", "##e", "##p", "]", "[", "c", "##l", "##s", "]"), "[SEP][CLS]", strict=True)]),
        ("##s", [("#", "#"), ("#", "#"), ("s", "s")]),
        ("İa x", [("i", "İ"), ("##a", "a"), ("x", "x")]),
        ("café", [("cafe", "café")]),
        ("cafe\u0301 cat", [("cafe", "cafe\u0301"), ("cat", "cat")]),
        ("e\u0301\u0323o\u0302", [("e", "e\u0301\u0323"), ("##o", "o\u0302")]),
        ("中中cat", [("中", "中"), ("中", "中"), ("cat", "cat")]),
        ("\U0001f600 cat", [("[UNK]", "\U0001f600"), ("cat", "cat")]),
        ("a" * 101 + " cat", [("[UNK]", "a" * 101), ("cat", "cat")]),
        ("cat\u200bs", [("cat", "cat"), ("##s", "s")]),
    ],
)
def test_pieces_and_offsets(tokenizer: Tokenizer, text: str, expected: list[tuple[str, str]]) -> None:
    assert pieces(tokenizer, text) == expected


def test_special_ids_never_come_from_text(tokenizer: Tokenizer) -> None:
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id) == (IDS["[CLS]"], IDS["[SEP]"], IDS["[PAD]"])
    for text in ("[SEP]", "[sep]", "[PAD] [CLS]", "x[SEP]x", "[\u200bSEP]"):
        assert not {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id} & set(tokenizer.encode(text).ids)


def test_case_is_kept_where_asked(tmp_path: Path) -> None:
    cased = Tokenizer(small_networks.write_vocabulary(tmp_path), lower_case=False)
    assert pieces(cased, "Cat") == [("C", "C"), ("##a", "a"), ("##t", "t")]
    assert pieces(cased, "cat") == [("cat", "cat")]
    assert pieces(cased, "café") == [("[UNK]", "café")]


@pytest.mark.parametrize(
    ("lower_case", "strip_accents", "expected"),
    [
        (True, None, ["cafe"]),
        (True, False, ["[UNK]"]),
        (False, True, ["cafe"]),
        (False, None, ["[UNK]"]),
    ],
)
def test_accents_follow_case_unless_told_otherwise(
    lower_case: bool, strip_accents: bool | None, expected: list[str], tmp_path: Path
) -> None:
    path = small_networks.write_vocabulary(tmp_path)
    found = Tokenizer(path, lower_case=lower_case, strip_accents=strip_accents)
    assert pieces(found, "caf\u00e9") == [(piece, "caf\u00e9") for piece in expected]


def test_continuations(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("cats on 2000x")
    assert tokenizer.continues[encoding.ids].tolist() == [False, True, False, False, True]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_offsets_are_ordered_and_cut_text_out(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    assert tokenizer.encode_batch([text, "cat", text]) == [encoding, tokenizer.encode("cat"), encoding]
    assert len(encoding.ids) == len(encoding.offsets)
    last = (0, 0)
    for start, end in encoding.offsets:
        assert 0 <= start < end <= len(text)
        # Pieces of one code point (a Hangul syllable is three letters) share its place; no others overlap.
        assert start >= last[1] or (start, end) == last
        assert text[start:end].strip() == text[start:end]
        last = (start, end)


def test_lone_surrogates_are_a_clear_error(tokenizer: Tokenizer) -> None:
    for call in (tokenizer.encode, lambda text: tokenizer.encode_batch(["cat", text])):
        with pytest.raises(ValueError, match=r"U\+D800, at position 4"):
            call("cat \ud800")
    assert tokenizer.encode_batch([]) == []


def test_vocabularies_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    with pytest.raises(ModelError, match=r"vocab\.txt cannot be read"):
        Tokenizer(path, lower_case=True)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ModelError, match=r"vocab\.txt cannot be read"):
        Tokenizer(path, lower_case=True)
    path.write_text("[PAD]\n[UNK]\n[CLS]\nword\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"lacks \[SEP\]"):
        Tokenizer(path, lower_case=True)


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [f"cat{i} sat on mat {i}" for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]
