"""The bridge between Ray Tune and the Optuna study, which alone remembers what happened.

A trial's durable name is its Optuna number. Continuing means: trials that a dead driver left RUNNING are issued
again under their number, seed and configuration; what remains of num_trials is asked for as before.
"""

from __future__ import annotations

import hashlib
import json
import time
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Thread
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from trainable.config import TrialConfig
from trainable.errors import UserError
from trainable.job import Assignment
from trainable.storage.folders import write_folder, write_text
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
from tune.run_dir.integrity import leaders_model_is_gone
from tune.run_dir.layout import WEIGHTS, RunDir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.run_dir.study import open_study, read_records, record_of
from tune.samplers import SAMPLERS
from tune.spec.space import distributions, fixed_values
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.halt import Halt

BACK_OFF_S = 1.0  # before a trial's first retry; twice as long before each further one
PUBLISH_EVERY_S = 30.0  # what an object store has of the study is at most so old while epochs come in


def derived_seed(seed: int, number: int, what: str) -> int:
    """A 31-bit seed for trial `number` of a sweep: for its `sampler`, or its `training`."""
    digest = hashlib.sha256(f"{seed}/{number}/{what}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


class TrialBook:
    """Asks the study for configurations and writes everything into it. The only writer of study.db."""

    def __init__(self, spec: SweepSpec, run_dir: RunDir) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self.study = open_study(run_dir.study_file, spec.mode, run_dir.sweep_id)
        trials = self.study.get_trials(deepcopy=False)
        # Left open by a dead driver, or to be run again since their worker died: (not before, number), soonest first.
        self._again = [(0.0, trial.number) for trial in trials if trial.state == TrialState.RUNNING]
        self._larger: list[int] = []  # these need more memory; they come last, when others leave them room
        self._searched = IntersectionSearchSpace(include_pruned=True)
        self._trials: dict[int, Trial] = {}
        self._configs: dict[int, Mapping[str, Any]] = {}  # of open trials
        self._epochs: dict[int, dict[int, Any]] = {}  # of open trials, as the study has them
        self._slowest_s: dict[int, float] = {}  # slowest epoch by batch size
        # A trial that waits was enqueued by a driver that died before it could ask for it.
        self._issued = sum(trial.state != TrialState.WAITING for trial in trials)
        self._waiting = self._issued < len(trials)
        self._published = time.monotonic()
        self.finished = sum(trial.state.is_finished() for trial in trials)
        records = self.records()
        for record in records:
            self._note_speed(record.config.named(), [epoch.as_json() for epoch in record.epochs])
        ranked = rank(records, spec.metric, spec.mode)
        self._leaders = ranked[: spec.keep_top]
        self._find_leaders_model()
        for record in records:
            if record.state != "RUNNING" and run_dir.storage.folders(run_dir.trial(record.number)):
                self._drop(record, with_model=record not in self._leaders)
        self._note_leader()

    @property
    def leader(self) -> TrialRecord | None:
        """The best trial so far."""
        return self._leaders[0] if self._leaders else None

    @property
    def leaders(self) -> list[TrialRecord]:
        """The best `keep_top` trials so far, whose models are kept."""
        return list(self._leaders)

    @property
    def remaining(self) -> int:
        """How many trials are still to be finished."""
        return max(len(self._again) + len(self._larger) + len(self._trials), self.spec.num_trials - self.finished)

    @property
    def open(self) -> int:
        """How many trials are handed out and not finished."""
        return len(self._trials)

    @property
    def all_issued(self) -> bool:
        """Whether every trial was handed out at least once and none waits to be run again."""
        return not self._again and not self._larger and self._issued >= self.spec.num_trials

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial so far."""
        return read_records(self.study, self.spec.metric, self.spec.mode)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    # Issuing

    def issue(self) -> Assignment | None:
        """The next trial for a worker: one that was left open, a point of the user's, or a proposal.

        None where there is nothing to run now.
        """
        number = self._due()
        if number is None and self._issued >= self.spec.num_trials:
            if not self._larger:
                return None
            number = self._larger.pop(0)
        trial = self._ask() if number is None else Trial(self.study, self._frozen(number)._trial_id)
        return self._assignment(trial)

    def _due(self) -> int | None:
        if self._again and self._again[0][0] <= time.monotonic():
            return self._again.pop(0)[1]
        return None

    def _assignment(self, trial: Trial) -> Assignment:
        number = trial.number
        attributes = trial.user_attrs
        typed = attributes.get(CONFIG)
        if typed is None:
            config = {**fixed_values(self.spec.space), **self._suggest(trial), **self._point(number)}
            typed = TrialConfig.from_values(config).named()
            trial.set_user_attr(CONFIG, typed)
        seed = derived_seed(self.spec.seed, number, "training")
        if attributes.get(SEED) != seed:
            trial.set_user_attr(SEED, seed)
        self._trials[number] = trial
        self._configs[number] = typed
        self._epochs[number] = {
            int(metrics["epoch"]): metrics for key, metrics in attributes.items() if key.startswith(EPOCH_PREFIX)
        }
        return Assignment(
            number=number,
            seed=seed,
            config=TrialConfig.from_values(typed),
            folder=str(self.run_dir.trial(number)),
            memory_multiplier=_memory_multiplier(attributes),
            epoch_s=self._expected_epoch_s(typed),
        )

    def _expected_epoch_s(self, config: Mapping[str, Any]) -> float | None:
        """How long an epoch is expected to take at most: as the slowest so far, or the slowest step by its steps."""
        batch_size = _batch_size(config)
        return max((s * max(1.0, size / batch_size) for size, s in self._slowest_s.items()), default=None)

    def _note_speed(self, config: Mapping[str, Any], epochs: Iterable[Mapping[str, Any]]) -> None:
        size = _batch_size(config)
        for epoch in epochs:
            self._slowest_s[size] = max(self._slowest_s.get(size, 0.0), epoch["train_s"] + epoch["eval_s"])

    def run_again(self, number: int) -> float | None:
        """Put back a trial whose worker died; returns after how many seconds, None where it died too often."""
        trial = self._trials[number]
        retries = int(trial.user_attrs.get(RETRIES, 0)) + 1
        if retries > self.spec.max_retries:
            return None
        trial.set_user_attr(RETRIES, retries)
        del self._trials[number]
        wait_s: float = BACK_OFF_S * 2.0 ** (retries - 1)
        insort(self._again, (time.monotonic() + wait_s, number))
        return wait_s

    def run_with_larger_share(self, number: int, largest: int) -> int | None:
        """Put back a trial that ran out of memory; returns its new share, None where it had the largest."""
        trial = self._trials[number]
        share = _memory_multiplier(trial.user_attrs) * 2
        if share > largest:
            return None
        trial.set_user_attr(MEMORY_MULTIPLIER, share)
        del self._trials[number]
        self._larger.append(number)
        return share

    def _point(self, number: int) -> Mapping[str, Any]:
        return self.spec.points[number].named() if number < len(self.spec.points) else {}

    def _ask(self) -> Trial:
        number, self._issued = self._issued, self._issued + 1
        point = self._point(number)
        searched = distributions(self.spec.space, point)
        fixed = {name: value for name, value in point.items() if name in searched}
        if fixed and not self._waiting:
            self.study.enqueue_trial(fixed)
        self._waiting = False
        return self.study.ask()

    def _suggest(self, trial: Trial) -> dict[str, Any]:
        """The trial's parameters. Those that it has already stay: a driver may have died between two of them.

        A new sampler for every parameter of every trial, seeded by both: a driver that starts again does not propose
        the same configurations again, and random search gives trial n the same one whatever happened before.
        """
        params: dict[str, Any] = {}
        for name, domain in distributions(self.spec.space, self._point(trial.number)).items():
            seed = derived_seed(self.spec.seed, trial.number, f"sampler {name}")
            self.study.sampler = SAMPLERS[self.spec.sampler].make(seed, self._searched)
            match domain:
                case FloatDistribution():
                    params[name] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
                case IntDistribution():
                    params[name] = trial.suggest_int(name, domain.low, domain.high, log=domain.log)
                case CategoricalDistribution():
                    params[name] = trial.suggest_categorical(name, domain.choices)
        return params

    # Recording

    def record_epochs(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the metrics of all epochs of a trial that the study does not have as they are.

        The whole history, since a state may be newer than the last epoch that a dead driver recorded; and what is
        there already is replaced where it differs (another machine rounds otherwise): the model on disk is the newest.
        """
        trial, known = self._trials[number], self._epochs[number]
        for metrics in history:
            epoch, value = int(metrics["epoch"]), float(metrics[self.spec.metric])
            if epoch in known and known[epoch][self.spec.metric] == value:
                continue
            # Not Trial.report, which keeps the first value of a step.
            self.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
            trial.set_user_attr(f"{EPOCH_PREFIX}{epoch}", dict(metrics))
            known[epoch] = metrics
            self._note_speed(self._configs[number], [metrics])
        if time.monotonic() - self._published > PUBLISH_EVERY_S:
            self._publish()

    def _publish(self) -> None:
        self.run_dir.publish_progress()
        self._published = time.monotonic()

    def finish(self, number: int, state: TrialState, failure: str | None = None) -> TrialRecord:
        """Close a trial in the study, and keep on disk only the model that leads."""
        trial = self._trials[number]
        if failure is not None:
            trial.set_user_attr(FAILURE, failure)
        if (sha256 := self.run_dir.storage.sha256(self.run_dir.model(number), WEIGHTS)) is not None:
            trial.set_user_attr(MODEL_SHA256, sha256)
        record = record_of(self._frozen(number), self.spec.metric, self.spec.mode)
        # A pruned trial's value in the study is the last one that it reported, which Optuna takes by itself.
        self.study.tell(trial, record.value if state == TrialState.COMPLETE else None, state=state)
        self._publish()  # before the states go from which the trial could be finished again
        del self._trials[number], self._configs[number], self._epochs[number]
        record = replace(record, state=state.name, failure=failure)
        self.finished += 1
        ranked = rank([*self._leaders, record], self.spec.metric, self.spec.mode)
        kept = ranked[: self.spec.keep_top]
        losers = [r for r in {r.number: r for r in [*self._leaders, record]}.values() if r not in kept]
        self._leaders = kept
        if record in kept:
            self._drop(record, with_model=False)
            self._note_leader()
        for loser in losers:
            self._drop(loser)
        return record

    def _note_leader(self) -> None:
        """Tell running trials what they have to beat."""
        if len(self._leaders) < self.spec.keep_top:  # what may lie there is not of this study
            self.run_dir.storage.remove(self.run_dir.incumbent_file)
            return
        last = self._leaders[-1]
        if last.best is not None:
            reached = last.best.merit(self.spec.metric, self.spec.mode)
            facts = {"trial": last.number, "value": last.value, "merit": reached}
            write_text(self.run_dir.incumbent_file, json.dumps(facts) + "\n")
            self.run_dir.storage.publish(self.run_dir.incumbent_file)

    def _find_leaders_model(self) -> None:
        """Take the leader's model back from best/ where its own folder is gone."""
        if self.leader is None:
            return
        found = self.run_dir.model_of(self.leader.number, self.leader.model_sha256)
        if found is None:
            raise UserError([leaders_model_is_gone(self.run_dir, self.leader.number)])
        if found == self.run_dir.best:
            write_folder(self.run_dir.model(self.leader.number), self.run_dir.copy_best_model)

    def keep_only_what_was_asked_for(self) -> None:
        """Remove the winner's own copy of its model, now that best/ has it; those of the next `keep_top` - 1 stay."""
        if self.leader is not None and self.run_dir.best_trial() == self.leader.number:
            self._drop(self.leader)

    def _drop(self, record: TrialRecord, with_model: bool = True) -> None:
        """Remove a finished trial's states, and its model where it can't win any more."""
        if with_model:
            self.run_dir.storage.remove(self.run_dir.model(record.number))
        self.run_dir.storage.remove(self.run_dir.state(record.number))


class StudySearcher(Searcher):
    """Tune's searcher: hands out what the book issues. Results go into the book through the sweep's callback.

    limit: how many trials may be open at a time, asked again for each
    """

    def __init__(
        self,
        book: TrialBook,
        halt: Halt,
        limit: Callable[[], int],
        when_all_issued: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(metric=book.spec.metric, mode=book.spec.mode)
        self._book = book
        self._halt = halt
        self._limit = limit
        self._when_all_issued = when_all_issued

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into a snapshot that nobody reads

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Tune's config of the next trial; None where none is to be started now."""
        with self._halt.on_error():
            if self._halt.error is None and self._book.remaining:
                if self._book.open >= self._limit():
                    return None
                assignment = self._book.issue()
                if self._book.all_issued and assignment is not None:
                    Thread(target=self._when_all_issued, daemon=True).start()
                return None if assignment is None else {"assignment": assignment}
        return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback knows the trial's true end."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""


def _memory_multiplier(attributes: Mapping[str, Any]) -> int:
    return int(attributes.get(MEMORY_MULTIPLIER, attributes.get(OLD_MEMORY_MULTIPLIER, 1)))


def _batch_size(config: Mapping[str, Any]) -> int:
    return int(config.get("batch_size", TrialConfig().batch_size))
