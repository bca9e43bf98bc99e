"""Faster forms of two layers that every encoder has: dropout on CPUs, and attention.

They compute what the originals compute, except that dropout draws other random numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = "finetune_search"  # our attention's name in transformers
# Models whose attention is the plain softmax of scaled products: they have no position bias, as many key heads as query
# heads, no cap on scores and no cast of their own. The tests compare our attention with each model's own.
PLAIN_ATTENTION = (
    "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm-roberta",
)  # fmt: skip
LONG_TOKENS = 1024  # from this length on the products take too much memory: 50 MiB a row and layer of BERT-base
LEVELS = 1 << 16  # dropout decides by 16 random bits for each element


class _Dropout(torch.autograd.Function):
    """Dropout that draws 16 random bits for each element. It takes a third of the time of torch's, which draws floats.

    The rate is rounded to a multiple of 1/65536, and the elements that stay are scaled by the rounded rate.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped_levels: int) -> Tensor:
        count = x.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
        levels = bits.view(torch.int16)[:count].view(x.shape)
        kept = torch.empty_like(x)
        torch.ge(levels, dropped_levels - LEVELS // 2, out=kept)
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - dropped_levels)
        return kept.mul(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0].mul(kept).mul_(ctx.scale), None


def dropout(x: Tensor, rate: float) -> Tensor:
    """Set each element to zero with probability `rate` in [0, 1), and scale the others by 1 / (1 - rate)."""
    if x.is_cuda:
        return functional.dropout(x, rate)
    dropped_levels = min(round(LEVELS * rate), LEVELS - 1)
    return _Dropout.apply(x, dropped_levels) if dropped_levels else x  # type: ignore[no-untyped-call]


class Dropout(nn.Dropout):
    """nn.Dropout, computed by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout while training; return `x` itself otherwise."""
        return dropout(x, self.p) if self.training and self.p > 0 else x


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, with the signature that transformers expects.

    Args:
        module: The attention layer; only whether it is training matters.
        query: [rows, heads, query tokens, width].
        key: [rows, heads, tokens, width].
        value: [rows, heads, tokens, width].
        attention_mask: Is added to the scores; None adds nothing.
        scaling: Factor on the products; None means 1 / sqrt(width).
        dropout: The rate of dropout on the attention weights while training.
        options: Whatever else transformers passes; it is not used.

    Returns:
        [rows, query tokens, heads, width], and None in place of the attention weights.
    """
    rate = dropout if module.training else 0.0
    # On CPUs, SDPA's fused kernel has no dropout. It is faster forward, and slower forward and backward.
    if query.is_cuda or not torch.is_grad_enabled() or (rate == 0 and key.size(-2) >= LONG_TOKENS):
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=rate, scale=scaling
        )
        return output.transpose(1, 2).contiguous(), None
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.softmax(scores, dim=-1)
    if torch.is_autocast_enabled("cpu"):
        # The product below would cast them anyway; now dropout moves half as many bytes.
        weights = weights.to(torch.get_autocast_dtype("cpu"))
    if rate > 0:
        weights = _drop(weights, rate)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


_drop = dropout  # `attention` has an argument of that name


def install(module: nn.Module) -> None:
    """Let every nn.Dropout in `module` compute as our Dropout does, in place."""
    for child in module.modules():
        if type(child) is nn.Dropout:
            child.__class__ = Dropout


def attention_for(model_type: str) -> str | None:
    """The name of our attention for a model of this type; None where the model keeps its own."""
    if model_type not in PLAIN_ATTENTION:
        return None
    _register()
    return ATTENTION


def _register() -> None:
    """Register `attention` with transformers, and a way to build masks for it. Other attentions stay as they are.

    We always build the mask. By default transformers asks the device in every step whether anything is padded, and the
    host has to wait for the answer.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    def always_built(*arguments: Any, **options: Any) -> Any:
        return eager_mask(*arguments, **{**options, "allow_is_bidirectional_skip": False})

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, always_built)
