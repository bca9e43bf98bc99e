"""One trial's life in a warm worker: reset, next_segment or next_epoch, save_state or load_state, write_best.

A segment is what is left of an epoch, or a piece of it, such as up to the next rung. Where an epoch is cut changes no
bit of what follows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainable.config import TrialConfig
from trainable.epoch_scores import CurvePoint, EpochScores, RungScores
from trainable.errors import TrialFailed
from trainable.job import Job
from trainable.model.classifier import Classifier
from trainable.model.weights import write_model
from trainable.optimizers import OPTIMIZERS
from trainable.storage.folders import write_folder
from trainable.tasks import TASKS
from trainable.train.batching import (
    CPU_TOKENS,
    EVAL_TOKENS,
    PAD_TO,
    Batch,
    Batches,
    cut_evenly,
    eval_order,
    pieces_of,
    train_order,
)
from trainable.train.best_weights import BestWeights
from trainable.train.curve import SegmentCurve
from trainable.train.devices import make_scaler, pick_device
from trainable.train.loop import LossCheck, Rows, evaluate, train_steps
from trainable.train.memory import MicroBatchLimit, keep_freed_memory, limit_gpu_memory, peak_memory_mib
from trainable.train.pulse import Pulse
from trainable.train.state import (
    BegunEpoch,
    Owner,
    SavedState,
    random_state,
    read_state,
    restore_optimizer,
    restore_random,
    save_state,
)


class _StopAsked(Exception):
    """The sweep is being stopped: an evaluation ends before its end, and is done again when the trial goes on."""


class FineTuningRun:
    """A warm worker's model and data, and the one trial that it trains.

    The worker pays for imports, the model and the data once. Each trial starts with `reset`, which leaves no trace of
    the trial before: the nth trial of a worker is bit-equal to the same trial in a fresh process.
    """

    def __init__(self, job: Job, pulse: Pulse | None = None) -> None:
        """Load the model and move the data to the device.

        Args:
            job: What all trials share.
            pulse: Counts the batches that are finished.
        """
        self.pulse = pulse or Pulse()
        keep_freed_memory()
        torch.set_num_threads(job.threads)
        self.job = job
        self.task = TASKS[job.task]
        self.device = pick_device(job.gpus_per_trial > 0)
        limit_gpu_memory(self.device, job.gpus_per_trial)
        if self.device.type == "cuda":  # the test score is measured elsewhere, in full float32
            torch.set_float32_matmul_precision("high")
        splits = (job.train, job.validation)
        self.classifier = Classifier(job.model_folder, job.label_names, self.device, splits, job.pad_id, self.task)
        pad_to = PAD_TO if job.batching == "bucketed" else 1
        self.train, self.validation = (
            Batches(
                split,
                job.pad_id,
                self.device,
                sliced=self.classifier.sliced,
                pad_to=pad_to,
                pads_left=self.classifier.pads_left,
            )
            for split in splits
        )
        self.validation_order = eval_order(self.validation.lengths, EVAL_TOKENS[self.device.type], job.batching)
        self.micro_batch_limit = MicroBatchLimit()
        self.history: list[EpochScores] = []
        self.rungs: list[RungScores] = []
        """What the evaluations within epochs gave."""
        self.curve: list[CurvePoint] = []
        """The points of the last segment."""
        self.f1_by_class: list[float] = []
        """Of the last evaluation, by class id."""
        self.begun: BegunEpoch | None = None
        """The epoch that was begun and not finished."""
        self.best: EpochScores | None = None
        self.best_weights = BestWeights()
        self._probabilities: Tensor | None = None  # float16 [validation rows, classes], of the last evaluation
        self.best_predictions: Tensor | None = None
        """The same after the best epoch; None where no epoch that was trained here is the best."""

    def reset(self, config: TrialConfig, seed: int, with_rungs: bool = True) -> None:
        """Begin a trial; nothing of the trial before shows in its bits.

        Args:
            config: Its hyperparameters.
            seed: Of its head, the order of its rows and dropout.
            with_rungs: Whether it is scored at the job's rungs, too.
        """
        self.config, self.seed = config, seed
        self.rungs_percent = self.job.rungs_percent if with_rungs else ()
        self.history = []
        self.rungs = []
        self.curve, self.f1_by_class = [], []
        self.begun = None
        self.micro_batch_limit = MicroBatchLimit()  # finer pieces draw other dropout: no trial gets those of another
        self.best = self.best_predictions = None
        self.best_weights = BestWeights()
        self.classifier.reset(seed, config.dropout)
        trained = [p for p in self.classifier.module.parameters() if p.requires_grad]
        self.optimizer = OPTIMIZERS[config.optimizer].make(trained, config)
        self.scaler = make_scaler(self.job.precision, self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    @property
    def done(self) -> bool:
        """Whether the trial has run its whole schedule."""
        return len(self.history) >= self.config.epochs

    @property
    def steps(self) -> int:
        """The optimizer steps so far."""
        return self._steps_of_whole_epochs + (self.begun.steps if self.begun is not None else 0)

    def next_epoch(self) -> EpochScores:
        """Train what is left of an epoch, and score it on validation.

        Raises:
            TrialFailed: A loss is not finite. What came after it could not be trusted.
        """
        while True:
            scored = self.next_segment(lambda: False)
            if isinstance(scored, EpochScores):
                return scored

    def next_segment(self, ended: Callable[[], bool]) -> EpochScores | RungScores | None:
        """Train until the epoch's end or the job's next rung, and score the model on validation; or until `ended`.

        Args:
            ended: Is asked after each optimizer step but the last one before a score.

        Returns:
            The scores; None where the segment ended before.

        Raises:
            TrialFailed: A loss is not finite; noticed within 50 steps.
        """
        config, epoch = self.config, len(self.history)
        order = train_order(self.train.lengths, config.batch_size, self.seed, epoch, self.job.batching)
        rates = self._rates(epoch)
        begun = self.begun or BegunEpoch(steps=0, loss_sum=None, began_at=time.time(), train_s=0.0)
        until = self._next_rung(begun.steps) or len(order)
        started, check, curve = time.perf_counter(), LossCheck(), SegmentCurve(order, begun)

        def go_on(loss_sum: Tensor) -> bool:
            curve.step(loss_sum)
            return check.is_finite(loss_sum) and not ended()

        taken, loss_sum = train_steps(
            self.classifier.module,
            self.optimizer,
            order[begun.steps : until],
            self.take_training,
            self.micro_batch_limit.halve,
            loss=lambda logits, labels: self.task.loss(logits, labels, config.label_smoothing),
            rates=rates[begun.steps : until],
            max_grad_norm=config.max_grad_norm,
            precision=self.job.precision,
            scaler=self.scaler,
            loss_sum=begun.loss_sum,
            beat=self.pulse.beat,
            go_on=go_on,
        )
        steps = begun.steps + taken
        total, sums = curve.cross(loss_sum)  # the segment's only wait for the device
        train_loss = total / sum(map(len, order[:steps]))
        trained = time.perf_counter()
        if not math.isfinite(train_loss):
            raise TrialFailed(f"the training loss of epoch {epoch + 1} is not finite ({train_loss})")
        train_s = begun.train_s + trained - started
        self.curve = curve.points(sums, rates, self._steps_of_whole_epochs)
        point_steps, point_loss_sum = sums[-1] if sums else (begun.point_steps, begun.point_loss_sum)
        self.begun = replace(
            begun, steps=steps, loss_sum=loss_sum, train_s=train_s, point_steps=point_steps,
            point_loss_sum=point_loss_sum,
        )  # fmt: skip
        if steps < until:
            return None
        try:
            scores, collapsed = self._score_validation()
        except _StopAsked:
            return None
        if not math.isfinite(scores["loss"]):
            when = "after" if until == len(order) else "in"
            raise TrialFailed(f"the validation loss {when} epoch {epoch + 1} is not finite ({scores['loss']})")
        eval_s = begun.eval_s + time.perf_counter() - trained
        if until < len(order):
            self.begun = replace(self.begun, eval_s=eval_s)
            percent = 100.0 * self.steps / (len(order) * config.epochs)
            self.rungs.append(RungScores(percent, self.steps, train_loss, train_s + eval_s, scores))
            return self.rungs[-1]
        result = EpochScores(
            epoch=epoch + 1,
            schedule_percent=100.0 * (epoch + 1) / config.epochs,
            train_loss=train_loss,
            scores=scores,
            collapsed=collapsed,
            learning_rate=rates[-1],
            examples_per_second=len(self.train) / train_s,
            began_at=begun.began_at,
            train_s=train_s,
            eval_s=eval_s,
            peak_memory_mib=peak_memory_mib(self.device),
            rows_at_once=self.micro_batch_limit.rows,
        )
        self.history.append(result)
        self.begun = None
        self._keep_if_best(result)
        return result

    def _next_rung(self, steps: int) -> int | None:
        """The step of the epoch at which the next rung is reached, if that is before its end; from 1."""
        an_epoch = self.config.steps_per_epoch(len(self.train))
        whole, measured = self._steps_of_whole_epochs, self.rungs[-1].steps if self.rungs else 0
        rungs = (math.ceil(percent * an_epoch * self.config.epochs / 100) for percent in self.rungs_percent)
        first, last = max(whole + steps, whole + 1, measured + 1), whole + an_epoch - 1
        return min((rung - whole for rung in rungs if first <= rung <= last), default=None)

    @property
    def _steps_of_whole_epochs(self) -> int:
        return len(self.history) * self.config.steps_per_epoch(len(self.train))

    def _rates(self, epoch: int) -> list[float]:
        """The learning rate of each step of an epoch, which counts from 0."""
        steps = self.config.steps_per_epoch(len(self.train))
        total_steps = steps * self.config.epochs
        return [self.config.learning_rate_at(step, total_steps) for step in range(epoch * steps, (epoch + 1) * steps)]

    def take_training(self, rows: Rows) -> list[Batch]:
        """The batches that compute the rows of an optimizer step."""
        pieces = pieces_of(rows, self.config.micro_batch_size)
        return [batch for piece in pieces for batch in self._take(self.train, piece)]

    def take_validation(self, rows: Rows) -> list[Batch]:
        """The batches that compute these validation rows."""
        return self._take(self.validation, rows)

    def _take(self, split: Batches, rows: Rows) -> list[Batch]:
        """Cut rows into as many batches as a CPU computes fastest, on a GPU into one; or finer where memory ran out."""
        # Rows of a shuffled batch are padded to the longest of the batch, as such batches usually are.
        padded_as = rows if self.job.batching == "shuffled" else None
        pieces = cut_evenly(rows, split.lengths, CPU_TOKENS) if self.device.type == "cpu" else [rows]
        limit = self.micro_batch_limit.rows
        return [split.take(part, padded_as) for piece in pieces for part in pieces_of(piece, limit)]

    def _score_validation(self) -> tuple[dict[str, float], bool]:
        """The scores on validation, and whether every row was given the same class."""
        total, self._probabilities = evaluate(
            self.classifier.module,
            self.validation_order,
            self.take_validation,
            self.micro_batch_limit.halve,
            count=self.task.count,
            precision=self.job.precision,
            keep=lambda logits, labels: self.task.probabilities(logits).half(),
            beat=self._beat_or_stop,
        )
        counts = self.task.counts(total)
        self.f1_by_class = self.task.f1_by_class(counts)
        return self.task.scores(counts, self.job.f1_average), self.task.collapsed(counts)

    def _beat_or_stop(self) -> None:
        self.pulse.beat()
        if self.pulse.stop_asked:
            raise _StopAsked

    def merit(self, epoch: EpochScores) -> tuple[float, float]:
        """What an epoch is ranked by under the job's objective; larger is better."""
        return epoch.merit(self.job.metric, self.job.mode)

    def _keep_if_best(self, epoch: EpochScores) -> None:
        if self.best is not None and self.merit(epoch) <= self.merit(self.best):
            return
        self.best, self.best_predictions = epoch, self._probabilities
        if epoch.epoch < self.config.epochs:
            self.best_weights.copy(self.classifier.weights())
        else:  # after the last epoch nothing changes the live weights until they are written
            self.best_weights.refer_to(self.classifier.weights())

    # What is written

    def write_best(self, folder: Path) -> int:
        """Write the best epoch's model into a folder, all or nothing; returns the bytes written."""
        if self.best is None:
            raise ValueError("no epoch was trained")
        rates = [rate for epoch in range(self.best.epoch) for rate in self._rates(epoch)]
        decay = OPTIMIZERS[self.config.optimizer].missed_decay(self.config, rates)
        classifier = self.classifier
        weights = classifier.whole_weights(self.best_weights.tensors, decay)

        def write(aside: Path) -> None:
            write_model(
                aside,
                weights,
                classifier.config_json,
                classifier.architecture,
                self.job.model_folder,
                self.job.pad_token,
                self.job.max_length,
            )

        return write_folder(folder, write)

    def save_state(self, folder: Path) -> int:
        """Write all that the next step depends on; returns the bytes written."""
        return save_state(
            folder,
            self._owner(),
            SavedState(
                history=self.history,
                rungs=self.rungs,
                begun=self.begun,
                best=self.best,
                rows_at_once=self.micro_batch_limit.rows,
                weights=self.classifier.weights(),
                optimizer=self.optimizer.state_dict()["state"],
                random=random_state(self.device),
                scaler=self.scaler.state_dict(),
                best_weights=self.best_weights.tensors,
            ),
        )

    def load_state(self, folder: Path) -> bool:
        """Go on from a state of this very trial; False, and nothing changed, where the folder holds none."""
        saved = read_state(folder, self._owner())
        if saved is None:
            return False
        self.classifier.set_weights(saved.weights)
        restore_optimizer(self.optimizer, saved.optimizer)
        restore_random(saved.random, self.device)
        self.scaler.load_state_dict(dict(saved.scaler))
        self.history, self.rungs, self.best = list(saved.history), list(saved.rungs), saved.best
        self.best_predictions = None
        self.begun = saved.begun and saved.begun.on(self.device)
        self.micro_batch_limit.rows = saved.rows_at_once
        self.best_weights = BestWeights()
        self.best_weights.refer_to({name: tensor.to(self.device) for name, tensor in saved.best_weights.items()})
        return True

    def _owner(self) -> Owner:
        return Owner(self.job.sweep_id, self.config, self.seed)
