"""What the study says of each trial, as frozen values. No Optuna is needed to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, best_epoch
from tune.run_dir.attributes import (
    CONFIG,
    EPOCH_PREFIX,
    FAILURE,
    MEMORY_MULTIPLIER,
    MODEL_SHA256,
    OLD_MEMORY_MULTIPLIER,
    RETRIES,
    SEED,
)


@dataclass(frozen=True)
class TrialRecord:
    """One trial of the sweep, as the study has it."""

    number: int
    """The trial's number in the study, from 0: its name wherever it is mentioned."""

    state: str
    """COMPLETE (the whole schedule was run), PRUNED (stopped early), FAIL, RUNNING or WAITING."""

    config: TrialConfig
    """Its hyperparameters."""

    seed: int | None
    """The seed of its training; None until it has begun."""

    epochs: tuple[EpochScores, ...]
    """What its epochs gave, in their order."""

    best: EpochScores | None
    """The epoch with the best objective; None without epochs."""

    value: float | None
    """The objective at the best epoch; None without epochs."""

    failure: str | None = None
    """Why it failed, in a line; None if its state is another one."""

    model_sha256: str | None = None
    """The checksum of the weights that it left; None if it left none, or if an early version ran it."""

    retries: int = 0
    """How often it was run again because its worker died."""

    memory_multiplier: int = 1
    """How many times the resources of an ordinary trial it needs, since its memory ran out."""

    @property
    def best_epoch(self) -> int | None:
        """The number of the best epoch, from 1."""
        return None if self.best is None else self.best.epoch

    @property
    def seconds(self) -> float:
        """Training and evaluation of all epochs, seconds."""
        return float(sum(epoch.seconds for epoch in self.epochs))

    @property
    def collapsed(self) -> bool:
        """Whether the model of the best epoch gives every validation row the same class."""
        return self.best is not None and self.best.collapsed


def every_trial_failed(records: Sequence[TrialRecord], num_trials: int) -> bool:
    """Whether a sweep has come to its end without a trial that ran its whole schedule."""
    states = {record.state for record in records}
    return len(records) >= num_trials and "RUNNING" not in states and "COMPLETE" not in states


def record_from(
    number: int, state: str, attributes: Mapping[str, Any], params: Mapping[str, Any], metric: str, mode: str
) -> TrialRecord:
    """Make a record of what the study has of a trial.

    Args:
        number: The trial's number.
        state: The name of its state, as Optuna has it.
        attributes: Its user attributes.
        params: Its parameters: a trial whose driver died while asking for it has no configuration yet.
        metric: The objective's name.
        mode: "max" or "min".

    Raises:
        ValueError: The study does not hold a trial of ours; says what is wrong.
    """
    config = attributes.get(CONFIG, params)
    if not isinstance(config, Mapping):
        raise ValueError(f"trial {number} has no configuration")  # noqa: TRY004
    flat = [value for key, value in attributes.items() if key.startswith(EPOCH_PREFIX)]
    try:
        epochs = tuple(sorted(map(_epoch_from, flat), key=lambda epoch: epoch.epoch))
        best = best_epoch(epochs, metric, mode)
        return TrialRecord(
            number=number,
            state=state,
            config=TrialConfig.from_values(config),
            seed=attributes.get(SEED),
            epochs=epochs,
            best=best,
            value=best.scores[metric] if best is not None else None,
            # A driver may have died after it wrote the reason, and the trial may have ended well when it was run again.
            failure=attributes.get(FAILURE) if state == "FAIL" else None,
            model_sha256=attributes.get(MODEL_SHA256),
            retries=int(attributes.get(RETRIES, 0)),
            memory_multiplier=int(attributes.get(MEMORY_MULTIPLIER, attributes.get(OLD_MEMORY_MULTIPLIER, 1))),
        )
    except ValueError as error:
        raise ValueError(f"trial {number}: {error}") from error


def _epoch_from(flat: object) -> EpochScores:
    if not isinstance(flat, Mapping):
        raise ValueError("an epoch is no object")  # noqa: TRY004
    return EpochScores.from_json(flat)


def is_within_epoch(result: Mapping[str, Any]) -> bool:
    """Whether a worker only reported that it got on within an epoch."""
    return "segment" in result and "history" not in result


def result_problem(result: Mapping[str, Any]) -> str | None:
    """Why an epoch that a worker reported can't be used, in words; None if it can.

    It is the reason that the worker itself gives for the trial's failure, or it names the value that is wrong.
    """
    if "failure" in result:
        return str(result["failure"])
    if is_within_epoch(result):
        return None
    try:
        EpochScores.from_json(result, every_score=True)
    except ValueError as error:
        return str(error)
    return None
