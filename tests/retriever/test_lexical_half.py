"""The lexical half of the bundled encoder's vectors: what it adds, and that a question can do without it.

Its definition is written out in training/lexical.py; what is held here is what follows from it for the product.
"""

from __future__ import annotations

import numpy as np
import pytest

from odqa import settings
from odqa.models import registry
from odqa.retriever.encoder import DenseEncoder, load_encoder

PASSAGES = [
    "The lamp of the harbour is kept by Mara Venn, who climbs the tower at dusk.",
    "A quince is a hard fruit with a strong scent; it is cooked before it is eaten.",
    "The brewery makes a dark ale and, in summer, a wheat beer.",
]


@pytest.fixture(scope="module")
def encoder() -> DenseEncoder:
    return load_encoder(settings.DEFAULT_ENCODER)


def lexical_parts(encoder: DenseEncoder, texts: list[str]) -> np.ndarray:
    """Whole vectors without their dense halves, at length 1. Both halves are orthogonal, and the dense one has length 1
    before the two are added, so what points along it is its share of the whole."""
    whole, dense = encoder.encode_questions(texts), encoder.encode_questions(texts, lexical=False)
    share = (whole * dense).sum(axis=1, keepdims=True)
    parts = whole - share * dense
    return np.asarray(parts / np.linalg.norm(parts, axis=1, keepdims=True))


def test_the_bundled_encoder_says_that_it_has_one() -> None:
    assert registry.find(settings.DEFAULT_ENCODER).lexical_half
    assert not any(spec.lexical_half for spec in registry.models() if spec.source == "pull")


def test_all_vectors_have_length_1(encoder: DenseEncoder) -> None:
    for vectors in (
        encoder.encode_passages([*PASSAGES, "", "of the", "?!", "lamp " * 500], titles=[""] * 7),
        encoder.encode_questions(["Who keeps the lamp?", "", "of the"]),
        encoder.encode_questions(["Who keeps the lamp?", "", "of the"], lexical=False),
    ):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_question_without_it_orders_passages_by_their_dense_halves(encoder: DenseEncoder) -> None:
    questions = encoder.encode_questions(["Who keeps the lamp?", "What is brewed?"], lexical=False)
    passages = [*PASSAGES, "of the", "?!", ""]  # those without words as well: none is nearer for holding less
    whole = encoder.encode_passages(passages, titles=[""] * len(passages))
    dense = encoder.encode_questions(passages, lexical=False)  # short enough to be questions
    ratios = (questions @ whole.T) / (questions @ dense.T)
    np.testing.assert_allclose(ratios, 1.3**-0.5, rtol=1e-2)  # one factor, the same for all


def test_stop_words_and_signs_have_no_part_in_it(encoder: DenseEncoder) -> None:
    parts = lexical_parts(encoder, ["lighthouse", "what is the lighthouse, and where?", "of the", "?!"])
    assert parts[0] @ parts[1] > 0.99
    assert parts[2] @ parts[3] > 0.99
    assert abs(parts[0] @ parts[2]) < 0.15


def test_order_and_repetition_hardly_matter_to_it(encoder: DenseEncoder) -> None:
    parts = lexical_parts(encoder, ["quince lamp harbour", "harbour quince lamp", "quince quince lamp harbour"])
    assert parts[0] @ parts[1] > 0.99
    assert 0.9 < parts[0] @ parts[2] < 0.999


def test_different_words_are_nearly_orthogonal_in_it(encoder: DenseEncoder) -> None:
    words = "lighthouse quince brewery harbour violin granite tuesday senate copper falcon".split()
    likeness = lexical_parts(encoder, words) @ lexical_parts(encoder, words).T
    np.testing.assert_allclose(np.diag(likeness), 1.0, atol=1e-4)
    others = likeness[~np.eye(len(words), dtype=bool)]
    assert np.abs(others).max() < 0.25  # random signs: 1 / sqrt(640) = 0.04 is usual; words in pieces may share one


def test_a_shared_rare_word_is_seen_by_it(encoder: DenseEncoder) -> None:
    parts = lexical_parts(
        encoder, ["Who found Zubrowka?", "The ship carried Zubrowka and salt.", "The ship carried timber and salt."]
    )
    assert parts[0] @ parts[1] > 0.4
    assert abs(parts[0] @ parts[2]) < 0.15
