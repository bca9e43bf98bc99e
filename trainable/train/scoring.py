"""Score a saved model on a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.data.tokens import TokenizedSplit
from trainable.metrics import F1Average
from trainable.model.classifier import Classifier
from trainable.tasks import DEFAULT_TASK, TASKS
from trainable.train.batching import EVAL_TOKENS, Batch, Batches, eval_order, pieces_of
from trainable.train.devices import cpu_threads, pick_device
from trainable.train.loop import Rows, evaluate
from trainable.train.memory import MicroBatchLimit


@dataclass(frozen=True)
class Scored:
    """A model's scores on a split, and what they were computed from."""

    scores: dict[str, float]
    """By their names in METRICS."""

    labels: list[int]
    """The class of each row, in the order of the split; empty where a row has several classes."""

    answers: list[int]
    """The class that the model gives each of these rows."""

    probabilities: npt.NDArray[np.float32]
    """What the model gives each class, [rows, classes]."""


def score_model(
    folder: str,
    label_names: tuple[str, ...],
    split: TokenizedSplit,
    pad_id: int,
    f1_average: F1Average,
    threads: int,
    use_gpu: bool,
    task_name: str = DEFAULT_TASK,
) -> Scored:
    """Score a saved model just as it opens for anyone: in float32, with nothing random.

    Args:
        folder: The model in Hugging Face's format.
        label_names: The classes' names by id.
        split: The rows to score.
        pad_id: The token id that fills short rows.
        f1_average: The way F1 is averaged.
        threads: CPU threads to compute with.
        use_gpu: Whether to compute on a GPU where there is one.
        task_name: The task type, a key of TASKS.
    """
    device, task = pick_device(use_gpu), TASKS[task_name]
    with cpu_threads(threads):
        classifier = Classifier(folder, label_names, device, pad_id=pad_id, task=task)
        batches = Batches(split, pad_id, device, pads_left=classifier.pads_left)
        limit = MicroBatchLimit()

        def take(rows: Rows) -> list[Batch]:
            return [batches.take(piece) for piece in pieces_of(rows, limit.rows)]

        order = eval_order(batches.lengths, EVAL_TOKENS[device.type])
        total, logits = evaluate(
            classifier.module,
            order,
            take,
            limit.halve,
            count=task.count,
            precision="fp32",
            keep=lambda logits, labels: logits,
        )
        if logits is None:
            raise ValueError("a split needs at least one row")
        probabilities = task.probabilities(logits).cpu().numpy()
    labels: list[int] = []
    answers: list[int] = []
    if split.labels.ndim == 1:
        labels, answers = split.labels.tolist(), logits.argmax(dim=-1).tolist()
    return Scored(task.scores(task.counts(total), f1_average), labels, answers, probabilities)
