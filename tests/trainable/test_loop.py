"""The loop computes what it says: against torch's and transformers' own, and against itself divided otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.optimizers import OPTIMIZERS
from trainable.tasks.single_label import TASK
from trainable.train.batching import Batch, eval_order
from trainable.train.loop import Rows, Take, evaluate, train_steps
from trainable.train.run import FineTuningRun


class Linear(nn.Module):
    """Logits from token ids by one matrix: small enough to check by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        class Output:
            logits = self.head(self.norm(self.table(input_ids).mean(dim=1)))

        return Output()


def random_batches(sizes: list[int], seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for size in sizes:
        ids = torch.randint(0, 10, (size, 4), generator=generator)
        labels = torch.randint(0, 2, (size,), generator=generator)
        batches.append(Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels))
    return batches


def train(model: nn.Module, steps: list[list[Batch]], config: TrialConfig) -> float:
    optimizer = OPTIMIZERS[config.optimizer].make(model.parameters(), config)
    order, take = as_rows(steps)
    rates = [config.learning_rate_at(step, len(steps)) for step in range(len(steps))]
    taken, loss_sum = train_steps(
        model, optimizer, order, take, no_halving, loss=loss, rates=rates, max_grad_norm=config.max_grad_norm,
        precision="fp32",
    )  # fmt: skip
    assert taken == len(steps)
    return loss_sum.item() / sum(map(len, order))


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return TASK.loss(logits, labels, 0.0)


def as_rows(steps: list[list[Batch]]) -> tuple[list[Rows], Take]:
    """The rows of each step, and what cuts them into these very batches."""
    ends = np.cumsum([sum(map(len, batches)) for batches in steps])
    order = [np.arange(end - sum(map(len, batches)), end) for end, batches in zip(ends, steps, strict=True)]
    return order, lambda rows: steps[int(np.searchsorted(ends, rows[0], side="right"))]


def no_halving(tried_rows: int) -> None:
    raise AssertionError("memory ran out")


def fresh_model() -> Linear:
    torch.manual_seed(7)
    return Linear()


def halves(batch: Batch, size: int) -> list[Batch]:
    return [
        Batch({k: v[i : i + size] for k, v in batch.inputs.items()}, batch.labels[i : i + size])
        for i in range(0, len(batch), size)
    ]


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4, 5, 8])
def test_micro_batches_of_any_size_equal_one_batch(micro_batch_size: int) -> None:
    config = TrialConfig(learning_rate=0.05, batch_size=8, epochs=1, max_grad_norm=0.3)
    whole, divided = fresh_model(), fresh_model()
    batches = random_batches([8, 8, 5])  # the last one is short
    loss = train(whole, [[batch] for batch in batches], config)
    loss_divided = train(divided, [halves(batch, micro_batch_size) for batch in batches], config)
    assert loss_divided == pytest.approx(loss, abs=1e-6)
    for a, b in zip(whole.parameters(), divided.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("total_steps", [1, 7, 100])
def test_the_schedule_is_that_of_transformers(warmup_fraction: float, total_steps: int) -> None:
    config = TrialConfig(learning_rate=3e-4, warmup_fraction=warmup_fraction)
    warmup = -int(-warmup_fraction * total_steps // 1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total_steps)
    for step in range(total_steps):
        assert config.learning_rate_at(step, total_steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_one_step_is_clipped_adamw_without_decay_on_biases_and_norms() -> None:
    config = TrialConfig(learning_rate=0.01, weight_decay=0.5, max_grad_norm=0.1)
    ours, reference = fresh_model(), fresh_model()
    (batch,) = random_batches([6])
    train(ours, [[batch]], config)

    decayed = [reference.table.weight, reference.head.weight]
    others = [reference.norm.weight, reference.norm.bias, reference.head.bias]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}], lr=0.01
    )
    logits = reference(**batch.inputs).logits  # type: ignore[attr-defined]
    nn.functional.cross_entropy(logits, batch.labels).backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    optimizer.step()
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_no_gradient_no_decay_on_one_dimensional_tensors() -> None:
    optimizer = OPTIMIZERS["adamw"].make(fresh_model().parameters(), TrialConfig(weight_decay=0.5))
    decay = {p.dim(): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {2: 0.5, 1: 0.0}


def test_a_loss_that_is_not_finite_shows_in_the_mean() -> None:
    model = fresh_model()
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    assert train(model, [[batch] for batch in random_batches([4, 4])], TrialConfig()) != pytest.approx(0, abs=1e9)


class CountedSyncs:
    """Counts what would make a GPU's host wait: every value that crosses to Python."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy", "nonzero"):
            original = getattr(torch.Tensor, name)

            def counted(tensor: torch.Tensor, *args: object, _original: object = original, **kwargs: object) -> object:
                self.count += 1
                return _original(tensor, *args, **kwargs)  # type: ignore[operator]

            monkeypatch.setattr(torch.Tensor, name, counted)


def test_one_sync_an_epoch_and_one_an_evaluation(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FineTuningRun(make_job(tiny_model))
    run.reset(TrialConfig(batch_size=8, epochs=1), seed=0)
    order = eval_order(run.train.lengths, 8)
    model, optimizer = run.classifier.module, run.optimizer

    def syncs(of_batches: int) -> int:
        with monkeypatch.context() as patch:
            counted = CountedSyncs(patch)
            train_steps(
                model, optimizer, order[:of_batches], lambda rows: [run.train.take(rows)], no_halving,
                loss=loss, rates=[1e-5] * of_batches, max_grad_norm=1.0, precision="fp32",
            )  # fmt: skip
            return counted.count

    assert syncs(2) == syncs(12), "a sync for every step"
    with monkeypatch.context() as patch:
        counted = CountedSyncs(patch)
        rows = eval_order(run.validation.lengths, 8)
        evaluate(
            model, rows, lambda piece: [run.validation.take(piece)], no_halving, count=TASK.count, precision="fp32"
        )
        assert counted.count == 1


def test_evaluation_counts_every_row_once_and_is_independent_of_batches(tiny_model: Path) -> None:
    run = FineTuningRun(make_job(tiny_model))
    run.reset(TrialConfig(), seed=0)

    def counts(batch_size: int) -> tuple[float, Sequence[Sequence[int]]]:
        order = eval_order(run.validation.lengths, batch_size)
        total = evaluate(
            run.classifier.module, order, lambda rows: [run.validation.take(rows)], no_halving,
            count=TASK.count, precision="fp32",
        )  # fmt: skip
        found = TASK.counts(total.counted)
        return found.loss_sum, found.by_class

    loss, by_class = counts(48)
    assert sum(rows for rows, _, _ in by_class) == sum(answers for _, answers, _ in by_class) == len(run.validation)
    for batch_size in (1, 7):
        assert counts(batch_size)[1] == by_class
        assert counts(batch_size)[0] == pytest.approx(loss, rel=1e-5)
