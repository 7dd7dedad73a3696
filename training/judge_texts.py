"""What the encoder's teachers say of the training texts: their vectors, kept in a folder for `distil_encoder.py`.

Three teachers: the encoder that is bundled now (the dense half of its vectors), all-mpnet-base-v2, twelve layers of 768
(`teacher.py` says where its weights come from; quantised here, its vectors have a cosine of 0.99 with the float ones),
and the untuned base model. The first knows SQuAD best, the others other texts, and the last is asked of those alone.
Every file is written whole or not at all, so an interrupted run goes on with the next one.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from torch import Tensor, nn
from transformers import MPNetModel

import data
import loop
from network import base_bert
from odqa import settings
from odqa.models.opening import open_model
from odqa.models.registry import find
from odqa.models.runtime import Row
from teacher import base, moved, quantized
from train_encoder import PASSAGE_TOKENS, QUESTION_TOKENS
from wiki_texts import Group, groups_of, titles_of

BATCH_TOKENS = 1400
CALIBRATION_ROWS = 120
Rows = Sequence[Sequence[int]]


class MeanOf(nn.Module):
    """The mean over real tokens of a model's last hidden states, at length 1; takes BERT's ids."""

    def __init__(self, model: nn.Module, *, mpnet: bool) -> None:
        """Take a model of the BERT family; `mpnet`: its ids are moved (see `teacher.py`)."""
        super().__init__()
        self.model, self.mpnet = model.eval(), mpnet

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask [batch, tokens] -> float32 [batch, hidden]."""
        ids = moved(input_ids) if self.mpnet else input_ids
        hidden = self.model(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize(((hidden * mask).sum(1) / mask.sum(1)).float(), dim=-1)


def mpnet() -> MPNetModel:
    """Load all-mpnet-base-v2."""
    config, weights = base()
    model = MPNetModel(config, add_pooling_layer=False)
    model.load_state_dict(weights, strict=False)  # the pooler is not wanted
    return model


def untuned() -> nn.Module:
    """Load the base model, with the attention that converts."""
    model = base_bert(0.0)
    model.set_attn_implementation("eager")
    return model


def embedder(model: ov.Model) -> Callable[[Rows], np.ndarray]:
    """Return what gives the vectors of rows of ids, two batches at a time: float32 [rows, width], in their order."""
    options = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = ov.Core().compile_model(model, "CPU", options)
    width = compiled.outputs[0].partial_shape[1].get_length()

    def vectors(rows: Rows) -> np.ndarray:
        found = np.zeros((len(rows), width), np.float32)
        order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
        queue = ov.AsyncInferQueue(compiled, 2)

        def take(request: ov.InferRequest, members: list[int]) -> None:
            found[members] = request.get_output_tensor(0).data

        queue.set_callback(take)
        at = 0
        while at < len(order):
            members = order[at : at + max(1, BATCH_TOKENS // len(rows[order[at]]))]
            ids = loop.pad([rows[number] for number in members]).numpy()
            queue.start_async({0: ids, 1: (ids != 0).astype(np.int64)}, members)
            at += len(members)
        queue.wait_all()
        return found

    return vectors


def bundled_embedder() -> Callable[[Rows], np.ndarray]:
    """Return what gives the dense halves of the bundled encoder's vectors, at length 1."""
    _, network = open_model(find(settings.DEFAULT_ENCODER))

    def vectors(rows: Rows) -> np.ndarray:
        found = network.vectors([Row(row, [1] * len(row)) for row in rows])  # types of 1 leave the words out
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return vectors


def squad_rows(corpus: data.Corpus) -> tuple[list[list[int]], list[list[int]]]:
    """Return paragraphs and questions as rows of ids."""
    tokenizer = loop.plain_tokenizer()
    paragraphs, questions = (
        [[loop.CLS, *found.ids[: limit - 2], loop.SEP] for found in tokenizer.encode_batch(texts)]
        for texts, limit in (
            (corpus.paragraphs, PASSAGE_TOKENS),
            ([q.text for q in corpus.questions], QUESTION_TOKENS),
        )
    )
    return paragraphs, questions


def wiki_groups(options: argparse.Namespace) -> list[Group]:
    """Return the windows that the options ask for, but none of the articles of the training file and `--without`."""
    without = titles_of(options.squad) | (titles_of(options.without) if options.without else set())
    return groups_of(options.wiki, count=options.articles, without=without, seed=options.seed)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides which texts there are."""
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, .json or .json.gz")
    parser.add_argument("--wiki", type=Path, required=True, help="folder of .jsonl.gz files of {title, text}")
    parser.add_argument("--without", type=Path, help="SQuAD file whose articles are not to be seen")
    parser.add_argument("--articles", type=int, default=2000, help="articles that windows are taken of")
    parser.add_argument("--limit-articles", type=int, help="use only the first SQuAD articles, to try the recipe")
    parser.add_argument("--seed", type=int, default=17)


def main() -> None:
    """Write the vectors of all teachers."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the vectors")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    paragraphs, questions = squad_rows(corpus)
    groups = wiki_groups(options)
    texts = {
        "paragraphs": paragraphs,
        "questions": questions,
        "windows": [row for group in groups for row in group.windows],
        "sentences": [row for group in groups for row in group.sentences],
    }
    some = random.Random(options.seed).sample(paragraphs, min(len(paragraphs), CALIBRATION_ROWS * 2 // 3))
    some += random.Random(options.seed).sample(questions, min(len(questions), CALIBRATION_ROWS // 3))
    makers: dict[str, Callable[[], Callable[[Rows], np.ndarray]]] = {
        "bundled": bundled_embedder,
        "mpnet": lambda: embedder(quantized(MeanOf(mpnet(), mpnet=True), some)),
        "base": lambda: embedder(quantized(MeanOf(untuned(), mpnet=False), some)),
    }
    for teacher, make in makers.items():
        judged = texts if teacher != "base" else ("windows", "sentences")
        left = [name for name in judged if not (options.out / f"{name}-{teacher}.npy").exists()]
        vectors = make() if left else None
        for name in left:
            began, rows = time.monotonic(), texts[name]
            beside = options.out / "unfinished.npy"
            np.save(beside, vectors(rows).astype(np.float16))
            beside.replace(options.out / f"{name}-{teacher}.npy")
            speed = sum(map(len, rows)) / (time.monotonic() - began)
            print(f"{name}: {len(rows)} vectors by {teacher}, {speed:.0f} tokens a second", flush=True)


if __name__ == "__main__":
    main()
