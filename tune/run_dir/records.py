"""What the study says of each trial, as frozen values. No Optuna is needed to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainable.config import TrialConfig
from trainable.epoch_scores import CurvePoint, EpochScores, RungScores, best_epoch
from tune.run_dir.attributes import (
    CONFIG,
    CONFIRMS,
    EPOCH_PREFIX,
    FAILURE,
    MEMORY_MULTIPLIER,
    MODEL_SHA256,
    OLD_MEMORY_MULTIPLIER,
    RETRIES,
    RUNG_PREFIX,
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

    rungs: tuple[RungScores, ...] = ()
    """What its rungs within epochs gave, in their order."""

    failure: str | None = None
    """Why it failed, in a line; None if its state is another one."""

    model_sha256: str | None = None
    """The checksum of the weights that it left; None if it left none, or if an early version ran it."""

    retries: int = 0
    """How often it was run again because its worker died."""

    memory_multiplier: int = 1
    """How many times the resources of an ordinary trial it needs, since its memory ran out."""

    confirms: int | None = None
    """The trial whose configuration it trains again from a fresh seed; None of a trial of the search."""

    @property
    def best_epoch(self) -> int | None:
        """The number of the best epoch, from 1."""
        return None if self.best is None else self.best.epoch

    @property
    def scored(self) -> list[EpochScores | RungScores]:
        """All that it was scored at, in the order of its schedule."""
        return sorted([*self.epochs, *self.rungs], key=lambda scored: scored.schedule_percent)

    @property
    def seconds(self) -> float:
        """Training and evaluation of all epochs, seconds; of one that was begun, up to its last rung."""
        begun = [scored.seconds for scored in self.scored[-1:] if isinstance(scored, RungScores)]
        return float(sum(epoch.seconds for epoch in self.epochs) + sum(begun))

    @property
    def collapsed(self) -> bool:
        """Whether the model of the best epoch gives every validation row the same class."""
        return self.best is not None and self.best.collapsed


def of_the_search(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials of the search, without those that train a finalist again."""
    return [record for record in records if record.confirms is None]


def every_trial_failed(records: Sequence[TrialRecord], num_trials: int) -> bool:
    """Whether a sweep has come to its end without a trial that ran its whole schedule."""
    searched = of_the_search(records)
    states = {record.state for record in searched}
    return len(searched) >= num_trials and "RUNNING" not in states and "COMPLETE" not in states


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
    try:
        epochs = tuple(
            sorted(map(EpochScores.from_json, _under(EPOCH_PREFIX, attributes)), key=lambda epoch: epoch.epoch)
        )
        rungs = tuple(sorted(map(RungScores.from_json, _under(RUNG_PREFIX, attributes)), key=lambda rung: rung.steps))
        best = best_epoch(epochs, metric, mode)
        return TrialRecord(
            number=number,
            state=state,
            config=TrialConfig.from_values(config),
            seed=attributes.get(SEED),
            epochs=epochs,
            best=best,
            value=best.scores[metric] if best is not None else None,
            rungs=rungs,
            # A driver may have died after it wrote the reason, and the trial may have ended well when it was run again.
            failure=attributes.get(FAILURE) if state == "FAIL" else None,
            model_sha256=attributes.get(MODEL_SHA256),
            retries=int(attributes.get(RETRIES, 0)),
            memory_multiplier=int(attributes.get(MEMORY_MULTIPLIER, attributes.get(OLD_MEMORY_MULTIPLIER, 1))),
            confirms=attributes.get(CONFIRMS),
        )
    except ValueError as error:
        raise ValueError(f"trial {number}: {error}") from error


def _under(prefix: str, attributes: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
    for key, flat in attributes.items():
        if key.startswith(prefix):
            if not isinstance(flat, Mapping):
                raise ValueError(f"{key} is no object")
            yield flat


def newest_scores(result: Mapping[str, Any]) -> EpochScores | RungScores | None:
    """What a worker has newly scored; None where it only reported that it got on. `result_problem` finds none."""
    if "history" in result:
        return EpochScores.from_json(result)
    return RungScores.from_json(result["rungs"][-1]) if result.get("rungs") else None


def result_problem(result: Mapping[str, Any]) -> str | None:
    """Why what a worker reported can't be used, in words; None if it can.

    It is the reason that the worker itself gives for the trial's failure, or it names the value that is wrong.
    """
    if "failure" in result:
        return str(result["failure"])
    try:
        for point in result.get("curve", ()):
            CurvePoint.from_json(point)
        for rung in result.get("rungs", ()):
            RungScores.from_json(rung, every_score=True)
        if "history" in result or "segment" not in result:
            EpochScores.from_json(result, every_score=True)
    except ValueError as error:
        return str(error)
    return None
