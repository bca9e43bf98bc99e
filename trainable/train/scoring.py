"""Score a saved model on a split."""

from __future__ import annotations

from dataclasses import dataclass

from trainable.data.tokens import TokenizedSplit
from trainable.metrics import F1Average
from trainable.model.classifier import Classifier
from trainable.tasks import DEFAULT_TASK, TASKS
from trainable.train.batching import EVAL_TOKENS, Batches, eval_order, pieces_of
from trainable.train.devices import cpu_threads, pick_device
from trainable.train.loop import evaluate
from trainable.train.memory import MicroBatchLimit


@dataclass(frozen=True)
class Scored:
    """A model's scores on a split, and what they were computed from."""

    scores: dict[str, float]
    """By their names in METRICS."""

    confusion: list[list[int]]
    """What the task counted: of a single-label task, rows by `[true class][predicted class]`."""


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
        total = evaluate(
            classifier.module,
            eval_order(batches.lengths, EVAL_TOKENS[device.type]),
            lambda rows: [batches.take(piece) for piece in pieces_of(rows, limit.rows)],
            limit.halve,
            count=task.count,
            precision="fp32",
        )
    counts = task.counts(total)
    return Scored(task.scores(counts, f1_average), counts.confusion)
