from __future__ import annotations

from typing import Any

import bert_cases
import numpy as np
import pytest

from odqa.errors import ModelError
from odqa.models.huggingface.bert import ACTIVATIONS, Bert, TensorSource, activate, bert_config, read_bert


def read(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Bert:
    return read_bert(TensorSource(tensors), bert_config(config))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": None}, "hidden_size None: it must be a whole number"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"hidden_size": 48.0}, "hidden_size 48.0"),
        ({"num_hidden_layers": True}, "num_hidden_layers True"),
        ({"vocab_size": "9"}, "vocab_size '9'"),
        ({"num_attention_heads": 5}, "num_attention_heads 5: hidden_size 48 cannot be divided"),
        ({"layer_norm_eps": 0}, "layer_norm_eps 0"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
        ({"hidden_act": "mish"}, "hidden_act 'mish': supported are gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"layer_norm_type": "no_norm"}, "layer_norm_type 'no_norm'"),
        ({"pruned_heads": [1]}, "pruned_heads"),
        ({"pruned_heads": {"2": [0]}}, "pruned_heads .* heads below 3 for layers below 2"),
        ({"pruned_heads": {"0": [3]}}, "pruned_heads"),
        ({"pruned_heads": {"0": [True]}}, "pruned_heads"),
        ({"pruned_heads": {"0": 1}}, "pruned_heads"),
        ({"pruned_heads": {"x": [1]}}, "pruned_heads"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=f"config.json has {reason}"):
        bert_config(bert_cases.config(**changes))


def test_settings_that_may_be_missing() -> None:
    given = bert_cases.config()
    del given["layer_norm_eps"], given["hidden_act"]
    found = bert_config({**given, "pruned_heads": None, "position_embedding_type": None})
    assert (found.epsilon, found.activation, found.pruned_heads) == (1e-12, "gelu", {})


def test_heads_are_counted_by_the_weights_and_by_config() -> None:
    config = bert_cases.config(pruned_heads={"0": [0, 2], "1": [0, 1, 2]})
    tensors = bert_cases.tensors(config)
    bert = read(config, tensors)
    assert [layer.heads for layer in bert.layers] == [1, 0]
    assert [layer.query.weight.shape for layer in bert.layers] == [(16, 48), (0, 48)]
    with pytest.raises(ModelError, match=r"layer 0 has 1 heads in its weights where config.json leaves 3 of 3"):
        read(config | {"pruned_heads": {}}, tensors)
    with pytest.raises(ModelError, match=r"layer 1 has 0 heads in its weights where config.json leaves 2 of 3"):
        read(config | {"pruned_heads": {"0": [0, 2], "1": [1]}}, tensors)
    # All heads are gone, and their weights of no rows may be gone with them.
    without = {name: tensor for name, tensor in tensors.items() if tensor.size or "self" not in name}
    assert read(config, without).layers[1].heads == 0


def test_neurons_may_differ_from_layer_to_layer_but_not_be_more_than_config_says() -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config)
    smaller = bert_cases.tensors(config | {"intermediate_size": 7})
    for part in ("intermediate.dense.weight", "intermediate.dense.bias", "output.dense.weight"):
        tensors[f"bert.encoder.layer.1.{part}"] = smaller[f"bert.encoder.layer.1.{part}"]
    assert [layer.widen.weight.shape for layer in read(config, tensors).layers] == [(80, 48), (7, 48)]
    with pytest.raises(ModelError, match=r"layer 0 has 80 neurons, more than the 79 of config.json"):
        read(config | {"intermediate_size": 79}, tensors)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_names_of_all_forms(prefix: str) -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config, prefix=prefix, head=bool(prefix))
    wanted = list(read(config, tensors).arrays())
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in tensors.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in old.items()}
    assert any("gamma" in name for name in old)
    for found, array in zip(read(config, old).arrays(), wanted, strict=True):
        np.testing.assert_array_equal(found, array)
    assert sum(array.size for array in wanted) == sum(t.size for n, t in tensors.items() if "qa_outputs" not in n)


def test_every_tensor_is_needed_and_checked() -> None:
    config = bert_cases.config(num_hidden_layers=1)
    tensors = bert_cases.tensors(config)
    del tensors["qa_outputs.weight"], tensors["qa_outputs.bias"]
    for name, tensor in tensors.items():
        own = name.removeprefix("bert.")
        with pytest.raises(ModelError, match=f"lack {own}|leaves"):
            read(config, {n: t for n, t in tensors.items() if n != name})
        with pytest.raises(ModelError, match=f"{own} has the shape|neurons|heads"):
            read(config, tensors | {name: np.concatenate([tensor, tensor])})
        with pytest.raises(ModelError, match=f"{own} has the shape|heads"):
            read(config, tensors | {name: np.float32(1)})
        for wrong in (np.full(tensor.shape, np.nan, np.float32), np.zeros(tensor.shape, np.int64)):
            with pytest.raises(ModelError, match=f"{own} holds numbers that are no finite"):
                read(config, tensors | {name: wrong})


def test_layers_too_many_and_too_few() -> None:
    config = bert_cases.config()
    tensors = bert_cases.tensors(config)
    with pytest.raises(ModelError, match=r"the weights have 2 layers where config\.json has 1"):
        read(config | {"num_hidden_layers": 1}, tensors)
    with pytest.raises(ModelError, match=r"lack encoder\.layer\.2\."):
        read(config | {"num_hidden_layers": 10**9}, tensors)
    with pytest.raises(ModelError, match=r"lack embeddings.word_embeddings.weight \(they have nothing"):
        read(config, {})


def test_activations_are_those_of_the_reference() -> None:
    values = np.linspace(-6, 6, 41, dtype=np.float32)
    for name, function in bert_cases._ACTIVATIONS.items():
        np.testing.assert_allclose(activate(ACTIVATIONS[name], values), function(values.astype(float)), atol=1e-12)
    assert set(ACTIVATIONS.values()) == {ACTIVATIONS[name] for name in bert_cases._ACTIVATIONS}
    assert activate("silu", np.float32([-1e9])).tolist() == [0.0]
