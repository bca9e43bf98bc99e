"""What every task type must do, whichever it is. A new one adds an example of its labels to `EXAMPLES`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import trainable.tasks
from tests.contracts.test_label_readers import TagReader, table_of
from tests.trainable.runs import make_job
from tests.trainable.test_run import CONFIG
from trainable.data.labels import LabelReader, LabelWishes
from trainable.data.splits import Label
from trainable.metrics import METRICS, F1Average
from trainable.tasks import DEFAULT_TASK, TASKS, find_tasks
from trainable.tasks.base import Counts, Task
from trainable.train.run import FineTuningRun
from trainable.train.scoring import score_model


@dataclass(frozen=True)
class Tags:
    """A task type that this test makes up: any number of classes for each row, each decided by itself."""

    name: str = "tags"
    labels: LabelReader = dataclasses.field(default_factory=TagReader)

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        return {
            "num_labels": len(label_names),
            "id2label": dict(enumerate(label_names)),
            "label2id": {name: i for i, name in enumerate(label_names)},
            "problem_type": "multi_label_classification",
        }

    def f1_averages(self, num_classes: int) -> tuple[F1Average, ...]:
        return ("macro",)

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        target = labels.float() * (1 - label_smoothing) + label_smoothing / 2
        of_class = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return of_class.mean(dim=-1).sum()

    def f1_by_class(self, counts: Counts) -> list[float]:
        return [2 * both / max(2 * both + wrong + missed, 1) for _, wrong, missed, both in counts.by_class]

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        cells = (labels * 2 + (logits > 0)).T[..., None] == torch.arange(4)
        return torch.cat([self.loss(logits, labels, 0.0).double().view(1), cells.sum(dim=1).double().flatten()])

    def counts(self, total: Sequence[float]) -> Counts:
        loss_sum, *cells = total
        return Counts(loss_sum, [[int(n) for n in cells[i : i + 4]] for i in range(0, len(cells), 4)])

    def scores(self, counts: Counts, average: F1Average) -> dict[str, float]:
        right = sum(tn + tp for tn, _, _, tp in counts.by_class)
        f1 = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0 for _, fp, fn, tp in counts.by_class]
        rows = sum(counts.by_class[0])
        all_answers = sum(map(sum, counts.by_class))
        return {"loss": counts.loss_sum / rows, "accuracy": right / all_answers, "f1": float(np.mean(f1))}

    def collapsed(self, counts: Counts) -> bool:
        return all(tn + fn == 0 or fp + tp == 0 for tn, fp, fn, tp in counts.by_class)

    def majority(
        self, train: Sequence[Label], split: Sequence[Label], num_classes: int, average: F1Average
    ) -> dict[str, float]:
        usual = (np.mean(np.asarray(train), axis=0) > 0.5).astype(int)
        logits = torch.tensor(np.tile(2.0 * usual - 1.0, (len(split), 1)))
        found = self.scores(self.counts(self.count(logits, torch.tensor(np.asarray(split))).tolist()), average)
        return {name: found[name] for name in found if METRICS[name].majority == "scored"}


@dataclass(frozen=True)
class Example:
    """Labels that a task type can read, and answers of a model."""

    task: Task
    cells: Sequence[Any]
    """Cells of a label column; they hold every class."""
    usual: Callable[[Sequence[Label], int], list[float]]
    """The logits of one row that give the most frequent answer of these labels, for so many classes."""


def most_frequent(labels: Sequence[Label], num_classes: int) -> list[float]:
    counts = [sum(label == i for label in labels) for i in range(num_classes)]
    return [float(i == counts.index(max(counts))) for i in range(num_classes)]


def usual_tags(labels: Sequence[Label], num_classes: int) -> list[float]:
    return [2.0 * (np.mean([label[i] for label in labels]) > 0.5) - 1.0 for i in range(num_classes)]  # type: ignore[index]


EXAMPLES = {
    "single_label": Example(TASKS["single_label"], ["b", "a", "c", "b", "b", "c"] * 9, most_frequent),
    "tags": Example(Tags(), ["a|b", "c", "b|c", "a", "b"] * 9, usual_tags),
}

every_task = pytest.mark.parametrize("example", EXAMPLES.values(), ids=list(EXAMPLES))


def labels_of(example: Example, cells: Sequence[Any] | None = None) -> tuple[list[Label], tuple[str, ...]]:
    problems: list[str] = []
    reader = example.task.labels
    classes = reader.classes(
        reader.read(table_of(example.cells), "label", [], problems), None, LabelWishes(), [], problems
    )
    assert classes is not None
    labels = reader.encode(reader.read(table_of(cells or example.cells), "label", [], problems), classes, problems)
    assert problems == []
    return list(labels), classes.names


def batch_of(example: Example, seed: int) -> tuple[Tensor, Tensor, int]:
    """Random float32 logits [rows, classes], labels, and the number of classes."""
    labels, names = labels_of(example)
    random.Random(seed).shuffle(labels)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), len(names), generator=generator), torch.tensor(labels), len(names)


def test_every_task_type_has_an_example() -> None:
    assert TASKS.keys() <= EXAMPLES.keys()
    assert DEFAULT_TASK in TASKS


@every_task
def test_labels_survive_a_round_trip(example: Example) -> None:
    labels, names = labels_of(example)
    assert len(set(names)) == len(names) >= 2
    as_array = np.asarray(labels, dtype=np.int64)  # as a tokenised split has them
    assert as_array.shape[0] == len(example.cells)
    for cell, label in zip(example.cells, labels, strict=True):
        decoded = [names[label]] if isinstance(label, int) else [n for n, has in zip(names, label, strict=True) if has]
        assert sorted(str(cell).split("|")) == sorted(decoded)


@every_task
def test_the_head_has_an_output_for_each_class(example: Example) -> None:
    head = example.task.head(("x", "y", "z"))
    assert head["num_labels"] == 3
    assert head["id2label"] == {0: "x", 1: "y", 2: "z"}
    assert head["label2id"] == {"x": 0, "y": 1, "z": 2}


@every_task
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_micro_batches_give_the_loss_and_gradient_of_one_batch(example: Example, smoothing: float, size: int) -> None:
    logits, labels, _ = batch_of(example, 3)
    whole, divided = (logits.clone().requires_grad_() for _ in range(2))
    loss = example.task.loss(whole, labels, smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    total = in_pieces(example, divided, labels, smoothing, size)
    total.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(total, loss)
    torch.testing.assert_close(divided.grad, whole.grad)


def in_pieces(example: Example, logits: Tensor, labels: Tensor, smoothing: float, size: int) -> Tensor:
    at = range(0, len(labels), size)
    return torch.stack([example.task.loss(logits[i : i + size], labels[i : i + size], smoothing) for i in at]).sum()


@every_task
@pytest.mark.parametrize("size", [1, 4, 7])
def test_counts_of_batches_add_up(example: Example, size: int) -> None:
    logits, labels, _ = batch_of(example, 5)
    whole = example.task.count(logits, labels)
    assert whole.dtype == torch.float64
    pieces = [example.task.count(logits[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]
    summed = torch.stack(pieces).sum(dim=0)
    assert torch.equal(summed[1:], whole[1:])
    assert summed[0].item() == pytest.approx(whole[0].item(), rel=1e-6)
    assert whole[0].item() == pytest.approx(example.task.loss(logits, labels, 0.0).item())


@every_task
def test_scores_are_of_the_table_and_right_answers_score_best(example: Example) -> None:
    task = example.task
    logits, labels, classes = batch_of(example, 6)
    average = task.f1_averages(classes)[0]
    right = torch.nn.functional.one_hot(labels, classes) if labels.dim() == 1 else labels
    counts, best = (task.counts(task.count(one, labels).tolist()) for one in (logits, 40.0 * right - 20.0))
    found, perfect = task.scores(counts, average), task.scores(best, average)
    assert found.keys() == perfect.keys() <= METRICS.keys()
    assert found["loss"] == pytest.approx(counts.loss_sum / len(labels))
    assert perfect["accuracy"] == 1.0
    for name in found:
        sign = 1 if METRICS[name].direction == "max" else -1
        assert sign * perfect[name] >= sign * found[name]
    assert not task.collapsed(best)


@every_task
@pytest.mark.parametrize("seed", range(5))
def test_the_majority_baseline_equals_a_model_that_always_gives_that_answer(example: Example, seed: int) -> None:
    task = example.task
    labels, names = labels_of(example)
    split = random.Random(seed).choices(labels, k=20)
    average = task.f1_averages(len(names))[0]
    logits = torch.tensor([example.usual(labels, len(names))] * len(split))
    counts = task.counts(task.count(logits, torch.tensor(split)).tolist())
    assert task.collapsed(counts)
    always = task.scores(counts, average)
    baseline = task.majority(labels, split, len(names), average)
    assert baseline == pytest.approx({name: always[name] for name in baseline})
    assert baseline.keys() == {name for name in always if METRICS[name].majority == "scored"}


TOY = """
from tests.contracts.test_tasks import Tags

TASK = Tags()
"""


def test_a_new_task_type_trains_scores_and_goes_on(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with several classes: one new file, and a job that names the task."""
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    monkeypatch.setattr(trainable.tasks, "__path__", [*trainable.tasks.__path__, str(tmp_path)])
    found = find_tasks()
    assert found.keys() == {*TASKS, "tags"}
    monkeypatch.setitem(TASKS, "tags", found["tags"])
    job = make_job(tiny_model, task="tags", label_names=("same", "different", "always"), f1_average="macro")
    splits = {
        name: dataclasses.replace(
            split, labels=np.stack([split.labels, 1 - split.labels, split.labels * 0 + 1], axis=1)
        )
        for name, split in (("train", job.train), ("validation", job.validation))
    }
    job = dataclasses.replace(job, **splits)

    run = FineTuningRun(job)
    run.reset(CONFIG, 2)
    run.next_epoch()
    run.save_state(tmp_path / "state")
    while not run.done:
        run.next_epoch()
    losses = [epoch.scores["loss"] for epoch in run.history]
    assert losses == sorted(losses, reverse=True)
    assert run.history[-1].scores["accuracy"] > 0.7
    resumed = FineTuningRun(job)
    resumed.reset(CONFIG, 2)
    assert resumed.load_state(tmp_path / "state")
    while not resumed.done:
        resumed.next_epoch()
    assert [epoch.train_loss for epoch in resumed.history] == [epoch.train_loss for epoch in run.history]

    run.write_best(tmp_path / "best")
    scored = score_model(
        str(tmp_path / "best"), job.label_names, job.validation, 0, "macro", threads=1, use_gpu=False, task_name="tags"
    )
    assert run.best is not None
    assert scored.scores["f1"] == run.best.scores["f1"]
    assert scored.scores["loss"] == pytest.approx(run.best.scores["loss"], rel=1e-5)


def test_counting_takes_as_much_for_thousands_of_classes_as_rows_need() -> None:
    from trainable.tasks.single_label import TASK

    logits = torch.randn(8, 100_000)
    labels = torch.arange(8)
    counted = TASK.count(logits, labels)
    assert counted.numel() == 1 + 3 * 100_000  # less than the logits themselves
    counts = TASK.counts(counted.tolist())
    assert sum(rows for rows, _, _ in counts.by_class) == 8
    assert TASK.scores(counts, "macro")["accuracy"] == sum(right for _, _, right in counts.by_class) / 8
