"""Does a network with removed heads and zero weights run faster than the dense one?

    python benchmarks/pruned.py            BERT-base, some minutes and 5 GB of memory
    python benchmarks/pruned.py --quick    a narrow network, to see that it works

Networks of BERT-base's shape with weights drawn by chance, built as `odqa models import` builds them, read one window
of 384 tokens in turn. The heads removed are 80 of 144, as in the published block-sparse reader. What is zero is either
left as it is or dropped; blocks of zeros inside rows that are needed cannot be dropped, and must not cost more either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import fresh_folder, in_turn, run, say, times_as_fast
from figures import Measured, Spread, figure
from odqa.models.huggingface import graph
from odqa.models.huggingface.bert import TensorSource, bert_config, read_bert
from odqa.models.huggingface.graph import SpanHead
from odqa.models.huggingface.sparsity import without_zeros
from odqa.models.runtime import Network, Row

VOCABULARY, TOKENS, HEAD, BLOCK = 1000, 384, 64, 32
REMOVED_SHARE = 80 / 144
DENSITY = 0.32  # of the blocks of a block-sparse network

Tensors = dict[str, NDArray[np.float32]]
DENSE = "dense"


def config(*, quick: bool, removed: dict[int, list[int]]) -> dict[str, object]:
    """Return the config.json of a network."""
    hidden = 256 if quick else 768
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "num_hidden_layers": 2 if quick else 12,
        "num_attention_heads": hidden // HEAD,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": TOKENS,
        "type_vocab_size": 2,
        "pruned_heads": {str(layer): heads for layer, heads in removed.items()},
    }


def removed_heads(*, quick: bool) -> dict[int, list[int]]:
    """Choose the heads to remove by chance, always the same ones."""
    layers, heads = (2, 4) if quick else (12, 12)
    chosen = np.random.default_rng(4).permutation(layers * heads)[: round(layers * heads * REMOVED_SHARE)]
    return {layer: sorted(int(one % heads) for one in chosen if one // heads == layer) for layer in range(layers)}


def tensors(given: dict[str, object]) -> Tensors:
    """Draw the weights of a network without removed heads."""
    rng = np.random.default_rng(0)
    hidden, inner = int(str(given["hidden_size"])), int(str(given["intermediate_size"]))
    found: Tensors = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"] = rng.normal(scale=inputs**-0.5, size=(outputs, inputs)).astype(np.float32)
        found[f"{name}.bias"] = rng.normal(scale=0.1, size=outputs).astype(np.float32)

    def norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = np.ones(hidden, np.float32), np.zeros(hidden, np.float32)

    for name, rows in (("word", VOCABULARY), ("position", TOKENS), ("token_type", 2)):
        table = rng.normal(scale=0.1, size=(rows, hidden)).astype(np.float32)
        found[f"embeddings.{name}_embeddings.weight"] = table
    norm("embeddings.LayerNorm")
    for layer in range(int(str(given["num_hidden_layers"]))):
        at = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}.attention.{part}", hidden, hidden)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", inner, hidden)
        linear(f"{at}.output.dense", hidden, inner)
        norm(f"{at}.output.LayerNorm")
    linear("qa_outputs", 2, hidden)
    return found


# ---- what is taken out of the dense weights ------------------------------------------------------------------------


def _columns(heads: list[int]) -> list[int]:
    return [head * HEAD + column for head in heads for column in range(HEAD)]


def without_heads(weights: Tensors, removed: dict[int, list[int]]) -> Tensors:
    """Cut heads out of the matrices."""
    found = dict(weights)
    for layer, heads in removed.items():
        at = f"encoder.layer.{layer}.attention"
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                name = f"{at}.self.{part}.{kind}"
                found[name] = np.delete(weights[name], _columns(heads), axis=0)
        found[f"{at}.output.dense.weight"] = np.delete(weights[f"{at}.output.dense.weight"], _columns(heads), axis=1)
    return found


def heads_as_zeros(weights: Tensors, removed: dict[int, list[int]]) -> Tensors:
    """Set the weights of heads to zero and leave the matrices as large as they are."""
    found = dict(weights)
    for layer, heads in removed.items():
        name = f"encoder.layer.{layer}.attention.output.dense.weight"
        found[name] = weights[name].copy()
        found[name][:, _columns(heads)] = 0
    return found


def neurons_as_zeros(weights: Tensors) -> Tensors:
    """Set two thirds of the neurons to zero."""
    found = dict(weights)
    for name in [name for name in weights if name.endswith(".intermediate.dense.weight")]:
        found[name] = weights[name].copy()
        found[name][len(found[name]) // 3 :] = 0
    return found


def blocks_as_zeros(weights: Tensors) -> Tensors:
    """Set blocks of all large matrices to zero by chance."""
    rng = np.random.default_rng(1)
    found = dict(weights)
    for name, weight in weights.items():
        if name.startswith("encoder.") and weight.ndim == 2:
            rows, columns = (size // BLOCK for size in weight.shape)
            found[name] = weight * np.kron(rng.random((rows, columns)) < DENSITY, np.ones((BLOCK, BLOCK), np.float32))
    return found


# ---- measuring -----------------------------------------------------------------------------------------------------


def network(folder: Path, given: dict[str, object], weights: Tensors, *, drop: bool) -> Network:
    """Build a network and load it as odqa does."""
    source = TensorSource(weights)
    bert = read_bert(source, bert_config(given))
    head = SpanHead(source.linear("qa_outputs", 2, bert.hidden_size))
    path = folder / "network.xml"
    graph.save(graph.build(without_zeros(bert) if drop else bert, head), path, halves=False)
    return Network(
        path, path.with_suffix(".bin"), inputs=graph.READER_INPUTS, outputs=graph.READER_OUTPUTS, per_token=True
    )


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Time all networks in turn."""
    removed = removed_heads(quick=options.quick)
    plain = config(quick=options.quick, removed={})
    dense = tensors(plain)
    cases: dict[str, tuple[dict[str, object], Tensors, bool]] = {
        DENSE: (plain, dense, True),
        "heads removed": (config(quick=options.quick, removed=removed), without_heads(dense, removed), True),
        "heads of zeros, left": (plain, heads_as_zeros(dense, removed), False),
        "heads of zeros, dropped": (plain, heads_as_zeros(dense, removed), True),
        "two thirds of the neurons zero, left": (plain, neurons_as_zeros(dense), False),
        "two thirds of the neurons zero, dropped": (plain, neurons_as_zeros(dense), True),
        "blocks of zeros": (plain, blocks_as_zeros(dense), True),
    }
    rows = [Row(np.random.default_rng(2).integers(1, VOCABULARY, TOKENS).tolist())]
    ways: dict[str, Callable[[], object]] = {}
    with fresh_folder(work) as folder:
        for name, (given, weights, drop) in cases.items():
            say(f"building: {name}")
            (folder / str(len(ways))).mkdir()
            built = network(folder / str(len(ways)), given, weights, drop=drop)
            ways[name] = partial(built.logits, rows)
        seconds = in_turn(ways, rounds=4 * options.rounds, warm=2)
        ways.clear()
    heads = sum(map(len, removed.values()))
    measured = Measured(settings={"rounds": 4 * options.rounds, "tokens": TOKENS, "removed_heads": heads, **plain})
    rows_of_table = []
    for name, values in seconds.items():
        time, times = Spread.of(values) * 1000, times_as_fast(values, seconds[DENSE])
        measured.figures.append(figure(f"{name}: a window of {TOKENS} tokens", time, "ms"))
        if name != DENSE:
            measured.figures.append(figure(f"{name}: times as fast as dense", times, "x"))
        rows_of_table.append({"network": name, "ms": time.median, "times": asdict(times)})
    measured.curves["networks"] = rows_of_table
    return measured


if __name__ == "__main__":
    run(__file__, __doc__ or "", measure)
