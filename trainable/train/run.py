"""One fine-tuning run, an epoch at a time: `reset`, `next_epoch`, `save_state` / `load_state`, `write_best`."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.config import TrialConfig
from trainable.data.tokens import TokenizedSplit
from trainable.epoch_scores import EpochScores
from trainable.errors import OutOfMemory, TrialFailed
from trainable.job import Job
from trainable.metrics import F1Average, collapsed, scores
from trainable.model.classifier import Classifier, read_tensors, write_model, write_tensors
from trainable.model.sliced_embedding import missed_decay
from trainable.storage.folders import is_whole, recorded_sha256, write_folder
from trainable.train.batching import PAD_TO, Batch, Batches, cut_evenly, eval_order, train_order
from trainable.train.devices import cpu_threads, pick_device
from trainable.train.loop import evaluate, make_optimizer, train_one_epoch
from trainable.train.memory import Ladder, keep_freed_memory, limit_gpu_memory, peak_memory_mib

# Tokens that a CPU computes at once: more would need more memory for activations and gain nothing. A step's gradient is
# the same however it is divided.
CPU_TOKENS = 1024
EVAL_TOKENS = {"cpu": CPU_TOKENS, "cuda": 16384}


class FineTuningRun:
    """A warm worker's model and data, and the one trial it is training."""

    def __init__(self, job: Job) -> None:
        keep_freed_memory()
        torch.set_num_threads(job.threads)
        self.job = job
        self.device = pick_device(job.gpus_per_trial > 0)
        limit_gpu_memory(self.device, job.gpus_per_trial)
        splits = (job.train, job.validation)
        self.classifier = Classifier(job.model_folder, job.label_names, self.device, splits, job.pad_id)
        pad_to = PAD_TO if job.batching == "bucketed" else 1
        self.train, self.validation = (
            Batches(split, job.pad_id, self.device, sliced=self.classifier.sliced, pad_to=pad_to) for split in splits
        )
        self._validation_order = eval_order(self.validation.lengths, EVAL_TOKENS[self.device.type], job.batching)
        self.best: EpochScores | None = None
        self.ladder = Ladder()

    def reset(self, config: TrialConfig, seed: int) -> None:
        """Begin a trial; nothing of the one before shows in its bits."""
        self.config, self.seed = config, seed
        self.history: list[EpochScores] = []
        self.best = None
        self._best_weights: dict[str, Tensor] = {}
        self.classifier.reset(seed, config.dropout)
        self.optimizer = make_optimizer(self.classifier.module, config)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end."""
        return len(self.history) >= self.config.epochs

    def next_epoch(self) -> EpochScores:
        """Train one epoch and score it on validation.

        Raises TrialFailed where a loss is not finite: what comes after it could not be trusted.
        """
        job, config, epoch = self.job, self.config, len(self.history)
        steps = config.steps_per_epoch(len(self.train))
        total_steps = steps * config.epochs
        order = train_order(self.train.lengths, config.batch_size, self.seed, epoch, job.batching)
        began_at, started = time.time(), time.perf_counter()
        train_loss = train_one_epoch(
            self.classifier.module,
            self.optimizer,
            order,
            self._take_training,
            self.ladder.step_down,
            first_step=epoch * steps,
            total_steps=total_steps,
            config=config,
            precision=job.precision,
        )
        trained = time.perf_counter()
        if not math.isfinite(train_loss):
            raise TrialFailed(f"the training loss of epoch {epoch + 1} is not finite ({train_loss})")
        validation_scores, is_collapsed = self._score_validation()
        evaluated = time.perf_counter()
        if not math.isfinite(loss := validation_scores["loss"]):
            raise TrialFailed(f"the validation loss after epoch {epoch + 1} is not finite ({loss})")
        result = EpochScores(
            epoch=epoch + 1,
            schedule_percent=100.0 * (epoch + 1) / config.epochs,
            train_loss=train_loss,
            scores=validation_scores,
            collapsed=is_collapsed,
            learning_rate=config.learning_rate_at((epoch + 1) * steps - 1, total_steps),
            examples_per_second=len(self.train) / (trained - started),
            began_at=began_at,
            train_s=trained - started,
            eval_s=evaluated - trained,
            peak_memory_mib=self._peak_memory_mib(),
            rows_at_once=self.ladder.rows,
        )
        self.history.append(result)
        self._keep_if_best(result)
        return result

    def _take_training(self, rows: npt.NDArray[np.int64]) -> list[Batch]:
        pieces = _in_pieces(rows, self.config.micro_batch_size)
        return [batch for piece in pieces for batch in self._take(self.train, piece)]

    def _take(self, split: Batches, rows: npt.NDArray[np.int64]) -> list[Batch]:
        """These rows as so many batches as a CPU computes fastest, on a GPU as one; or as memory allows."""
        # Rows of a shuffled batch are padded to its longest, as such batches are.
        padded_as = rows if self.job.batching == "shuffled" else None
        pieces = cut_evenly(rows, split.lengths, CPU_TOKENS) if self.device.type == "cpu" else [rows]
        return [split.take(part, padded_as) for piece in pieces for part in _in_pieces(piece, self.ladder.rows)]

    def _score_validation(self) -> tuple[dict[str, float], bool]:
        counts = evaluate(
            self.classifier.module,
            self._validation_order,
            lambda rows: self._take(self.validation, rows),
            self.ladder.step_down,
            len(self.job.label_names),
            self.job.precision,
        )
        return (
            scores(counts.confusion, counts.loss_sum, self.job.f1_average),
            collapsed(counts.confusion),
        )

    def merit(self, result: EpochScores) -> tuple[float, float]:
        """What an epoch is ranked by."""
        return result.merit(self.job.metric, self.job.mode)

    def _keep_if_best(self, result: EpochScores) -> None:
        if self.best is not None and self.merit(result) <= self.merit(self.best):
            return
        self.best = result
        # One epoch only: the live weights stay as they are until the trial ends, so nothing need be copied.
        if result.epoch < self.config.epochs:
            for name, tensor in self.classifier.weights().items():
                if name in self._best_weights:
                    self._best_weights[name].copy_(tensor)
                else:
                    self._best_weights[name] = tensor.detach().clone()
        else:
            self._best_weights = self.classifier.weights()

    def write_best(self, folder: Path) -> int:
        """Write the best epoch's model; returns the bytes written."""
        job, classifier, config = self.job, self.classifier, self.config
        if self.best is None:
            raise ValueError("no epoch was trained")
        steps = config.steps_per_epoch(len(self.train))
        decay = missed_decay(config, steps * config.epochs, steps * self.best.epoch)
        weights = classifier.whole_weights(self._best_weights, decay)
        return write_folder(
            folder,
            lambda aside: write_model(
                aside, weights, classifier.config_json, classifier.architecture, job.model_folder
            ),
        )

    def take_most_memory(self, rows: int) -> None:
        """Do once what needs the most memory: two steps on the longest rows, the largest batch of validation.

        rows: how many are computed at once. Raises OutOfMemory where they don't fit. What is trained here is lost.
        """
        longest = np.argsort(self.train.lengths, kind="stable")[::-1][:rows].astype(np.int64)
        self.reset(TrialConfig(batch_size=len(longest)), seed=0)

        def give_up(tried_rows: int) -> None:
            raise OutOfMemory(f"out of memory with {tried_rows} rows at a time")

        train_one_epoch(
            self.classifier.module,
            self.optimizer,
            [longest, longest],  # the optimizer's moments are made by the first step
            lambda rows: [self.train.take(rows, None)],
            give_up,
            first_step=0,
            total_steps=2,
            config=self.config,
            precision=self.job.precision,
        )
        self._best_weights = {name: tensor.detach().clone() for name, tensor in self.classifier.weights().items()}
        largest = max(self._validation_order, key=lambda rows: len(rows) * int(self.validation.lengths[rows].max()))
        classes = len(self.job.label_names)
        evaluate(
            self.classifier.module,
            [largest],
            lambda rows: [self.validation.take(rows, None)],
            give_up,
            classes,
            self.job.precision,
        )

    # Resuming

    def save_state(self, folder: Path) -> int:
        """Write all that the next epoch depends on; returns the bytes written."""

        def write(aside: Path) -> None:
            tensors = {f"model.{name}": tensor for name, tensor in self.classifier.weights().items()}
            for i, state in self.optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
            tensors["random.cpu"] = torch.get_rng_state()
            if self.device.type == "cuda":
                tensors["random.cuda"] = torch.cuda.get_rng_state()
            write_tensors(aside / "state.safetensors", tensors)
            write_tensors(aside / "best.safetensors", self._best_weights)
            facts = {
                "sweep": self.job.sweep_id,
                "config": self.config.all_values(),
                "seed": self.seed,
                "history": [result.as_json() for result in self.history],
                "best_epoch": self.best.epoch if self.best else None,
            }
            (aside / "state.json").write_text(json.dumps(facts), encoding="utf-8")

        return write_folder(folder, write)

    def load_state(self, folder: Path) -> bool:
        """Go on from a state of this very trial; False, and nothing changed, where the folder holds none."""
        if not is_whole(folder) or recorded_sha256(folder, "state.json") is None:
            return False
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (facts.get("sweep"), facts.get("seed")) != (self.job.sweep_id, self.seed):
            return False
        if TrialConfig.from_values(facts["config"]) != self.config:
            return False
        tensors = read_tensors(folder / "state.safetensors")
        self.classifier.set_weights(_under("model", tensors))
        saved = self.optimizer.state_dict()
        saved["state"] = {}
        for name, tensor in _under("optimizer", tensors).items():
            i, field = name.split(".", 1)
            saved["state"].setdefault(int(i), {})[field] = tensor
        self.optimizer.load_state_dict(saved)
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
        self.history = [EpochScores.from_json(flat) for flat in facts["history"]]
        self.best = next((r for r in self.history if r.epoch == facts["best_epoch"]), None)
        best = read_tensors(folder / "best.safetensors")
        self._best_weights = {name: tensor.to(self.device) for name, tensor in best.items()}
        return True

    def _peak_memory_mib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return peak_memory_mib()


def _in_pieces(rows: npt.NDArray[np.int64], size: int | None) -> list[npt.NDArray[np.int64]]:
    """Rows in pieces of at most `size`; None means in one."""
    return [rows] if size is None else [rows[i : i + size] for i in range(0, len(rows), size)]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + ".")}


@dataclass(frozen=True)
class Scored:
    """A model's scores on a split, and the counts (true class by predicted class) they come from."""

    scores: dict[str, float]
    confusion: list[list[int]]


def score_model(
    folder: str,
    label_names: tuple[str, ...],
    split: TokenizedSplit,
    pad_id: int,
    f1_average: F1Average,
    threads: int,
    use_gpu: bool,
) -> Scored:
    """Score a saved model as it opens for anyone: float32, nothing random."""
    device = pick_device(use_gpu)
    with cpu_threads(threads):
        classifier = Classifier(folder, label_names, device)
        batches = Batches(split, pad_id, device)
        order = eval_order(batches.lengths, EVAL_TOKENS[device.type])
        ladder = Ladder()
        counts = evaluate(
            classifier.module,
            order,
            lambda rows: [batches.take(piece) for piece in _in_pieces(rows, ladder.rows)],
            ladder.step_down,
            len(label_names),
            "fp32",
        )
    return Scored(scores(counts.confusion, counts.loss_sum, f1_average), counts.confusion)
