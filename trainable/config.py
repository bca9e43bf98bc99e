"""The hyperparameters of one trial as a frozen value, from the search space to the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict

from trainable.errors import nearest, shown
from trainable.fields import INTEGER, NUMBER, OneOf, wrong_fields
from trainable.optimizers import OPTIMIZERS
from trainable.schedules import SCHEDULES

Batching = Literal["bucketed", "shuffled"]
Precision = Literal["fp32", "bf16", "fp16"]


class TrialConfig(BaseModel):
    """The hyperparameters of one trial: a frozen value that goes from the search space to the optimizer.

    Every field can be searched, fixed or left at its default. Two configurations are equal if all their values are,
    whichever of them were given and whichever are defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    learning_rate: Annotated[float, Gt(0), NUMBER] = 5e-5
    """Peak of the schedule, reached after the warm-up."""

    batch_size: Annotated[int, Ge(1), INTEGER] = 16
    """Rows per optimizer step."""

    epochs: Annotated[int, Ge(1), INTEGER] = 3
    """Passes over the training split."""

    warmup_fraction: Annotated[float, Ge(0), Lt(1), NUMBER] = 0.0
    """Fraction of all optimizer steps during which the learning rate rises from 0 to its peak."""

    weight_decay: Annotated[float, Ge(0), NUMBER] = 0.01
    """How much weights shrink at each step, times the learning rate. Biases and LayerNorm's weights are exempt."""

    max_grad_norm: Annotated[float, Gt(0), NUMBER] | None = 1.0
    """Gradients are clipped to this global norm; none turns clipping off."""

    dropout: Annotated[float, Ge(0), Lt(1), NUMBER] | None = None
    """Probability of dropout in hidden layers and attention; none keeps what the model's own config.json says."""

    label_smoothing: Annotated[float, Ge(0), Lt(1), NUMBER] = 0.0
    """Weight that the training loss moves from the true class to all classes alike."""

    micro_batch_size: Annotated[int, Ge(1), INTEGER] | None = None
    """Rows computed at once; none means as many as are fast: 1,024 tokens on CPUs, the whole batch on GPUs.

    It changes the memory that a step takes, not the gradient (but dropout draws other random numbers).
    """

    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "adamw"
    """The optimizer, by its name."""

    schedule: Annotated[str, OneOf(SCHEDULES)] = "linear"
    """How the learning rate changes from step to step, by the schedule's name."""

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> TrialConfig:
        """The configuration with these values, and defaults for all other fields.

        Raises:
            ValueError: A name or a value is wrong. The message names every problem.
        """
        problems = config_problems(values)
        if problems:
            raise ValueError("; ".join(problems))
        return cls.model_validate(values)

    def named(self) -> dict[str, Any]:
        """The values that were given, without those that are defaults: what study, report and screen show."""
        return {name: value for name, value in self.all_values().items() if name in self.model_fields_set}

    def all_values(self) -> dict[str, Any]:
        """The values of all fields."""
        return self.model_dump()

    def steps_per_epoch(self, rows: int) -> int:
        """Optimizer steps in one pass over `rows` rows; the last batch may be smaller."""
        return math.ceil(rows / self.batch_size)

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """The learning rate of optimizer step `step` in 0..total_steps-1, as the schedule has it."""
        return SCHEDULES[self.schedule].rate(self, step, total_steps)


def unknown_field(name: object) -> str:
    """The problem with a name that is no hyperparameter."""
    hint = nearest(str(name), TrialConfig.model_fields)
    return f"{shown(name)} is no field of a trial's configuration; {hint}"


def config_problems(values: Mapping[str, object]) -> list[str]:
    """Everything wrong with these values as a TrialConfig, a sentence each; empty when they are one."""
    wrong = {name: f"`{name}` {problem}" for name, problem in wrong_fields(TrialConfig, values).items()}
    wrong |= {name: unknown_field(name) for name in values if name not in TrialConfig.model_fields}
    return [wrong[name] for name in values if name in wrong]
