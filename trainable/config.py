"""What one trial is told: hyperparameters as a frozen value, and what holds for every trial of a sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainable.errors import nearest, shown
from trainable.storage.object_store import LOCAL, Shared

if TYPE_CHECKING:
    from trainable.data.tokens import TokenizedSplit

Batching = Literal["bucketed", "shuffled"]
Precision = Literal["bf16", "fp32"]
F1Average = Literal["binary", "macro"]


@dataclass(frozen=True)
class TrialConfig:
    """The hyperparameters of one trial. Every field can be searched, fixed or left at its default.

    learning_rate: peak of the schedule (linear warm-up, then linear decay to zero), > 0
    batch_size: rows per optimizer step, >= 1
    epochs: passes over the training split, >= 1; one epoch is one step of the Trainable
    warmup_fraction: share of all optimizer steps spent warming up, in [0, 1)
    weight_decay: AdamW's decoupled decay, >= 0; biases and LayerNorm weights are exempt
    max_grad_norm: gradients are clipped to this global norm, > 0; None means no clipping
    dropout: hidden and attention dropout, in [0, 1); None means as the model's own config says
    label_smoothing: in [0, 1)
    micro_batch_size: rows computed at once, >= 1; None means as many as are fast (on CPUs 1,024
        tokens, on GPUs the whole batch). Changes memory, not the gradient (but dropout draws other random numbers).
    """

    learning_rate: float = 5e-5
    batch_size: int = 16
    epochs: int = 3
    warmup_fraction: float = 0.0
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    dropout: float | None = None
    label_smoothing: float = 0.0
    micro_batch_size: int | None = None

    def steps_per_epoch(self, rows: int) -> int:
        """Optimizer steps in one pass over `rows` rows; the last batch may be smaller."""
        return math.ceil(rows / self.batch_size)

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """The learning rate of optimizer step `step` in 0..total_steps-1.

        Like the linear schedule of transformers: step 0 of a schedule with warm-up trains at rate 0.
        """
        warmup_steps = math.ceil(self.warmup_fraction * total_steps)
        if step < warmup_steps:
            return self.learning_rate * step / max(1, warmup_steps)
        return self.learning_rate * (total_steps - step) / max(1, total_steps - warmup_steps)


@dataclass(frozen=True)
class Rule:
    """What values a field of TrialConfig takes: its type, bounds in words, and whether None is one."""

    type: type[int] | type[float]
    low: float
    low_allowed: bool
    high: float
    optional: bool = False

    @property
    def text(self) -> str:
        """The rule in words, as errors show it."""
        left = f"{'>=' if self.low_allowed else '>'} {self.low:g}"
        right = "" if math.isinf(self.high) else f" and < {self.high:g}"
        return f"{'an integer' if self.type is int else 'a number'} {left}{right}{' or none' if self.optional else ''}"

    def accepts(self, value: object) -> bool:
        """Whether `value` keeps the rule; booleans and non-finite numbers never do."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        if self.type is int and value != int(value):
            return False
        return (value >= self.low if self.low_allowed else value > self.low) and value < self.high


RULES: dict[str, Rule] = {
    "learning_rate": Rule(float, 0, False, math.inf),
    "batch_size": Rule(int, 1, True, math.inf),
    "epochs": Rule(int, 1, True, math.inf),
    "warmup_fraction": Rule(float, 0, True, 1),
    "weight_decay": Rule(float, 0, True, math.inf),
    "max_grad_norm": Rule(float, 0, False, math.inf, optional=True),
    "dropout": Rule(float, 0, True, 1, optional=True),
    "label_smoothing": Rule(float, 0, True, 1),
    "micro_batch_size": Rule(int, 1, True, math.inf, optional=True),
}


def config_problems(values: Mapping[str, object]) -> list[str]:
    """Everything wrong with these values as a TrialConfig, a sentence each; empty when they are one."""
    problems = []
    for name, value in values.items():
        if name not in RULES:
            problems.append(f"{shown(name)} is no field of a trial's configuration; {nearest(name, RULES)}")
        elif not RULES[name].accepts(value):
            problems.append(f"`{name}` must be {RULES[name].text}, but got {shown(value)}")
    return problems


def make_config(values: Mapping[str, Any]) -> TrialConfig:
    """The configuration these values describe, each in its field's type.

    Raises ValueError with all problems where a name or a value is wrong.
    """
    problems = config_problems(values)
    if problems:
        raise ValueError("; ".join(problems))
    typed: dict[str, Any] = {name: None if value is None else RULES[name].type(value) for name, value in values.items()}
    return dataclasses.replace(TrialConfig(), **typed)


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep share; sent once through the object store.

    model_folder: a local folder in Hugging Face's format
    model_fingerprint, model_files: for workers on machines where another model or none lies there: what it should be,
        and a reference to its files in Ray's object store (`shipping.py`); None where all is on this machine
    label_names: class names by id; their number is the number of classes (>= 2)
    train, validation: tokenised splits. The test split is not here: no trial can see it.
    pad_id: token id that fills short rows
    f1_average: "binary" (class id 1 is the positive one) or "macro"
    metric, mode: the objective on validation, "max" or "min"
    precision: of training and validation; weights are float32 in either
    threads: CPU threads of one trial; gpu_share: of a GPU, 0 means that trials train on the CPU
    incumbent_file: JSON {"trial": ..., "merit": [...]} of the best finished trial; None means every trial may win
    state_interval_s: a trial's whole state is written at most this often, seconds
    batching: rows of like length together, or as they come
    files: where what trials write lies
    sweep: what a state must say that it is of; a state of another sweep may fit by its configuration
    """

    model_folder: str
    label_names: tuple[str, ...]
    train: TokenizedSplit
    validation: TokenizedSplit
    pad_id: int
    f1_average: F1Average = "binary"
    metric: str = "f1"
    mode: Literal["max", "min"] = "max"
    precision: Precision = "fp32"
    threads: int = 1
    gpu_share: float = 0.0
    incumbent_file: str | None = None
    state_interval_s: float = 60.0
    batching: Batching = "bucketed"
    files: Shared = LOCAL
    sweep: str | None = None
    model_fingerprint: str | None = None
    model_files: Any = None
