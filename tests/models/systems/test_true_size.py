"""The published systems at their full size: layers, width, heads, names, types, static shapes, int8 operations.

Weights are drawn by chance, so what is shown is that each network runs as it is meant to, not how well it answers.
Needs PyTorch, some 6 GB of memory and as much on disk; `make test-models` runs it and shows the figures.

What is quantised cannot agree to 1e-3: a value that lies on the boundary of two levels is rounded up by one
implementation and down by the other, and the step of 1/256 of its range goes through all layers. So an int8 network has
to be as near to the float32 implementation as that is to itself in float64.
"""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agreement import Logits, SpanBert, compare_reader, compare_vectors, encoded, expected_vectors
from architectures import linear_share
from pairs import COUNT, pairs
from published_systems import SYSTEMS, Made, System, write
from stage import CORPUS, QUESTION, known_models, odqa, spec_of

from odqa import pipeline, settings
from odqa.models import manage
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder

if TYPE_CHECKING:
    from torch_bert import TorchBert

pytestmark = pytest.mark.models

TOLERANCE = 1e-3  # of one and the same network, whatever its weights are stored in
Note = Callable[[str, object], None]  # shows a figure


@pytest.fixture
def note(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Note:
    def show(what: str, figures: object) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {what}: {figures}\n")

    return show


@contextmanager
def written(system: System, folder: Path) -> Iterator[Made]:
    """Write a system and let odqa know it; its files and weights are gone before the next one."""
    one = write(system, folder / ("models" if system.shape else "mirror"))
    (folder / "models").mkdir(exist_ok=True)
    try:
        with known_models(folder / "models", [one]):
            yield one
    finally:
        one.weights.clear()
        gc.collect()
        shutil.rmtree(folder)


@pytest.fixture(params=SYSTEMS, ids=lambda system: f"{system.number}-{system.name}")
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    with written(request.param, tmp_path) as one:
        yield one


def reference(made: Made, *, double: bool = False) -> TorchBert:
    import torch  # not in every environment that collects these tests
    import torch_bert

    kind = torch.float64 if double else torch.float32
    return torch_bert.TorchBert(made.system.architecture, made.weights, ranges=made.ranges, kind=kind)


class Remembered:
    """An implementation that is asked for each row once, however often it is compared with."""

    def __init__(self, bert: SpanBert) -> None:
        self.bert = bert
        self.known: dict[tuple[tuple[int, ...], tuple[int, ...]], Logits] = {}

    def logits(self, ids: Sequence[int], types: Sequence[int]) -> Logits:
        row = tuple(ids), tuple(types)
        if row not in self.known:
            self.known[row] = self.bert.logits(ids, types)
        return self.known[row]

    def spread(self) -> float:
        """The standard deviation of all logits."""
        return float(np.std(np.concatenate([values for pair in self.known.values() for values in pair])))


def test_numbers_are_those_of_another_implementation(made: Made, note: Note) -> None:
    if made.system.architecture.pruned_heads:
        assert linear_share(made.weights, made.system.architecture) == pytest.approx(0.317, abs=5e-4)
    if made.system.encodes:
        check_vectors(made, note)
    elif made.system.int8:
        check_int8_spans(made, note)
    else:
        bert = Remembered(reference(made))
        if not made.system.half:
            check_spans(made, bert, note)
        if made.system.shape is None:  # converted here, in float32 until now: and in what `odqa models pull` makes
            manage.install(made.system.name, base_url=made.folder.parent.as_uri(), precision="fp16")
        if made.system.shape is None or made.system.half:
            check_halves(made, bert, note)
    end_to_end(made)


def check_vectors(made: Made, note: Note) -> None:
    encoder = DenseEncoder(spec_of(made))
    wanted = expected_vectors(reference(made), encoder.tokenizer, pairs())
    found = compare_vectors(encoded(encoder, pairs()), wanted)
    own = compare_vectors(expected_vectors(reference(made, double=True), encoder.tokenizer, pairs()), wanted)
    note("odqa", replace(found, differences=(found.largest,)))
    note("float64", replace(own, differences=(own.largest,)))
    if made.system.int8:
        assert found.largest <= 2 * own.largest
        assert found.moved <= 2 * own.moved
        assert found.same_nearest >= own.same_nearest - COUNT // 10
    else:
        assert found.largest <= TOLERANCE
        assert found.same_order == COUNT


def check_spans(made: Made, bert: SpanBert, note: Note) -> None:
    found = compare_reader(ExtractiveReader(spec_of(made)), bert, pairs())
    note("float32", replace(found, differences=(found.largest,)))
    assert found.largest <= TOLERANCE
    assert (found.wrong, found.alike) == (0, COUNT)


def check_halves(made: Made, bert: Remembered, note: Note) -> None:
    """A file with weights in float16 gives what these weights give, which is near to what those of float32 give."""
    reader = ExtractiveReader(spec_of(made))
    cost = compare_reader(reader, bert, pairs())
    note("float16, beside weights in float32", (replace(cost, differences=(cost.largest,)), bert.spread()))
    for values in made.weights.values():
        values[...] = values.astype(np.float16)
    found = compare_reader(reader, reference(made), pairs())
    note("float16", replace(found, differences=(found.largest,)))
    assert found.largest <= TOLERANCE
    assert (found.wrong, found.alike) == (0, COUNT)
    assert cost.largest <= 0.02 * bert.spread()
    assert cost.wrong == 0


def check_int8_spans(made: Made, note: Note) -> None:
    reader, single, double = ExtractiveReader(spec_of(made)), Remembered(reference(made)), reference(made, double=True)
    found = compare_reader(reader, single, pairs())
    with pytest.MonkeyPatch.context() as patch:  # the same reader, on the logits of float64
        patch.setattr(reader._network, "logits", lambda rows: [double.logits(row.ids, row.token_types) for row in rows])
        own = compare_reader(reader, single, pairs())
    note("int8", replace(found, differences=(found.largest,)))
    note("float64", replace(own, differences=(own.largest,)))
    assert found.wrong == 0
    assert found.largest <= 2 * own.largest
    assert np.median(found.differences) <= 2 * np.median(own.differences)
    assert found.alike >= own.alike - COUNT // 10


def end_to_end(made: Made) -> None:
    """Index and ask by the commands, then change the reader from Python."""
    folder = pipeline.registry.models_folder()
    encoder, reader = (
        (made.system.name, settings.DEFAULT_READER)
        if made.system.encodes
        else (settings.DEFAULT_ENCODER, made.system.name)
    )
    index = folder / "index"
    assert odqa(folder, "index", *CORPUS, "--encoder", encoder, "--index-dir", index)["skipped"] == []
    result = odqa(folder, "query", QUESTION, "--reader", reader, "--mode", "dense", "--index-dir", index)
    for name in (reader, settings.DEFAULT_READER):
        with pipeline.open(index, reader=name) as qa:
            asked = qa.query(QUESTION, mode="dense")
            assert (qa.status().encoder, qa.reader.name) == (encoder, name)
            for answer in asked.answers:
                document = qa.document(answer.passage.doc_id)
                assert document is not None
                assert answer.span.of(document.text) == answer.text
        if name == reader:
            assert [one["text"] for one in result["answers"]] == [one.text for one in asked.answers]


def test_an_encoder_in_float_gives_the_same_order(tmp_path: Path, note: Note) -> None:
    """System 1 with float32 numbers, where nothing is rounded to levels and the whole order has to agree."""
    with written(replace(SYSTEMS[0], int8=False, half=False), tmp_path) as made:
        check_vectors(made, note)


def test_a_file_of_full_size_that_cannot_be_reshaped(tmp_path: Path, note: Note) -> None:
    """System 2 in float32, with its length in every constant: it runs at that length."""
    with written(replace(SYSTEMS[1], rigid=True, half=False), tmp_path) as made:
        assert ExtractiveReader(spec_of(made))._network.most_tokens == 384
        check_spans(made, reference(made), note)
