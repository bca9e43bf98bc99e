"""Faster forms of two layers that every encoder has: dropout on CPUs, and attention.

They compute what the originals compute; dropout draws other random numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = "finetune_search"  # the name that transformers knows our attention by
# Models whose attention is nothing but the softmax of scaled products: no position bias, no fewer key than query heads,
# no cap, no cast of their own. The tests compare each with its own.
PLAIN_ATTENTION = (
    "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm-roberta",
)  # fmt: skip
LEVELS = 1 << 16  # dropout decides on 16 random bits an element


class _Dropout(torch.autograd.Function):
    """Dropout that draws 16 bits an element where torch's CPU kernel draws a float: a third of its time.

    The rate is rounded to 1/65536, the scale is that of the rounded rate.
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
    """nn.Dropout by the function above."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` with zeros in it while training, else as it is."""
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
    """Scaled dot-product attention as transformers calls it.

    query, key, value: [rows, heads, tokens, width]; attention_mask: added to the scores, or None
    Returns [rows, tokens, heads, width].
    """
    rate = dropout if module.training else 0.0
    if query.is_cuda:
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=rate, scale=scaling
        )
        return output.transpose(1, 2).contiguous(), None
    # At these lengths eager products are 10 % faster on CPUs than SDPA, whose fused kernel knows no dropout.
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = functional.softmax(scores, dim=-1)
    if torch.is_autocast_enabled("cpu"):
        shares = shares.to(torch.get_autocast_dtype("cpu"))  # as the product below would: dropout then moves half
    if rate > 0:
        shares = _drop(shares, rate)
    return torch.matmul(shares, value).transpose(1, 2).contiguous(), None


_drop = dropout  # `attention` has an argument of that name


def install(module: nn.Module) -> None:
    """Replace every nn.Dropout in `module`, in place."""
    for child in module.modules():
        if type(child) is nn.Dropout:
            child.__class__ = Dropout


def attention_for(model_type: str) -> str:
    """The name of the attention for a model of that type: ours, or the eager one of its own."""
    _register()
    return ATTENTION if model_type in PLAIN_ATTENTION else "eager"


def _register() -> None:
    """Tell transformers of `attention`, and of the masks that it and eager attentions take.

    The mask is built always: asking the device in every step whether anything is padded would make the host wait.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    def always_built(*arguments: Any, **options: Any) -> Any:
        return eager_mask(*arguments, **{**options, "allow_is_bidirectional_skip": False})

    AttentionInterface.register(ATTENTION, attention)
    for name in (ATTENTION, "eager"):
        AttentionMaskInterface.register(name, always_built)
