"""Stand-ins of the published systems: two layers, and the names, types, shapes and file forms of the real ones.

`test_true_size.py` does the same with networks of full size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from agreement import compare_reader, compare_vectors, encoded, expected_vectors
from architectures import Architecture, linear_share, weights
from numpy_bert import NumpyBert
from pairs import pairs
from published_systems import SYSTEMS, Made, small, write
from quantisation import fake_quantisation
from stage import CORPUS, QUESTION, known_models, odqa, spec_of
from zoo_files import INPUTS, ZooForm, write_zoo_file

from odqa import model_checks, pipeline, settings
from odqa.errors import IndexMismatchError, ModelError
from odqa.models.opening import open_model
from odqa.models.runtime import Network, Row, Tokenizer
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder

ENCODER, *READERS = [system.name for system in SYSTEMS]
SOME = pairs()[::9]  # two of them with whole documents: several windows


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def made(models_dir: Path) -> Iterator[dict[str, Made]]:
    """All stand-ins, under their published names."""
    parents = {True: models_dir.parent / "mirror", False: models_dir}
    found = [write(small(system), parents[system.shape is None]) for system in SYSTEMS]
    with known_models(models_dir, found):
        yield {one.system.name: one for one in found}


def reference(made: Made) -> NumpyBert:
    watch = fake_quantisation(made.ranges) if made.ranges else None
    return NumpyBert(made.system.architecture, made.weights, watch=watch)


# ---- numbers -------------------------------------------------------------------------------------------------------


def test_the_encoder_gives_the_vectors_of_its_network(made: dict[str, Made]) -> None:
    encoder = DenseEncoder(spec_of(made[ENCODER]))
    wanted = expected_vectors(reference(made[ENCODER]), encoder.tokenizer, SOME)
    found = compare_vectors(encoded(encoder, SOME), wanted)
    # int8: the vectors are equal, until a value falls on the other side of a boundary of two levels by rounding; which
    # happens in few short rows, the questions, and in most long ones.
    assert np.median(found.differences[: len(SOME)]) < 1e-5
    assert found.largest < 0.1
    assert found.moved < 0.05  # distances are about 4
    assert found.same_nearest >= len(SOME) - 1  # two passages may be equally near but for such a step


def test_the_encoder_in_float_gives_the_same_order(tmp_path: Path) -> None:
    system = replace(small(SYSTEMS[0]), int8=False, half=False)
    one = write(system, tmp_path)
    with known_models(tmp_path, [one]):
        encoder = DenseEncoder(spec_of(one))
        wanted = expected_vectors(reference(one), encoder.tokenizer, SOME)
        found = compare_vectors(encoded(encoder, SOME), wanted)
    assert found.largest < 1e-5
    assert found.same_order == len(SOME)


@pytest.mark.parametrize("name", READERS)
def test_readers_give_the_logits_of_their_networks(made: dict[str, Made], name: str) -> None:
    system = made[name].system
    found = compare_reader(ExtractiveReader(spec_of(made[name])), reference(made[name]), SOME)
    assert found.wrong == 0
    if system.int8:
        assert found.largest < 1.0
    else:
        assert found.largest < system.tolerance
        assert found.alike == len(SOME)


def test_int8_readers_are_exact_but_for_values_on_a_boundary(made: dict[str, Made]) -> None:
    """In a short row few values lie so near to the boundary of two levels that rounding decides between them."""
    name = next(name for name in READERS if made[name].system.int8)
    tokenizer, network = open_model(spec_of(made[name]))
    bert, rows = reference(made[name]), []
    for pair in pairs()[:20]:
        asked, read = (tokenizer.encode(text).ids for text in (pair.question, pair.passage))
        ids = [tokenizer.cls_id, *asked, tokenizer.sep_id, *read[:5], tokenizer.sep_id]
        rows.append(Row(ids, [0] * (len(asked) + 2) + [1] * 6))
    wanted = [bert.logits(row.ids, row.token_types) for row in rows]
    differences = [np.abs(np.subtract(a, b)).max() for a, b in zip(network.logits(rows), wanted, strict=True)]
    assert np.median(differences) < 1e-4
    assert max(differences) < 1.0


def test_cased_systems_tell_capitals_apart(made: dict[str, Made]) -> None:
    for name, one in made.items():
        spec = spec_of(one)
        vocabulary = pipeline.registry.folder(spec) / spec.file("vocabulary").name
        tokenizer = Tokenizer(vocabulary, lower_case=spec.lower_case)
        alike = tokenizer.encode("Town Café").ids == tokenizer.encode("town cafe").ids
        assert alike == one.system.lower_case, name


def test_the_sparse_system_has_as_many_weights_as_published() -> None:
    sparse = next(system for system in SYSTEMS if system.architecture.pruned_heads)
    removed = sum(len(heads) for heads in sparse.architecture.pruned_heads.values())
    assert (removed, sparse.architecture.heads * sparse.architecture.layers) == (80, 144)
    one = replace(sparse.architecture, layers=2, vocabulary=9, pruned_heads={0: tuple(range(6)), 1: tuple(range(7))})
    kept = 4 * one.hidden**2 * (11 / 24) + 2 * one.hidden * one.intermediate * one.density
    full = 4 * one.hidden**2 + 2 * one.hidden * one.intermediate
    assert linear_share(weights(one), one) == pytest.approx(kept / full, abs=1e-3)
    share = (4 * one.hidden**2 * 64 / 144 + 2 * one.hidden * one.intermediate * one.density) / full
    assert share == pytest.approx(0.317, abs=5e-4)


# ---- forms of files ------------------------------------------------------------------------------------------------

TINY = Architecture(layers=1, hidden=32, intermediate=64, vocabulary=500, head_width=16, seed=9)
ROWS = [Row([2, *range(10, 10 + n), 3], [0] * 5 + [1] * (n - 3)) for n in (4, 70, 30)]
OUTPUTS = ("output_s", "output_e")


@pytest.mark.parametrize("names", ["tensors", "layers", "numbers", "none"])
@pytest.mark.parametrize(("holds", "batch", "most"), [("nothing", None, None), ("batch", 1, None), ("shape", 1, 96)])
@pytest.mark.parametrize("inputs", [INPUTS[:3], INPUTS])
def test_readers_of_every_form(
    tmp_path: Path, names: str, holds: str, batch: int | None, most: int | None, inputs: tuple[str, ...]
) -> None:
    drawn, path = weights(TINY), tmp_path / "network.xml"
    write_zoo_file(path, TINY, drawn, ZooForm((1, 96), inputs, OUTPUTS, names=names, holds=holds))  # type: ignore[arg-type]
    ports = openvino.Core().read_model(path).inputs
    assert [list(port.shape) for port in ports] == [[1, 96]] * len(inputs)
    assert {port.element_type.get_type_name() for port in ports} == {"i32"}
    network = Network(path, path.with_suffix(".bin"), inputs=inputs, outputs=OUTPUTS, per_token=True)
    assert (network._batch_rows, network.most_tokens) == (batch, most)
    bert = NumpyBert(TINY, drawn)
    for row, found in zip(ROWS, network.logits(ROWS), strict=True):
        np.testing.assert_allclose(found, bert.logits(row.ids, row.token_types), atol=1e-4)


@pytest.mark.parametrize("names", ["tensors", "layers"])
def test_outputs_are_found_by_name_wherever_they_stand(tmp_path: Path, names: str) -> None:
    drawn, path = weights(TINY), tmp_path / "network.xml"
    # The file calls its first output "output_e": so the end is what comes first.
    form = ZooForm((1, 96), INPUTS[:3], OUTPUTS[::-1], names=names)  # type: ignore[arg-type]
    write_zoo_file(path, TINY, drawn, form)
    network = Network(path, path.with_suffix(".bin"), inputs=INPUTS[:3], outputs=OUTPUTS, per_token=True)
    first, second = NumpyBert(TINY, drawn).logits(ROWS[1].ids, ROWS[1].token_types)
    start, end = network.logits([ROWS[1]])[0]
    np.testing.assert_allclose(start, second, atol=1e-4)
    np.testing.assert_allclose(end, first, atol=1e-4)


def test_padding_that_is_asked_for_is_masked_and_kept(tmp_path: Path) -> None:
    drawn, path = weights(TINY), tmp_path / "network.xml"
    write_zoo_file(path, TINY, drawn, ZooForm((1, 96), INPUTS[:3], OUTPUTS))
    network = Network(path, path.with_suffix(".bin"), inputs=INPUTS[:3], outputs=OUTPUTS, per_token=True)
    rows = [replace(row, padding=96 - len(row.ids)) for row in ROWS]
    for row, padded, (start, end) in zip(ROWS, rows, network.logits(rows), strict=True):
        assert (row.tokens, padded.tokens, start.shape, end.shape) == (len(row.ids), 96, (96,), (96,))
        np.testing.assert_allclose(start[: row.tokens], network.logits([row])[0][0], atol=1e-4)
        assert np.ptp(start[row.tokens :]) > 0  # positions differ
    with pytest.raises(ValueError, match="padding is -1"):
        Row([1], padding=-1)


@contextmanager
def rigid_encoder(folder: Path, length: int) -> Iterator[Made]:
    system = small(SYSTEMS[0])
    with known_models(folder, [write(replace(system, shape=(1, length), rigid=True), folder)]):
        yield


def test_an_encoder_that_cannot_be_reshaped_runs_at_its_length(tmp_path: Path, made: dict[str, Made]) -> None:
    free = DenseEncoder(spec_of(made[ENCODER]))
    texts = [pair.passage for pair in SOME[:3]]
    expected = free.encode_passages(texts, titles=[""] * 3)
    with rigid_encoder(tmp_path, 384):
        fixed = DenseEncoder(spec_of(made[ENCODER]))
        assert fixed._network.most_tokens == 384
        np.testing.assert_allclose(fixed.encode_passages(texts, titles=[""] * 3), expected, atol=0.1)


def test_an_encoder_too_short_for_passages_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    with (
        rigid_encoder(tmp_path, 32),
        pytest.raises(ModelError, match=rf"{ENCODER}\.xml takes 32 tokens and cannot .* entry says 384"),
    ):
        DenseEncoder(pipeline.registry.find(ENCODER))


# ---- the whole path ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index_dir(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two documents, made with the encoder by the command."""
    folder = tmp_path_factory.mktemp("index") / "index"
    report = odqa(
        next(iter(made.values())).folder.parent, "index", *CORPUS, "--encoder", ENCODER, "--index-dir", folder
    )
    assert len(report["added"]) == len(CORPUS)
    assert report["passages"] >= len(CORPUS)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_readers_change_per_query(made: dict[str, Made], index_dir: Path, name: str) -> None:
    with pipeline.open(index_dir, reader=name) as qa:
        assert qa.reader.name == name
        for profile in settings.PROFILES:
            result = qa.query(QUESTION, mode="text", profile=profile)
            assert result.passages
            assert result.answers
            for answer in result.answers:
                document = qa.document(answer.passage.doc_id)
                assert document is not None
                assert answer.span.of(document.text) == answer.text
        assert result.answer is result.answers[0]  # omz always answers


def test_the_commands_take_the_same_names(models_dir: Path, made: dict[str, Made], index_dir: Path) -> None:
    options = ["--index-dir", index_dir, "--mode", "dense", "--profile", "omz"]
    result = odqa(models_dir, "query", QUESTION, "--reader", READERS[2], *options)
    with pipeline.open(index_dir, encoder=ENCODER, reader=READERS[2]) as qa:
        expected = qa.query(QUESTION, mode="dense", profile="omz")
        assert qa.status().encoder == ENCODER
    assert [one["text"] for one in result["answers"]] == [one.text for one in expected.answers]
    assert result["answer"]["score"] == pytest.approx(expected.answers[0].score, rel=1e-3)


def test_another_encoder_cannot_ask_the_index(made: dict[str, Made], index_dir: Path) -> None:
    with pytest.raises(IndexMismatchError, match=rf"{ENCODER}.*another folder"):
        pipeline.open(index_dir, encoder=settings.DEFAULT_ENCODER)


def test_networks_of_chance_do_not_pass_the_known_answers(made: dict[str, Made]) -> None:
    for name in (ENCODER, READERS[0]):
        check = model_checks.check_model(spec_of(made[name]))
        assert not check.passed
        assert check.published == spec_of(made[name]).published
