from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_networks
from small_networks import IDS, WIDTH, expected_vector

from odqa import settings
from odqa.errors import MissingModelError, ModelError, UnknownModelError
from odqa.models import registry
from odqa.protocols import Encoder
from odqa.retriever.encoder import DenseEncoder, load_encoder


@pytest.fixture
def encoder(tmp_path: Path) -> DenseEncoder:
    return DenseEncoder(small_networks.encoder_spec(tmp_path), environment={"ODQA_MODELS_DIR": str(tmp_path)})


def row(*pieces: str) -> list[int]:
    return [IDS[piece] for piece in ("[CLS]", *pieces, "[SEP]")]


def test_questions_are_cut_to_their_length(encoder: DenseEncoder) -> None:
    found = encoder.encode_questions(["Who sat?", "the cat sat on the mat on the mat"])
    assert found.dtype == np.float32
    wanted = [expected_vector(row("who", "sat", "?")), expected_vector(row("the", "cat", "sat", "on", "the", "mat"))]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_passages_stand_behind_their_titles(encoder: DenseEncoder) -> None:
    titles = ["Paris", "", "Paris", "cat " * 40]
    passages = ["the tower", "the tower", "on the mat " * 30, "the mat " * 30]
    found = encoder.encode_passages(passages, titles=titles)
    wanted = [
        row("paris", "the", "tower"),
        row("the", "tower"),
        row("paris", *(["on", "the", "mat"] * 15)),
        row(*(["cat"] * settings.TITLE_TOKENS), *(["the", "mat"] * 7)),
    ]
    assert [len(ids) for ids in wanted] == [5, 4, 48, 48]
    np.testing.assert_allclose(found, [expected_vector(ids) for ids in wanted], atol=1e-5)


def test_title_and_passage_are_what_one_text_of_two_lines_would_be(encoder: DenseEncoder) -> None:
    found = encoder.encode_passages(["the tower"], titles=["Paris"])
    np.testing.assert_allclose(found, encoder.encode_passages(["Paris\nthe tower"], titles=[""]), atol=1e-6)


def test_word_pieces_that_are_known_are_not_made_again(encoder: DenseEncoder) -> None:
    titles, passages = ["Paris", ""], ["the tower", "on the mat " * 30]
    ids = [np.array(encoder.tokenizer.encode(passage).ids, np.int32) for passage in passages]
    found = encoder.encode_passages(["not", "read"], titles=titles, ids=ids)
    np.testing.assert_array_equal(found, encoder.encode_passages(passages, titles=titles))
    with pytest.raises(ValueError, match="1 for 2 passages"):
        encoder.encode_passages(passages, titles=titles, ids=ids[:1])


def test_nothing_gives_no_vectors(encoder: DenseEncoder) -> None:
    for found in (encoder.encode_questions([]), encoder.encode_passages([], titles=[])):
        assert found.shape == (0, WIDTH)
        assert found.dtype == np.float32
    np.testing.assert_allclose(encoder.encode_questions([""])[0], expected_vector(row()), atol=1e-6)


def test_without_a_lexical_half_nothing_is_left_out(encoder: DenseEncoder) -> None:
    asked = ["Who sat?", "the cat sat"]
    np.testing.assert_array_equal(encoder.encode_questions(asked, lexical=False), encoder.encode_questions(asked))


def test_wrong_arguments(encoder: DenseEncoder) -> None:
    with pytest.raises(ValueError, match="1 titles, 2 passages"):
        encoder.encode_passages(["a", "b"], titles=["t"])
    with pytest.raises(ValueError, match="lone surrogate"):
        encoder.encode_questions(["who \udc80"])


def test_identity_and_protocol(encoder: DenseEncoder, tmp_path: Path) -> None:
    held: Encoder = encoder
    assert (held.identity.name, held.identity.revision, held.identity.width) == ("small-encoder", "1", WIDTH)
    assert held.identity.checksum.startswith("sha256:")
    assert held.tokenizer.encode("cats").offsets == [(0, 3), (3, 4)]
    other = small_networks.encoder_spec(tmp_path / "again", shape=(1, 16))
    again = DenseEncoder(other, environment={"ODQA_MODELS_DIR": str(tmp_path / "again")})
    assert again.identity.checksum != held.identity.checksum


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    with pytest.raises(UnknownModelError, match="no model is named"):
        load_encoder("word2vec")
    with pytest.raises(ModelError, match="is a reader"):
        load_encoder(settings.DEFAULT_READER)
    zoo = next(spec for spec in registry.models() if spec.task == "encode" and spec.source == "pull")
    with pytest.raises(MissingModelError, match=f"odqa models pull {zoo.name}"):
        load_encoder(zoo.name, environment=environment)
    wrong = replace(small_networks.encoder_spec(tmp_path), width=7)
    with pytest.raises(ModelError, match=r"\(6,\) instead of \(7,\)"):
        DenseEncoder(wrong, environment=environment).encode_questions(["who"])
