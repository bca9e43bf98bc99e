"""Compute only the first token in the last encoder layer, since the classifier reads nothing else of it.

BERT and its relatives classify by the first token of the last layer. The keys and values of that layer need all tokens;
its queries, projections and feed-forward part (five sixths of a layer's work) are needed for the first token alone. The
rest has no gradient, so that leaving it out changes nothing but rounding. It saves 14 % of the matrix products of a
model with 6 layers, and 7 % with 12 layers.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from trainable.model.fast_layers import attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Classifiers that read [:, 0] of the last layer and nothing else of it.
BERT_RELATIVES = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")


def compute_first_token_only(model: PreTrainedModel) -> bool:
    """Change the last layer of a classifier that is known to read the first token alone.

    Returns:
        Whether the classifier is one of those; others stay as they are.
    """
    kind = type(model).__name__.removesuffix("ForSequenceClassification")
    if kind in BERT_RELATIVES and not (model.config.is_decoder or model.config.add_cross_attention):
        layer: nn.Module = model.base_model.encoder.layer[-1]  # type: ignore[union-attr, index, assignment]
        forward = _bert_layer
    elif kind == "DistilBert":
        layer = model.base_model.transformer.layer[-1]  # type: ignore[union-attr, index, assignment]
        forward = _distilbert_layer
    else:
        return False
    layer.forward = MethodType(forward, layer)
    return True


def _bert_layer(layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    part, first = layer.attention.self, hidden_states[:, :1]
    context = _attend_first(part, part.query, part.key, part.value, hidden_states, attention_mask)
    output: Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return output


def _distilbert_layer(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    part, first = layer.attention, hidden_states[:, :1]
    context = _attend_first(part, part.q_lin, part.k_lin, part.v_lin, hidden_states, attention_mask)
    attended = layer.sa_layer_norm(part.out_lin(context) + first)
    output: Tensor = layer.output_layer_norm(layer.ffn(attended) + attended)
    return output


def _attend_first(
    part: Any, query: nn.Module, key: nn.Module, value: nn.Module, hidden_states: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention from the first token to all tokens: [rows, 1, width]."""
    rows = len(hidden_states)

    def heads(tokens: Tensor) -> Tensor:
        return tokens.view(rows, -1, tokens.shape[-1] // part.attention_head_size, part.attention_head_size).transpose(
            1, 2
        )

    context, _ = attention(
        part,
        heads(query(hidden_states[:, :1])),
        heads(key(hidden_states)),
        heads(value(hidden_states)),
        None if mask is None else mask[:, :, :1],
        scaling=part.scaling,
        dropout=part.dropout.p,
    )
    return context.reshape(rows, 1, -1)
