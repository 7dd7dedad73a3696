"""The bundled networks in float32 through PyTorch: the weights that int8 stands for, in the layers of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from weights import BertWeights

BATCH_ROWS = 32  # what sentence-transformers takes by default


class TorchBert:
    """BERT with the head of an encoder or a reader; attention is PyTorch's own fused one."""

    def __init__(self, weights: BertWeights) -> None:
        """Load the weights, as they were before smoothing."""
        tables = {name.split(".")[1].removesuffix("_embeddings"): table for name, table in weights.tables.items()}
        config = BertConfig(
            vocab_size=len(tables["word"]),
            hidden_size=weights.hidden,
            num_hidden_layers=weights.layers,
            num_attention_heads=weights.heads,
            intermediate_size=len(weights.linear["encoder.layer.0.intermediate.dense"].scale),
            max_position_embeddings=len(tables["position"]),
            type_vocab_size=len(tables["token_type"]),
            layer_norm_eps=weights.epsilon,
            attn_implementation="sdpa",
        )
        self._bert = BertModel(config, add_pooling_layer=False).eval()
        state = {f"{name}.weight": torch.from_numpy(table) for name, table in weights.tables.items()}
        for name, one in weights.linear.items():
            state[f"{name}.weight"] = torch.from_numpy(one.weight)
            if one.bias is not None:
                state[f"{name}.bias"] = torch.from_numpy(one.bias)
        for name, (weight, bias) in weights.norms.items():
            state[f"{name}.weight"], state[f"{name}.bias"] = torch.from_numpy(weight), torch.from_numpy(bias)
        self._head = state.pop("head.weight"), state.pop("head.bias", None)
        self._bert.load_state_dict(state)

    def _hidden(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        shape = len(rows), max(len(row) for row in rows)
        ids, kinds, mask = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
            if types:
                kinds[place, : len(row)] = torch.tensor(types[place])
        found = self._bert(input_ids=ids, attention_mask=mask, token_type_ids=kinds).last_hidden_state
        return found, mask

    @torch.inference_mode()
    def vectors(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Encode as sentence-transformers does: rows sorted by length, 32 at a time, padded to the longest.

        Rows of ids with [CLS] and [SEP] -> float32 [len(rows), width], in the order of the rows.
        """
        order = sorted(range(len(rows)), key=lambda member: -len(rows[member]))
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        for at in range(0, len(order), BATCH_ROWS):
            members = order[at : at + BATCH_ROWS]
            hidden, mask = self._hidden([rows[member] for member in members], ())
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1)
            values = torch.nn.functional.normalize(torch.nn.functional.linear(mean, *self._head), dim=-1)
            for member, value in zip(members, values.numpy(), strict=True):
                found[member] = value
        return np.stack(found)

    @torch.inference_mode()
    def logits(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Read all windows in one batch: start and end logits of each, float32 [tokens]."""
        hidden, _ = self._hidden(rows, types)
        both = torch.nn.functional.linear(hidden, *self._head).numpy()
        return [(both[at, : len(row), 0], both[at, : len(row), 1]) for at, row in enumerate(rows)]
