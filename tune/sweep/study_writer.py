"""The only writer of study.db, beside Optuna itself when it begins a trial and notes what was proposed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, RungScores
from tune.run_dir.attributes import (
    CONFIG,
    CONFIRMS,
    DEATHS,
    DIED_AT,
    EPOCH_PREFIX,
    FAILURE,
    MEMORY_MULTIPLIER,
    MODEL_SHA256,
    OLD_MEMORY_MULTIPLIER,
    RETRIES,
    RUNG_PREFIX,
    SEED,
)
from tune.run_dir.layout import WEIGHTS, RunDir
from tune.run_dir.records import TrialRecord
from tune.run_dir.study import record_of
from tune.spec.sweep_spec import SweepSpec

PUBLISH_EVERY_S = 30.0  # while epochs come in, an object store's copy of the study is at most so old


@dataclass(frozen=True)
class OpenTrial:
    """A trial that is handed out, as the study has it."""

    trial: Trial
    """Optuna's handle of it."""
    config: TrialConfig
    """Its hyperparameters."""
    memory_multiplier: int
    """How many times the resources of an ordinary trial it gets."""
    objectives: dict[int, float]
    """The objective of each epoch that the study has, by the epoch's number."""


class StudyWriter:
    """Writes configurations, epochs, retries and ends of trials into the study.

    Every write is on disk when the method returns: the study is the sweep's only memory.
    """

    def __init__(self, spec: SweepSpec, run_dir: RunDir, study: Study) -> None:
        self._spec = spec
        self._run_dir = run_dir
        self._study = study
        self._open: dict[int, OpenTrial] = {}
        self._published = time.monotonic()

    def trial(self, number: int) -> Trial:
        """Optuna's handle of a trial that was begun before."""
        return Trial(self._study, self._frozen(number)._trial_id)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def repeat(self, finalist: TrialRecord) -> Trial:
        """Begin a trial that trains a finalist's configuration again.

        It has no parameters, since no sampler may take it for a point that was proposed.
        """
        attributes = {CONFIG: finalist.config.named(), CONFIRMS: finalist.number}
        template = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
        return Trial(self._study, self._study._storage.create_new_trial(self._study._study_id, template))

    def open(self, trial: Trial, propose: Callable[[Trial], TrialConfig], seed: int) -> OpenTrial:
        """Note the configuration and the seed of a trial that is handed out.

        Args:
            trial: The trial.
            propose: Makes its configuration, if the study has none yet.
            seed: Of its training.
        """
        attributes = trial.user_attrs
        if CONFIG in attributes:
            config = TrialConfig.from_values(attributes[CONFIG])
        else:
            config = propose(trial)
            trial.set_user_attr(CONFIG, config.named())
        if attributes.get(SEED) != seed:
            trial.set_user_attr(SEED, seed)
        opened = self._open[trial.number] = OpenTrial(
            trial=trial,
            config=config,
            memory_multiplier=int(attributes.get(MEMORY_MULTIPLIER, attributes.get(OLD_MEMORY_MULTIPLIER, 1))),
            objectives={
                int(flat["epoch"]): float(flat[self._spec.metric])
                for key, flat in attributes.items()
                if key.startswith(EPOCH_PREFIX)
            },
        )
        return opened

    def record_epochs(self, number: int, history: Sequence[EpochScores]) -> list[EpochScores]:
        """Write those epochs of an open trial that the study does not have, or has with another objective.

        The worker reports the trial's whole history, since its state on disk may be newer than the last epoch that a
        dead driver recorded. An epoch that was run again may differ, because another machine rounds differently. It
        then replaces the old one: the model on disk is the newer one's.

        Returns:
            The epochs that were written.
        """
        opened, written = self._open[number], []
        for epoch in history:
            objective = epoch.scores[self._spec.metric]
            if opened.objectives.get(epoch.epoch) == objective:
                continue
            # Trial.report would keep the first value of a step.
            self._study._storage.set_trial_intermediate_value(opened.trial._trial_id, epoch.epoch, objective)
            opened.trial.set_user_attr(f"{EPOCH_PREFIX}{epoch.epoch}", epoch.as_json())
            opened.objectives[epoch.epoch] = objective
            written.append(epoch)
        if time.monotonic() - self._published > PUBLISH_EVERY_S:
            self._publish()
        return written

    def record_rungs(self, number: int, rungs: Sequence[RungScores]) -> list[RungScores]:
        """Write those rungs of an open trial that the study does not have, or has with other scores; returns them."""
        trial, written = self._open[number].trial, []
        attributes = trial.user_attrs
        for rung in rungs:
            key, flat = f"{RUNG_PREFIX}{rung.steps}", rung.as_json()
            if attributes.get(key) != flat:
                trial.set_user_attr(key, flat)
                written.append(rung)
        return written

    def opened(self, number: int) -> OpenTrial:
        """What was noted when an open trial was handed out."""
        return self._open[number]

    def deaths(self, number: int) -> tuple[int, int]:
        """How often an open trial's worker died without progress, and the most steps it had done at a death."""
        attributes = self._open[number].trial.user_attrs
        return int(attributes.get(DEATHS, attributes.get(RETRIES, 0))), int(attributes.get(DIED_AT, 0))

    def put_back(
        self, number: int, *, deaths: tuple[int, int] | None = None, memory_multiplier: int | None = None
    ) -> None:
        """Note why an open trial is run again; from now on it is not open.

        Args:
            number: The trial.
            deaths: If its worker died: what `deaths` is to say from now on.
            memory_multiplier: How many times the resources of an ordinary trial it needs, as has turned out.
        """
        trial = self._open[number].trial
        if deaths is not None:
            trial.set_user_attr(DEATHS, deaths[0])
            trial.set_user_attr(DIED_AT, deaths[1])
            trial.set_user_attr(RETRIES, int(trial.user_attrs.get(RETRIES, 0)) + 1)
        if memory_multiplier is not None:
            trial.set_user_attr(MEMORY_MULTIPLIER, memory_multiplier)
        del self._open[number]

    def finish(self, number: int, state: TrialState, failure: str | None) -> TrialRecord:
        """Close an open trial.

        Args:
            number: The trial.
            state: COMPLETE, PRUNED or FAIL.
            failure: Why it failed, in a line; None if it did not.
        """
        trial = self._open[number].trial
        if failure is not None:
            trial.set_user_attr(FAILURE, failure)
        if (sha256 := self._run_dir.storage.sha256(self._run_dir.model(number), WEIGHTS)) is not None:
            trial.set_user_attr(MODEL_SHA256, sha256)
        record = record_of(self._frozen(number), self._spec.metric, self._spec.mode)
        # Optuna itself takes the last reported value for a pruned trial's.
        self._study.tell(trial, record.value if state == TrialState.COMPLETE else None, state=state)
        self._publish()  # before the trial's states are removed, from which it could be finished again
        del self._open[number]
        return replace(record, state=state.name, failure=failure)

    def _publish(self) -> None:
        self._run_dir.publish_progress()
        self._published = time.monotonic()
