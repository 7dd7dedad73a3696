"""The bundled int8 networks, run by odqa, against the PyTorch networks in float32 that they were made from.

The golden values are written by training/golden.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from odqa import settings
from odqa.reader.extractive import load_reader
from odqa.retriever.encoder import load_encoder

HERE = Path(__file__).parent
LEAST_COSINE = 0.97  # what int8 may cost a vector; measured: 0.980 to 0.996
SCORE_DIFFERENCE = 3.0  # what int8 may cost a span's score, a sum of four logits


def test_vectors_are_those_of_the_float_network() -> None:
    rows = json.loads((HERE / "encoder.json").read_text(encoding="utf-8"))
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    # The PyTorch network is the dense half. These passages are short enough to be asked.
    questions = encoder.encode_questions([row["question"] for row in rows], lexical=False)
    passages = encoder.encode_questions([row["passage"] for row in rows], lexical=False)
    expected = np.array([row["vectors"] for row in rows], dtype=np.float32)
    assert np.linalg.norm(questions, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert (questions * expected[:, 0]).sum(axis=1).min() > LEAST_COSINE
    assert (passages * expected[:, 1]).sum(axis=1).min() > LEAST_COSINE
    # Each question is nearest to its own passage, for both networks.
    assert (questions @ passages.T).argmax(axis=1).tolist() == list(range(len(rows)))
    assert (expected[:, 0] @ expected[:, 1].T).argmax(axis=1).tolist() == list(range(len(rows)))
    # And so it is with both halves, which is how passages are stored.
    whole = encoder.encode_passages([row["passage"] for row in rows], titles=[""] * len(rows))
    for asked in (questions, encoder.encode_questions([row["question"] for row in rows])):
        assert (asked @ whole.T).argmax(axis=1).tolist() == list(range(len(rows)))


def test_spans_are_those_of_the_float_network() -> None:
    rows = json.loads((HERE / "reader.json").read_text(encoding="utf-8"))
    reader = load_reader(settings.DEFAULT_READER)
    for row in rows:
        best = reader.read(row["question"], [row["passage"]], n_best=1)[0]
        assert [best.span.start, best.span.end] == row["span"], best.span.of(row["passage"])
        assert best.score == pytest.approx(row["score"], abs=SCORE_DIFFERENCE)
