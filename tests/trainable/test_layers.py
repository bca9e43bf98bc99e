"""Our dropout is dropout, our attention is attention: laws, and transformers' own as the judge."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable.config import Precision
from trainable.model import fast_layers as layers
from trainable.model.classifier import Classifier
from trainable.model.fast_layers import PLAIN_ATTENTION, Dropout, attention, dropout, install
from trainable.model.first_token import compute_first_token_only
from trainable.train.devices import autocast


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
    "pad_token_id": 1,
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
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2, "local_attention": 4},
    # Their attentions do more than ours: position bias, fewer heads for keys, classes by the implementation's name.
    "t5": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "llama": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 2, "window_size": 4},
}
READ_THE_FIRST_TOKEN = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"}
DROPOUT_FIELDS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob",
    "dropout", "attention_dropout", "seq_classif_dropout", "dropout_rate", "pooler_dropout", "resid_pdrop",
    "embd_pdrop", "attn_pdrop", "embed_dropout", "resid_dropout", "summary_last_dropout",
)  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_what_transformers_gives(
    architecture: str, precision: Precision, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(architecture, **SIZES | ARCHITECTURES[architecture])
    for name in DROPOUT_FIELDS:
        if getattr(config, name, None) is not None:
            setattr(config, name, 0.0)
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    model.save_pretrained(tmp_path)
    classifier = Classifier(str(tmp_path), ("0", "1"), torch.device("cpu"), pad_id=1)
    ours = classifier.module
    assert classifier.first_token_only == (architecture in READ_THE_FIRST_TOKEN)
    ids = torch.randint(5, 120, (3, 12))
    ids[1, 7:] = 1
    ids[:, 6] = ids[0, 11] = ids[2, 11] = 2  # the end of a text, where a model looks for it
    ids[0, 6], ids[2, 6] = 50, 51
    mask = (ids != 1).long()
    model.train()
    ours.train()
    with autocast(precision, torch.device("cpu")):
        logits = ours(input_ids=ids, attention_mask=mask).logits.float()
        expected = model(input_ids=ids, attention_mask=mask).logits.float()
    near = {"atol": 1e-5, "rtol": 1e-4} if precision == "fp32" else {"atol": 0.02, "rtol": 0.05}
    torch.testing.assert_close(logits, expected, **near)
    if precision == "bf16":
        return
    logits.square().sum().backward()
    expected.square().sum().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = theirs[name].grad
        if gradient is None:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-3)


def test_the_last_layer_computes_one_token() -> None:
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


def test_every_attention_that_is_replaced_is_compared() -> None:
    assert set(PLAIN_ATTENTION) <= set(ARCHITECTURES)
