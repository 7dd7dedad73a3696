from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bert_cases
import numpy as np
import openvino
import pytest
from bert_cases import dense, modules, write
from small_networks import IDS, VOCABULARY

from odqa import settings
from odqa.errors import ModelError
from odqa.models import convert, registry
from odqa.models.convert import import_model
from odqa.models.huggingface import graph
from odqa.models.opening import open_model
from odqa.models.registry import verify
from odqa.models.runtime import Row
from odqa.reader.extractive import ExtractiveReader
from odqa.retriever.encoder import DenseEncoder

READER = bert_cases.config()
ENCODER = bert_cases.config(architectures=["BertModel"])
TEXTS = ["the cat sat on the mat", "who sat where: paris tower 2000 cafe", "The Cat Sat. " * 12]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"ODQA_MODELS_DIR": str(tmp_path / "models")}


def reader_folder(folder: Path, config: dict[str, Any] = READER) -> dict[str, np.ndarray]:
    tensors = bert_cases.tensors(config)
    bert_cases.write_folder(folder, config, tensors)
    return tensors


def encoder_folder(folder: Path) -> dict[str, np.ndarray]:
    tensors = bert_cases.tensors(ENCODER, prefix="", head=False)
    bert_cases.write_folder(folder, ENCODER, tensors)
    return tensors


def rows() -> list[Row]:
    rng = np.random.default_rng(4)
    lengths = (3, 16, 17, 40)
    return [Row(rng.integers(4, len(VOCABULARY), n).tolist(), [0] * (n // 2) + [1] * (n - n // 2)) for n in lengths]


# ---- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("fp16", 2e-2)])
def test_a_reader(precision: convert.Precision, tolerance: float, tmp_path: Path, environment: dict[str, str]) -> None:
    tensors = reader_folder(tmp_path / "source")
    spec = import_model(tmp_path / "source", name="mine", precision=precision, environment=environment)
    assert registry.find("mine", environment=environment) == spec
    verify(spec, environment=environment)
    _, network = open_model(spec, environment=environment)
    worst = 0.0
    for row, found in zip(rows(), network.logits(rows()), strict=True):
        wanted = bert_cases.logits(tensors, READER, row.ids, row.token_types)
        np.testing.assert_allclose(found, wanted, atol=tolerance)
        worst = max(worst, np.abs(np.stack(found) - wanted).max())
    assert precision == "fp32" or worst > 2e-5  # halves are what was asked for
    answers = ExtractiveReader(spec, environment=environment).read("who sat on the mat", TEXTS, n_best=2)
    assert {answer.passage for answer in answers} == {0, 1, 2}


def test_an_encoder_with_all_steps(tmp_path: Path, environment: dict[str, str]) -> None:
    source = tmp_path / "source"
    tensors = encoder_folder(source)
    modules(source, "Dense", "Normalize")
    head = dense(source / "2_Dense", 20, 48)
    spec = import_model(source, name="mine", precision="fp32", environment=environment)
    assert (spec.task, spec.width) == ("encode", 20)
    encoder = DenseEncoder(registry.find("mine", environment=environment), environment=environment)
    assert encoder.identity.width == 20
    found = encoder.encode_passages(TEXTS, titles=[""] * 3)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = [IDS["[CLS]"], *encoder.tokenizer.encode(text).ids, IDS["[SEP]"]]
        states = bert_cases.hidden_states(tensors, ENCODER, ids, [0] * len(ids), prefix="")
        wanted = np.tanh(states.mean(0) @ head["linear.weight"].T + head["linear.bias"])
        np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=2e-5)
    # A vector does not depend on its neighbours, nor on the length that the batch is padded to.
    np.testing.assert_allclose(encoder.encode_passages(TEXTS[:1], titles=[""])[0], found[0], atol=1e-6)


def test_all_forms_of_weights_give_the_same_files(tmp_path: Path, environment: dict[str, str]) -> None:
    tensors = reader_folder(tmp_path / "one")
    source = bert_cases.write_folder(tmp_path / "parts", READER, {})
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"part-{number % 3}.safetensors" for number, name in enumerate(names)}
    for part in set(places.values()):
        own = {name: tensors[name] for name in names if places[name] == part}
        (source / part).write_bytes(bert_cases.safetensors_file(own))
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    source = bert_cases.write_folder(tmp_path / "bin", READER, {})
    (source / "model.safetensors").unlink()
    bert_cases.write_bin(source / "pytorch_model.bin", tensors)
    specs = [import_model(tmp_path / n, name=n, environment=environment) for n in ("one", "parts", "bin")]
    assert len({spec.checksum for spec in specs}) == 1


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_weights_in_halves(kind: str, tmp_path: Path, environment: dict[str, str]) -> None:
    tensors = bert_cases.tensors(READER)
    if kind == "half":
        stored = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
        tensors = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    else:
        stored = {name: bert_cases.bfloat16(tensor) for name, tensor in tensors.items()}
        tensors = {name: (tensor.astype(np.uint32) << 16).view(np.float32) for name, tensor in stored.items()}
    bert_cases.write_folder(tmp_path / "source", READER, stored)
    spec = import_model(tmp_path / "source", name="mine", precision="fp32", environment=environment)
    row = rows()[2]
    (found,) = open_model(spec, environment=environment)[1].logits([row])
    np.testing.assert_allclose(found, bert_cases.logits(tensors, READER, row.ids, row.token_types), atol=2e-5)


def test_removed_heads_and_zeros_make_the_files_smaller(tmp_path: Path, environment: dict[str, str]) -> None:
    config = READER | {"pruned_heads": {"0": [0, 1, 2]}}
    tensors = reader_folder(tmp_path / "source", config)
    tensors["bert.encoder.layer.1.intermediate.dense.weight"][30:] = 0
    bert_cases.write_folder(tmp_path / "source", config, tensors)
    reader_folder(tmp_path / "dense")
    spec = import_model(tmp_path / "source", name="mine", precision="fp32", environment=environment)
    whole = import_model(tmp_path / "dense", name="dense", precision="fp32", environment=environment)
    assert spec.architecture == "BERT, 2 layers, hidden 48, 3 of 6 heads, 112 of 160 neurons, span head; float32"
    attention, neurons = 4 * 48 * 48 + 3 * 48, 48 * (2 * 48 + 1)
    saved = whole.file("weights").size - spec.file("weights").size  # type: ignore[operator]
    assert abs(saved - 4 * (attention + neurons)) < 64  # what else differs are a few shapes
    row = rows()[3]
    (found,) = open_model(spec, environment=environment)[1].logits([row])
    np.testing.assert_allclose(found, bert_cases.logits(tensors, config, row.ids, row.token_types), atol=2e-5)


# ---- the entry -----------------------------------------------------------------------------------------------------


def test_the_entry_of_a_reader(tmp_path: Path, environment: dict[str, str]) -> None:
    reader_folder(tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text("---\nlicense: mit\n---\n")
    spec = import_model(tmp_path / "source", name="mine", environment=environment)
    assert (spec.source, spec.form, spec.task, spec.licence) == ("local", "ir", "read", "mit")
    assert (spec.window_tokens, spec.question_tokens, spec.passage_tokens, spec.width) == (384, 64, 0, 0)
    assert (spec.inputs, spec.outputs) == (graph.READER_INPUTS, graph.READER_OUTPUTS)
    assert spec.architecture == "BERT, 2 layers, hidden 48, 3 heads, span head; float16"
    assert spec.description == "Imported from the folder source."
    assert not spec.trained_no_answer
    folder = tmp_path / "models" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "network.bin", "network.xml", "vocab.txt"]
    assert registry.read_entry(json.loads((folder / "model.json").read_text(encoding="utf-8"))) == spec
    assert str(tmp_path) not in "".join((folder / name).read_text() for name in ("model.json", "network.xml"))


def test_the_entry_of_an_encoder(tmp_path: Path, environment: dict[str, str]) -> None:
    encoder_folder(tmp_path / "source")
    write(tmp_path / "source" / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    spec = import_model(tmp_path / "source", name="mine", precision="fp32", environment=environment)
    assert (spec.window_tokens, spec.question_tokens, spec.passage_tokens, spec.width) == (0, 32, 384, 48)
    assert (spec.inputs, spec.outputs) == (graph.ENCODER_INPUTS, graph.ENCODER_OUTPUTS)
    assert spec.architecture == "BERT, 2 layers, hidden 48, 3 heads, mean over tokens; float32"
    assert (spec.licence, spec.parameters_millions) == ("not stated", 0.06)
    assert "It wants 'query: ' in front of texts, which odqa leaves out." in spec.description


@pytest.mark.parametrize("lower", [True, False])
def test_case(lower: bool, tmp_path: Path, environment: dict[str, str]) -> None:
    reader_folder(tmp_path / "source")
    write(tmp_path / "source" / "tokenizer_config.json", {"do_lower_case": lower, "strip_accents": False})
    spec = import_model(tmp_path / "source", name="mine", environment=environment)
    assert (spec.lower_case, spec.strip_accents) == (lower, False if lower else None)
    tokenizer, _ = open_model(registry.find("mine", environment=environment), environment=environment)
    pieces = [VOCABULARY[i] for i in tokenizer.encode("Cat cafe\u0301").ids]
    assert pieces == (["cat", "[UNK]"] if lower else ["C", "##a", "##t", "[UNK]"])


def test_shorter_positions_make_shorter_windows(tmp_path: Path, environment: dict[str, str]) -> None:
    for positions, tokens in ((383, 368), (200, 192 + 8)):
        reader_folder(tmp_path / str(positions), READER | {"max_position_embeddings": positions})
        if positions == 383:
            spec = import_model(tmp_path / "383", name="mine", environment=environment)
            assert spec.window_tokens == tokens
            long = ExtractiveReader(spec, environment=environment).read(
                "who", ["the cat sat on the mat " * 99], n_best=1
            )
            assert long
        else:
            with pytest.raises(ModelError, match=r"takes 200 tokens .* needs one that takes 208"):
                import_model(tmp_path / "200", name="other", environment=environment)
    short = ENCODER | {"max_position_embeddings": 383}
    bert_cases.write_folder(tmp_path / "e", short, bert_cases.tensors(short, prefix="", head=False))
    with pytest.raises(ModelError, match=r"takes 383 tokens .* needs one that takes 384"):
        import_model(tmp_path / "e", name="other", environment=environment)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", "../a", "a\\b", "a b", "CON", "aux.1", "a.", "a" * 101, "ä"]
)
def test_names_that_are_no_names(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        import_model(tmp_path, name=name, environment=environment)


def test_arguments_that_do_not_go_together(tmp_path: Path, environment: dict[str, str]) -> None:
    for options in ({"precision": "fp8"}, {"task": "chat"}):
        with pytest.raises(ValueError, match="unknown precision"):
            import_model(tmp_path, name="mine", environment=environment, **options)
    for options in ({"precision": "int8"}, {"calibration_texts": ["a"]}):
        with pytest.raises(ValueError, match="give both or neither"):
            import_model(tmp_path, name="mine", environment=environment, **options)


def test_names_that_are_taken(tmp_path: Path, environment: dict[str, str]) -> None:
    reader_folder(tmp_path / "source")
    import_model(tmp_path / "source", name="mine", environment=environment)
    before = (tmp_path / "models" / "mine" / "network.bin").stat()
    with pytest.raises(ModelError, match=r"mine is there already"):
        import_model(tmp_path / "source", name="mine", environment=environment)
    assert (tmp_path / "models" / "mine" / "network.bin").stat() == before
    for name in (settings.DEFAULT_READER, "bert-large-uncased-whole-word-masking-squad-fp32-0001"):
        with pytest.raises(ModelError, match="is the name of a model that odqa knows"):
            import_model(tmp_path / "source", name=name, environment=environment)


def test_a_model_appears_whole_or_not_at_all(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader_folder(tmp_path / "source")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Check failed\nCannot write")

    for fails, reason in (
        (full, "cannot be written: .*No space left"),
        (broken, "OpenVINO cannot write .*: Cannot write"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(convert.graph, "save", fails)
            with pytest.raises(ModelError, match=reason):
                import_model(tmp_path / "source", name="mine", environment=environment)
        assert list((tmp_path / "models").iterdir()) == []
    (tmp_path / "models").rmdir()
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ModelError, match="cannot be written"):
        import_model(tmp_path / "source", name="mine", environment=environment)


def test_a_name_that_another_process_takes_meanwhile(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader_folder(tmp_path / "source")
    save = graph.save

    def late(network: openvino.Model, path: Path, *, halves: bool) -> None:
        save(network, path, halves=halves)
        (tmp_path / "models" / "mine").mkdir()
        (tmp_path / "models" / "mine" / "theirs").touch()

    monkeypatch.setattr(convert.graph, "save", late)
    with pytest.raises(ModelError, match="mine is there already"):
        import_model(tmp_path / "source", name="mine", environment=environment)
    assert [path.name for path in (tmp_path / "models").rglob("*")] == ["mine", "theirs"]


def test_weights_too_large_for_halves(tmp_path: Path, environment: dict[str, str]) -> None:
    tensors = reader_folder(tmp_path / "source")
    tensors["qa_outputs.bias"][1] = -70000
    bert_cases.write_folder(tmp_path / "source", READER, tensors)
    with pytest.raises(ModelError, match="weights beyond 65504, too large for fp16"):
        import_model(tmp_path / "source", name="mine", environment=environment)
    import_model(tmp_path / "source", name="mine", precision="fp32", environment=environment)


def test_numbers_that_overflow_are_found_before_anything_is_there(tmp_path: Path, environment: dict[str, str]) -> None:
    tensors = reader_folder(tmp_path / "source")
    tensors["qa_outputs.weight"][:] = 3e38
    bert_cases.write_folder(tmp_path / "source", READER, tensors)
    with pytest.raises(ModelError, match="not finite"):
        import_model(tmp_path / "source", name="mine", precision="fp32", environment=environment)
    assert list((tmp_path / "models").iterdir()) == []


# ---- int8, as far as it goes without NNCF --------------------------------------------------------------------------


def test_int8_needs_texts_and_nncf(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader_folder(tmp_path / "source")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r'int8 needs the package nncf: pip install "odqa\[import\]"'):
        import_model(tmp_path / "source", name="m", precision="int8", calibration_texts=["a"], environment=environment)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    texts = [*(f"text {number}" for number in range(convert.MIN_TEXTS - 1)), "", "  ", "text 1"]
    with pytest.raises(ModelError, match="at least 20 different texts to calibrate with, not 19"):
        import_model(tmp_path / "source", name="m", precision="int8", calibration_texts=texts, environment=environment)
    assert not (tmp_path / "models").exists()


def test_texts_are_chosen_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    found = convert._calibration([str(number) for number in range(1000)])
    assert len(found) == convert.MOST_TEXTS
    assert found[:3] == ["0", "3", "6"]
    assert found[-1] == "996"
    assert convert._calibration(None) == []


def test_rows_of_readers_are_pairs_and_those_of_encoders_questions_and_passages(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    reader_folder(tmp_path / "reader")
    encoder_folder(tmp_path / "encoder")
    text = "Who sat? the cat sat. " + "on the mat " * 200
    for name, lengths in (("reader", [384, 384, 384, 384]), ("encoder", [7, 384, 384, 7])):
        spec = import_model(tmp_path / name, name=name, environment=environment)
        tokenizer, _ = open_model(spec, environment=environment)
        found = convert._rows(spec, tokenizer, [text] * 4)
        assert [len(row.ids) for row in found] == lengths
        feed = convert._feed(found[0], spec.inputs)
        assert tuple(feed) == spec.inputs
        assert all(array.dtype == np.int32 and array.shape == (1, lengths[0]) for array in feed.values())
        if name == "reader":
            question = tokenizer.encode("Who sat?").ids
            assert found[0].ids[: len(question) + 2] == [IDS["[CLS]"], *question, IDS["[SEP]"]]
            assert list(found[0].token_types) == [0] * (len(question) + 2) + [1] * (382 - len(question))


def test_agreement() -> None:
    rng = np.random.default_rng(0)
    vector, two = rng.normal(size=64).astype(np.float32), rng.normal(size=(2, 9)).astype(np.float32)
    assert convert._agreement(vector, vector * 3, "encode") == pytest.approx(1)
    assert convert._agreement(vector, -vector, "encode") == pytest.approx(-1)
    assert convert._agreement(two, two * 2 + 5, "read") == pytest.approx(1)
    assert convert._agreement(two, rng.normal(size=(2, 9)).astype(np.float32), "read") < 0.8
    assert convert._agreement(two * 0, two, "read") == 0


def test_no_pytorch_is_needed(tmp_path: Path) -> None:
    reader_folder(tmp_path / "source")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['nncf'] = None\n"
        "from pathlib import Path; from odqa.models.convert import import_model\n"
        f"print(import_model(Path({str(tmp_path / 'source')!r}), name='mine').name)"
    )
    environment = {"ODQA_MODELS_DIR": str(tmp_path / "models"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("mine\n", "")
