"""Our dropout is dropout, our attention is attention: laws, and transformers' own as the judge."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable import layers
from trainable.first_token import compute_first_token_only
from trainable.layers import ATTENTION, Dropout, attention, dropout, install, register_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_it_drops_the_rate_and_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    count = 400_003  # no multiple of the four elements that one draw serves
    dropped = dropout(torch.ones(count, dtype=dtype), rate)
    sigma = math.sqrt(rate * (1 - rate) / count)
    assert abs(float((dropped == 0).float().mean()) - rate) < 5 * sigma + 1 / layers.LEVELS
    kept = dropped[dropped != 0].float()
    assert (kept == kept[0]).all()
    assert float(kept[0]) == pytest.approx(1 / (1 - rate), rel=4e-3 if dtype == torch.bfloat16 else 2e-4)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8])
def test_neighbours_are_dropped_independently(lag: int) -> None:
    torch.manual_seed(1)
    gone = (dropout(torch.ones(1_000_000), 0.3) == 0).float() - 0.3
    correlation = float((gone[lag:] * gone[:-lag]).mean()) / 0.21
    assert abs(correlation) < 5e-3


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(2)
    x = torch.randn(7, 13, requires_grad=True)
    y = dropout(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)
    assert torch.autograd.gradcheck(
        lambda t: _same_draw(t, 0.4), torch.randn(3, 5, dtype=torch.float64).requires_grad_()
    )


def _same_draw(x: torch.Tensor, rate: float) -> torch.Tensor:
    torch.manual_seed(3)
    return dropout(x, rate)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero() -> None:
    x = torch.randn(50)
    layer = nn.Sequential(nn.Dropout(0.5))
    install(layer)
    assert type(layer[0]) is Dropout
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(dropout(x, 0.0), x)
    layer[0].p = 0.0  # type: ignore[assignment]
    assert torch.equal(layer.train()(x), x)


def test_the_same_seed_drops_the_same() -> None:
    x = torch.randn(1001)
    assert torch.equal(_same_draw(x, 0.3), _same_draw(x, 0.3))
    assert not torch.equal(dropout(x, 0.3), dropout(x, 0.3))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torchs(masked: bool) -> None:
    torch.manual_seed(4)
    query, key, value = (torch.randn(3, 4, 11, 8, requires_grad=True) for _ in range(3))
    mask = torch.zeros(3, 1, 11, 11)
    if masked:
        mask[1, :, :, 7:] = torch.finfo(torch.float32).min
    ours, _ = attention(nn.Module().eval(), query, key, value, mask if masked else None)
    theirs = functional.scaled_dot_product_attention(query, key, value, mask if masked else None).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), (query, key, value)),
        torch.autograd.grad(theirs.square().sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


SIZES: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "electra": {"embedding_size": 16},
    "xlm-roberta": {},
    "camembert": {},
    "mpnet": {},
    "albert": {"embedding_size": 8},
    "deberta-v2": {"pos_att_type": ["c2p", "p2c"], "relative_attention": True},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "modernbert": {"pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2, "local_attention": 4},
}


READ_THE_FIRST_TOKEN = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_encoder_gives_what_transformers_gives(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(architecture, **SIZES | ARCHITECTURES[architecture])
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(tmp_path)
    register_attention()
    ours = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation=ATTENTION).eval()
    install(ours)
    assert compute_first_token_only(ours) == (architecture in READ_THE_FIRST_TOKEN)
    ids = torch.randint(5, 120, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    logits, expected = ours(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad is None:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-5, rtol=1e-4)


def test_the_last_layer_computes_one_token(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("bert", **SIZES), attn_implementation="eager"
    )
    assert compute_first_token_only(model)
    shapes: list[torch.Size] = []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    model(input_ids=torch.randint(5, 120, (3, 12)))
    assert [tuple(shape) for shape in shapes] == [(3, 12, 24), (3, 1, 24)]
