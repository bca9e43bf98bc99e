"""Which rows of an embedding are left out, when, and how they decay; test_fast_steps.py trains both forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.model.sliced_embedding import SlicedEmbedding, can_slice
from trainable.optimizers import OPTIMIZERS


def test_rows_left_out_are_decayed_as_adamw_decays_what_has_no_gradient() -> None:
    config = TrialConfig(learning_rate=2e-3, warmup_fraction=0.1, weight_decay=0.3)
    weight = torch.nn.Parameter(torch.randn(9))
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], weight_decay=config.weight_decay)
    for step in range(17):
        optimizer.param_groups[0]["lr"] = config.learning_rate_at(step, 24)
        weight.grad = torch.zeros(9)
        optimizer.step()
    rates = [config.learning_rate_at(step, 24) for step in range(17)]
    torch.testing.assert_close(before * OPTIMIZERS["adamw"].missed_decay(config, rates), weight.detach())


def test_ids_that_models_compare_with_keep_their_numbers(tiny_model: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(
        "roberta", vocab_size=90, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    job = make_job(tiny_model)
    row = torch.tensor([[0, 40, 7, 2, 1, 1]])
    before = model(input_ids=row).logits
    assert can_slice(model, 1)
    split = job.train.__class__(row.numpy().astype("int32")[0], job.train.offsets[:2], None, job.train.labels[:1])
    sliced = SlicedEmbedding(model, [split], pad_id=1)
    assert sliced.ids.tolist() == [0, 1, 2, 7, 40]
    small = torch.from_numpy(sliced.renumber(row.numpy()))
    assert small.tolist() == [[0, 4, 3, 2, 1, 1]]
    assert torch.equal(model(input_ids=small).logits, before)


def test_an_embedding_that_is_used_twice_stays_whole() -> None:
    from transformers import T5Config, T5ForSequenceClassification

    config = T5Config(vocab_size=60, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, eos_token_id=1)
    assert not can_slice(T5ForSequenceClassification(config), 0)


@pytest.mark.parametrize(("pad_id", "possible"), [(0, True), (58, True), (59, False)])
def test_nothing_is_sliced_where_special_tokens_come_last(pad_id: int, possible: bool) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=60, pad_token_id=pad_id, **sizes))
    assert can_slice(model, pad_id) == possible
