"""BERT in PyTorch, plain functions on tensors: the independent measure for networks of full size.

Nothing of odqa, OpenVINO or transformers in it. One row at a time and without padding, so there is no mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as f
from architectures import Architecture, Weights
from numpy.typing import NDArray
from quantisation import Ranges

LEVELS = 256


class TorchBert:
    """The forward pass; with `ranges`, what goes into matrix products is rounded to 256 levels first."""

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        ranges: Ranges | None = None,
        kind: torch.dtype = torch.float32,
    ) -> None:
        self.architecture, self.ranges = architecture, ranges or {}
        self.weights = {name: torch.from_numpy(values).to(kind) for name, values in weights.items()}

    def rounded(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Round to the nearest of 256 levels between the bounds of `name`, halves to even levels."""
        if name not in self.ranges:
            return x
        low, high = self.ranges[name]
        step = (high - low) / (LEVELS - 1)
        return torch.round((x.clamp(low, high) - low) / step) * step + low

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return f.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return f.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps=1e-12)

    def hidden(self, ids: Sequence[int], types: Sequence[int]) -> torch.Tensor:
        """Return [tokens, hidden], the last layer's output."""
        found = {"word": ids, "position": range(len(ids)), "token_type": types}
        x = torch.stack(
            [
                f.embedding(torch.tensor(list(at)), self.weights[f"bert.embeddings.{n}_embeddings.weight"])
                for n, at in found.items()
            ]
        ).sum(dim=0)
        x = self.norm(x, "bert.embeddings.LayerNorm")
        if self.architecture.embedding_width:
            x = self.linear(self.rounded("in", x), "bert.encoder.embedding_hidden_mapping_in")
        for layer in range(self.architecture.layers):
            x = self._layer(x, layer)
        return x

    def _layer(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        prefix, tokens, width = f"bert.encoder.layer.{layer}", len(x), self.architecture.head_width
        seen = self.rounded(f"{layer}.x", x)
        query, key, value = (
            self.rounded(f"{layer}.{name}", self.linear(seen, f"{prefix}.attention.self.{name}"))
            .view(tokens, -1, width)
            .transpose(0, 1)
            for name in ("query", "key", "value")
        )
        shares = self.rounded(f"{layer}.shares", f.softmax(query @ key.transpose(1, 2) / width**0.5, dim=-1))
        context = self.rounded(f"{layer}.context", (shares @ value).transpose(0, 1).reshape(tokens, -1))
        x = self.norm(
            x + self.linear(context, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm"
        )
        inner = f.gelu(self.linear(self.rounded(f"{layer}.middle", x), f"{prefix}.intermediate.dense"))
        outer = self.linear(self.rounded(f"{layer}.inner", inner), f"{prefix}.output.dense")
        return self.norm(x + outer, f"{prefix}.output.LayerNorm")

    @torch.inference_mode()
    def vector(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return an encoder's vector, float32 [vector_width]: a linear layer over the mean of the tokens."""
        mean = self.hidden(ids, [0] * len(ids)).mean(dim=0)
        return self.linear(self.rounded("head", mean), "embedding").float().numpy()

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], types: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a reader's start and end logits, float32 [tokens] each."""
        x = self.hidden(ids, types)
        if self.architecture.embedding_width:
            x = self.linear(self.rounded("out", x), "bert.encoder.embedding_hidden_mapping_out")
        start, end = self.linear(self.rounded("head", x), "qa_outputs").float().unbind(dim=-1)
        return start.numpy(), end.numpy()
