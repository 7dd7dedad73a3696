from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bert_cases
import numpy as np
import pytest
from bert_cases import dense, modules, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odqa.errors import ModelError
from odqa.models.huggingface.folder import read_folder
from odqa.models.huggingface.graph import Dense, Normalise, SpanHead, VectorHead

SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 4, "max_position_embeddings": 6}


def reader(folder: Path, **changes: object) -> Path:
    config = bert_cases.config(**SMALL | changes)
    return bert_cases.write_folder(folder, config, bert_cases.tensors(config))


def encoder(folder: Path, **changes: object) -> Path:
    config = bert_cases.config(**{"architectures": ["BertModel"]} | SMALL | changes)
    return bert_cases.write_folder(folder, config, bert_cases.tensors(config, prefix="", head=False))


# ---- what it is for ------------------------------------------------------------------------------------------------


def test_readers_and_encoders_are_told_apart(tmp_path: Path) -> None:
    found = read_folder(reader(tmp_path / "reader"))
    assert found.task == "read"
    assert isinstance(found.head, SpanHead)
    found = read_folder(encoder(tmp_path / "encoder"))
    assert (found.task, found.head) == ("encode", VectorHead("mean", ()))
    for task, name in (("read", "reader"), ("encode", "encoder")):
        assert read_folder(tmp_path / name, task=task).task == task


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["RobertaForQuestionAnswering"], "model_type": "roberta"},
         "config.json has RobertaForQuestionAnswering of the type roberta; only BERT for question answering"),
        ({"architectures": ["DistilBertForQuestionAnswering"], "model_type": None}, "DistilBertForQuestionAnswering"),
        ({"architectures": ["DistilBertModel"], "model_type": "distilbert"}, "DistilBertModel of the type distilbert"),
        ({"architectures": ["BertGenerationEncoder"], "model_type": "bert-generation"}, "bert-generation"),
        ({"architectures": None, "model_type": "t5"}, "no architecture of the type t5"),
        ({"architectures": [], "model_type": None}, "names neither model_type nor architectures"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM; only .* with the task 'encode'"),
        ({"architectures": ["BertModel"]}, "says BertModel, but the weights have a question-answering head"),
        ({"num_attention_heads": 3}, "num_attention_heads 3"),
        ({"type_vocab_size": 1}, "type_vocab_size 1; a reader needs 2"),
        ({"vocab_size": 4}, "pieces, more than the 4 of config.json"),
        ({"num_hidden_layers": 3}, r"the weights lack encoder\.layer\.2\."),
    ],
)  # fmt: skip
def test_what_cannot_be_imported(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    reader(tmp_path)
    write(tmp_path / "config.json", bert_cases.config(**SMALL | changes))
    with pytest.raises(ModelError, match=reason) as caught:
        read_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_folder_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reader(Path("rob"), architectures=["RobertaModel"], model_type="roberta")
    with pytest.raises(ModelError, match=r"^rob: config\.json has RobertaModel"):
        read_folder(Path("rob"))
    Path("rob/config.json").unlink()
    with pytest.raises(ModelError, match=r"^rob has no config\.json, but model\.safetensors, vocab\.txt; give the"):
        read_folder(Path("rob"))
    Path("rob/config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"^rob.config\.json cannot be read"):
        read_folder(Path("rob"))


def test_the_wrong_task(tmp_path: Path) -> None:
    reader(tmp_path / "reader")
    encoder(tmp_path / "encoder")
    with pytest.raises(ModelError, match="BertForQuestionAnswering, which is for the task 'read', not 'encode'"):
        read_folder(tmp_path / "reader", task="encode")
    with pytest.raises(ModelError, match="BertModel, which is for the task 'encode', not 'read'"):
        read_folder(tmp_path / "encoder", task="read")


def test_a_question_answering_head_that_is_missing_or_another(tmp_path: Path) -> None:
    config = bert_cases.config(**SMALL)
    tensors = bert_cases.tensors(config)
    bert_cases.write_folder(tmp_path, config, {k: v for k, v in tensors.items() if "qa_outputs" not in k})
    with pytest.raises(ModelError, match=r"the weights lack qa_outputs\.weight"):
        read_folder(tmp_path)
    bert_cases.write_folder(tmp_path, config, tensors | {"qa_outputs.weight": np.zeros((3, 8), np.float32)})
    with pytest.raises(ModelError, match=r"qa_outputs\.weight has the shape \[3, 8\] instead of \[2, 8\]"):
        read_folder(tmp_path)


def test_where_config_does_not_say_the_weights_do(tmp_path: Path) -> None:
    assert read_folder(reader(tmp_path / "reader", architectures=None)).task == "read"
    assert read_folder(encoder(tmp_path / "encoder", architectures=None)).task == "encode"
    assert read_folder(reader(tmp_path / "typed", model_type=None)).task == "read"
    assert read_folder(reader(tmp_path / "body", architectures=["BertForMaskedLM"]), task="encode").task == "encode"


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(ModelError, match=r"has no config\.json, but no files; give the folder"):
        read_folder(tmp_path)


def test_the_licence_is_that_of_the_readme(tmp_path: Path) -> None:
    reader(tmp_path)
    assert read_folder(tmp_path).licence == ""
    for text, wanted in (("---\nlanguage: en\nlicense: apache-2.0\n---\n", "apache-2.0"), ("license: mit\n", "")):
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        assert read_folder(tmp_path).licence == wanted
    (tmp_path / "README.md").write_bytes(b"\xff")
    assert read_folder(tmp_path).licence == ""


# ---- sentence-transformers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 8, "include_prompt": True}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_poolings(pooling: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    modules(encoder(tmp_path), pooling=pooling)
    assert read_folder(tmp_path).head == VectorHead(wanted, ())  # type: ignore[arg-type]
    (tmp_path / "modules.json").unlink()  # the folder 1_Pooling alone says as much
    assert read_folder(tmp_path).head == VectorHead(wanted, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pooling", "reason"),
    [
        ({"pooling_mode_max_tokens": True}, "the pooling pooling_mode_max_tokens"),
        ({"pooling_mode": "lasttoken"}, "the pooling lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "tokens, pooling_mode_cls_token"),
        ({"pooling_mode_mean_tokens": False}, "the pooling of none"),
        ({"pooling_mode": "mean", "word_embedding_dimension": 9}, "vectors of 9 numbers, the network has 8"),
    ],
)
def test_poolings_that_are_not_supported(pooling: dict[str, Any], reason: str, tmp_path: Path) -> None:
    modules(encoder(tmp_path), pooling=pooling)
    with pytest.raises(ModelError, match=reason):
        read_folder(tmp_path)


def test_steps_behind_the_pooling(tmp_path: Path) -> None:
    modules(encoder(tmp_path), "Dense", "Dropout", "Dense", "Normalize")
    first = dense(tmp_path / "2_Dense", 5, activation_function="torch.nn.modules.linear.Identity", bias=False)
    second = dense(tmp_path / "4_Dense", 3, 5)
    head = read_folder(tmp_path).head
    assert isinstance(head, VectorHead)
    one, two, three = head.steps
    assert isinstance(one, Dense)
    assert isinstance(two, Dense)
    assert (one.activation, two.activation, three) == ("identity", "tanh", Normalise())
    np.testing.assert_array_equal(one.linear.weight, first["linear.weight"])
    np.testing.assert_array_equal(one.linear.bias, np.zeros(5))
    np.testing.assert_array_equal(two.linear.bias, second["linear.bias"])


def test_steps_that_are_not_supported(tmp_path: Path) -> None:
    modules(encoder(tmp_path), "LSTM")
    with pytest.raises(ModelError, match="a step LSTM; supported are"):
        read_folder(tmp_path)
    modules(tmp_path, "Dense")
    dense(tmp_path / "2_Dense", 5, 7)
    with pytest.raises(ModelError, match="takes 7 numbers and gives 5; it is given 8"):
        read_folder(tmp_path)
    dense(tmp_path / "2_Dense", 5, activation_function="torch.nn.modules.activation.Mish")
    with pytest.raises(ModelError, match="the activation 'mish'"):
        read_folder(tmp_path)
    for wrong in ({}, [], [1], [{"type": 1, "path": ""}], [{"type": "a.Transformer", "path": "../x"}]):
        write(tmp_path / "modules.json", wrong)
        with pytest.raises(ModelError, match=r"modules\.json"):
            read_folder(tmp_path)


def test_a_network_in_a_sub_folder(tmp_path: Path) -> None:
    encoder(tmp_path / "0_Transformer")
    modules(tmp_path)
    listed = json.loads((tmp_path / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    write(tmp_path / "modules.json", listed)
    assert read_folder(tmp_path).task == "encode"


def test_the_body_of_any_bert_in_a_folder_of_sentence_transformers(tmp_path: Path) -> None:
    modules(reader(tmp_path, architectures=["BertForMaskedLM"]))
    assert read_folder(tmp_path).task == "encode"


def test_prompts_are_found(tmp_path: Path) -> None:
    encoder(tmp_path)
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "q: ", "document": "", "other": "q: "}})
    assert read_folder(tmp_path).prompts == ("q: ",)
    write(tmp_path / "config_sentence_transformers.json", {"prompts": None})
    assert read_folder(tmp_path).prompts == ()


# ---- damage --------------------------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(["config.json", "vocab.txt", "model.safetensors", "modules.json", "1_Pooling/config.json"]),
    places=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3),
    cut=st.none() | st.integers(0, 2000),
)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_an_error_or_harmless(
    name: str, places: list[tuple[int, int]], cut: int | None, tmp_path: Path
) -> None:
    modules(encoder(tmp_path))
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    for at, value in places:
        data[at % len(data)] = value
    path.write_bytes(data[:cut])
    try:
        read_folder(tmp_path)
    except ModelError as error:
        assert str(tmp_path) in str(error)
