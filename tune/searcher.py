"""The bridge between Ray Tune and the Optuna study, which alone remembers what happened.

A trial's durable name is its Optuna number. Continuing means: trials that a dead driver left RUNNING are issued
again under their number, seed and configuration; what remains of num_trials is asked for as before.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from trainable.config import RULES
from trainable.storage import write_text
from tune.records import EPOCH_PREFIX, TrialRecord, open_study, read_records, record_of
from tune.rundir import RunDir
from tune.selection import rank
from tune.space import distributions, fixed_values
from tune.spec import SweepSpec

TPE_STARTUP_TRIALS = 6  # random ones, before the model of good configurations is asked


def derived_seed(seed: int, number: int, what: str) -> int:
    """A 31-bit seed for trial `number` of a sweep: for its `sampler`, or its `training`."""
    digest = hashlib.sha256(f"{seed}/{number}/{what}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


class TrialBook:
    """Asks the study for configurations and writes everything into it. The only writer of study.db."""

    def __init__(self, spec: SweepSpec, run_dir: RunDir) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self.study = open_study(run_dir.study_file, spec.name, spec.mode)
        trials = self.study.get_trials(deepcopy=False)
        self._to_reissue = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        self._trials: dict[int, Trial] = {}
        self._epochs_known: dict[int, set[int]] = {}
        self._issued = len(trials)
        self.finished = sum(trial.state.is_finished() for trial in trials)
        records = self.records()
        ranked = rank(records, spec.mode)
        self.leader = ranked[0] if ranked else None
        for record in records:
            if record.state != "RUNNING" and record != self.leader:
                self._drop(record)
        self._note_leader()

    @property
    def remaining(self) -> int:
        """How many trials are still to be issued."""
        return max(len(self._to_reissue), self.spec.num_trials - self.finished)

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial so far."""
        return read_records(self.study, self.spec.metric, self.spec.mode)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    # Issuing

    def issue(self) -> dict[str, Any]:
        """The next trial as Tune's config: one that was left open, a point of the user's, or a proposal."""
        if self._to_reissue:
            frozen = self._frozen(self._to_reissue.pop(0))
            trial = Trial(self.study, frozen._trial_id)
        else:
            trial = self._ask()
        number = trial.number
        attributes = trial.user_attrs
        config = {**fixed_values(self.spec.space), **trial.params, **self._point(number)}
        typed = {
            name: None if config[name] is None else rule.type(config[name])
            for name, rule in RULES.items()
            if name in config
        }
        seed = derived_seed(self.spec.seed, number, "training")
        if "seed" not in attributes:
            trial.set_user_attr("config", typed)
            trial.set_user_attr("seed", seed)
        self._trials[number] = trial
        self._epochs_known[number] = {int(e["epoch"]) for k, e in attributes.items() if k.startswith(EPOCH_PREFIX)}
        return {"number": number, "seed": seed, "values": typed, "folder": str(self.run_dir.trial(number))}

    def _point(self, number: int) -> Mapping[str, Any]:
        return self.spec.points[number] if number < len(self.spec.points) else {}

    def _ask(self) -> Trial:
        # A new sampler for every trial, seeded by the trial's number: a driver that starts again does not propose
        # the same configurations again, and random search gives trial n the same one whatever happened before.
        number, self._issued = self._issued, self._issued + 1
        seed = derived_seed(self.spec.seed, number, "sampler")
        if self.spec.sampler == "random":
            self.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=TPE_STARTUP_TRIALS)
        point = self._point(number)
        searched = distributions(self.spec.space, point)
        if any(name in searched for name in point):
            self.study.enqueue_trial({name: value for name, value in point.items() if name in searched})
        return self.study.ask(searched)

    # Recording

    def record_epoch(self, number: int, result: Mapping[str, Any]) -> None:
        """Write one epoch's metrics; an epoch that is there already stays as it is."""
        epoch = int(result["epoch"])
        if epoch in self._epochs_known[number]:
            return
        trial = self._trials[number]
        trial.set_user_attr(f"{EPOCH_PREFIX}{epoch}", dict(result))
        trial.report(float(result[self.spec.metric]), step=epoch)
        self._epochs_known[number].add(epoch)

    def finish(self, number: int, state: TrialState, failure: str | None = None) -> TrialRecord:
        """Close a trial in the study, and keep on disk only the model that leads."""
        trial = self._trials.pop(number)
        if failure is not None:
            trial.set_user_attr("failure", failure)
        record = record_of(self._frozen(number), self.spec.metric, self.spec.mode)
        # A pruned trial's value in the study is the last one that it reported, which Optuna takes by itself.
        self.study.tell(trial, record.value if state == TrialState.COMPLETE else None, state=state)
        record = replace(record, state=state.name)
        self.finished += 1
        loser: TrialRecord | None = record
        if rank([record, *([self.leader] if self.leader else [])], self.spec.mode)[:1] == [record]:
            loser, self.leader = self.leader, record
            shutil.rmtree(self.run_dir.trial(number) / "state", ignore_errors=True)
            self._note_leader()
        if loser is not None:
            self._drop(loser)
        return record

    def _note_leader(self) -> None:
        """Tell running trials what they have to beat."""
        if self.leader is not None:
            facts = {"trial": self.leader.number, "value": self.leader.value}
            write_text(self.run_dir.incumbent_file, json.dumps(facts) + "\n")

    def _drop(self, record: TrialRecord) -> None:
        """Remove a finished trial's model and states: it can't win any more."""
        shutil.rmtree(self.run_dir.model(record.number), ignore_errors=True)
        shutil.rmtree(self.run_dir.trial(record.number) / "state", ignore_errors=True)


class StudySearcher(Searcher):
    """Tune's searcher: hands out what the book issues. Results go into the book through the sweep's callback."""

    def __init__(self, book: TrialBook) -> None:
        super().__init__(metric=book.spec.metric, mode=book.spec.mode)
        self.book = book

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into a snapshot that nobody reads

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Tune's config of the next trial."""
        return self.book.issue()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback knows the trial's true end."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""
