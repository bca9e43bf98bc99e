"""Play a sweep through without training, to tell how long it takes: pure, from the seconds of an epoch.

The real stopping rule and the real choice of finalists decide. What trials score is made up, since nobody knows it. A
trial is as good as a normal number says. What it shows at a share of its schedule is correlated with that as much as
was measured for MiniLM-L6 on MRPC (`tune/stopping_rules/asha.py`). Many sweeps with other made-up scores give a
mean and a range.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean

import numpy as np

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.stopping_rules import STOPPING_RULES
from tune.sweep.confirmation import default_trial, finalists, next_finalist

# At these percents of their schedules, trials' scores are correlated so much with what they end with.
PERCENTS, CORRELATIONS = (12.5, 25.0, 50.0, 75.0, 100.0), (0.61, 0.7, 0.71, 0.92, 1.0)
SEED_SD = 0.3  # of a configuration's scores from seed to seed, where the sd between configurations is 1
FINALISTS_PASSED_ON = 12  # more trials than these never become finalists
SIMULATED_TRIALS = 4000  # in all simulated sweeps together
FEWEST_SWEEPS, MOST_SWEEPS = 20, 60


@dataclass(frozen=True)
class Costs:
    """What the parts of a trial take, seconds."""

    train_epoch_s: Mapping[int, float]
    """By batch size: training of an epoch. Of batch sizes between these, the seconds lie between theirs."""
    eval_s: float
    """An evaluation of the validation split."""
    start_s: float = 0.0
    """Until a worker trains for the first time."""
    trial_s: float = 0.0
    """What a trial takes beside training and evaluation."""
    report_s: float = 0.0
    """What each report of a trial takes."""

    def epoch_s(self, batch_size: int) -> float:
        """Seconds of an epoch's training with a batch size, which may lie between those that were measured."""
        sizes = sorted(self.train_epoch_s)
        seconds = [self.train_epoch_s[size] for size in sizes]
        return float(np.interp(math.log(batch_size), np.log(sizes), seconds))


@dataclass(frozen=True)
class Simulated:
    """How long a sweep takes."""

    search_s: float
    """Until the last trial of the search has ended, the workers' start included."""
    confirm_s: float
    """The finalists' fresh runs after that."""
    busy_s: float
    """Seconds that all trials together occupy their slots."""
    fresh_runs: float
    """How many fresh runs there are."""
    scored_runs: float
    """Of how many of these the model is scored on the test split: the winner's and the default's."""

    @property
    def trials_s(self) -> float:
        """The search and the fresh runs, seconds."""
        return self.search_s + self.confirm_s


@dataclass(frozen=True)
class Expected:
    """Many simulated sweeps."""

    mean: Simulated
    low_s: float
    """Nine of ten sweeps take at least about this long (search and fresh runs)."""
    high_s: float
    """Nine of ten sweeps take at most about this long."""


def expect(
    spec: SweepSpec,
    configs: Sequence[TrialConfig],
    costs: Costs,
    slots: int,
    rows: int,
    *,
    early_stopping: bool = True,
    spent_s: float = 0.0,
) -> Expected:
    """Simulate sweeps that try these configurations.

    Args:
        spec: The sweep's.
        configs: Of the trials that are left, in their order.
        costs: Seconds.
        slots: How many trials run side by side.
        rows: Rows of the training split.
        early_stopping: Whether the spec's stopping rule decides; else every trial runs its whole schedule.
        spent_s: What earlier trials of the search have trained.
    """
    rule = spec.scheduler if early_stopping else "none"
    sweeps = min(MOST_SWEEPS, max(FEWEST_SWEEPS, SIMULATED_TRIALS // max(1, len(configs))))
    found = [_Sweep(spec, configs, costs, slots, rows, rule, seed).run(spent_s) for seed in range(sweeps)]
    mean = Simulated(*(fmean(getattr(each, name) for each in found) for name in Simulated.__dataclass_fields__))
    low, high = np.quantile([each.trials_s for each in found], (0.1, 0.9))
    return Expected(mean, float(low), float(high))


@dataclass(order=True)
class _Run:
    """A trial that runs: when its next score comes, and which."""

    at_s: float
    number: int
    step: int
    began_s: float
    seconds: float


class _Sweep:
    """One sweep with made-up scores."""

    def __init__(
        self, spec: SweepSpec, configs: Sequence[TrialConfig], costs: Costs, slots: int, rows: int, rule: str, seed: int
    ) -> None:
        self.spec, self.configs, self.costs, self.slots, self.rows = spec, configs, costs, max(1, slots), rows
        entry = STOPPING_RULES[rule]
        self.rule = entry.make(spec.mode, spec.reduction_factor)
        self.rungs = entry.rungs_percent
        self.seed = seed
        self.busy_s = 0.0
        self._known_percents: dict[tuple[int, int], list[float]] = {}

    def run(self, spent_s: float) -> Simulated:
        ended, search_s = self._search()
        records = _passed_on(ended, self.spec, spent_s)
        fresh, confirm_s = self._confirm(records, search_s) if self.configs else ([], 0.0)
        winner = self._winner(records + fresh)
        default = default_trial(records, self.spec)
        scored = [run for run in fresh if run.config in [each.config for each in (winner, default) if each is not None]]
        return Simulated(search_s, confirm_s, self.busy_s, len(fresh), len(scored) or 1)

    def _search(self) -> tuple[list[TrialRecord], float]:
        """The trials of the search, and when the last of them ended."""
        running: list[_Run] = []
        ended: list[TrialRecord] = []
        waiting = iter(range(len(self.configs)))
        end_s = 0.0

        def begin(number: int, at_s: float) -> None:
            heapq.heappush(running, _Run(at_s + self._lasts(number, 0), number, 0, at_s, 0.0))

        for number in [number for _, number in zip(range(self.slots), waiting, strict=False)]:
            begin(number, self.costs.start_s)
        while running:
            run = heapq.heappop(running)
            percent = self._percents(run.number)[run.step]
            score = self._shown(run.number, percent)
            goes_on = self.rule.report(run.number, percent, score if self.spec.mode == "max" else -score, -score)
            seconds = run.seconds + self._lasts(run.number, run.step)
            if goes_on and percent < 100:
                after = run.at_s + self._lasts(run.number, run.step + 1)
                heapq.heappush(running, _Run(after, run.number, run.step + 1, run.began_s, seconds))
                continue
            state = "COMPLETE" if percent >= 100 else "PRUNED"
            ended.append(self._record(run.number, state, self.configs[run.number], percent, score, seconds))
            end_s = run.at_s + self.costs.trial_s
            self.busy_s += end_s - run.began_s
            if (following := next(waiting, None)) is not None:
                begin(following, end_s)
        return ended, max([end_s, self.costs.start_s])

    def _confirm(self, records: list[TrialRecord], began_s: float) -> tuple[list[TrialRecord], float]:
        """The fresh runs, and how long they take."""
        begun: dict[int, TrialRecord] = {}
        ends: list[tuple[float, int]] = []
        now_s = began_s
        warm = 1  # Tune ends workers that wait: when the last trial of the search ends, its worker alone is left
        while True:
            found = None
            if len(ends) < self.slots:
                found = next_finalist([*records, *begun.values()], self.spec, lambda run: True)
            if found is not None:
                number = len(self.configs) + len(begun)
                seconds = found.config.epochs * (self.costs.epoch_s(found.config.batch_size) + self.costs.eval_s)
                value = self._truth(found.number) + SEED_SD * self._normal(number, 1)
                record = self._record(number, "RUNNING", found.config, 100.0, value, seconds)
                begun[number] = replace(record, confirms=found.number)
                lasts = seconds + self.costs.trial_s + found.config.epochs * self.costs.report_s
                lasts += 0.0 if warm else self.costs.start_s
                warm = max(0, warm - 1)
                heapq.heappush(ends, (now_s + lasts, number))
                self.busy_s += lasts
                continue
            if not ends:
                return list(begun.values()), now_s - began_s
            now_s, number = heapq.heappop(ends)
            warm += 1
            begun[number] = replace(begun[number], state="COMPLETE", model_sha256="")

    def _winner(self, records: list[TrialRecord]) -> TrialRecord | None:
        group = [each for each in finalists(records, self.spec) if each.mean is not None]
        sign = 1 if self.spec.mode == "max" else -1
        return max(group, key=lambda each: sign * (each.mean or 0.0)).record if group else None

    # What trials take, and what they show

    def _percents(self, number: int) -> list[float]:
        """The shares of its schedule at which a trial is scored."""
        config = self.configs[number]
        if (known := self._known_percents.get((config.batch_size, config.epochs))) is not None:
            return known
        an_epoch = config.steps_per_epoch(self.rows)
        steps = {math.ceil(percent * an_epoch * config.epochs / 100) for percent in self.rungs}
        steps |= {an_epoch * (epoch + 1) for epoch in range(config.epochs)}
        percents = [100.0 * step / (an_epoch * config.epochs) for step in sorted(steps)]
        self._known_percents[config.batch_size, config.epochs] = percents
        return percents

    def _lasts(self, number: int, step: int) -> float:
        """From one score of a trial to the next, seconds."""
        config, percents = self.configs[number], self._percents(number)
        share = (percents[step] - (percents[step - 1] if step else 0.0)) / 100
        train_s = share * config.epochs * self.costs.epoch_s(config.batch_size)
        return train_s + self.costs.eval_s + self.costs.report_s

    def _normal(self, number: int, purpose: int) -> float:
        """A number that no other trial, purpose or order of events changes."""
        return Random(f"{self.seed}/{number}/{purpose}").gauss()

    def _truth(self, number: int) -> float:
        return self._normal(number, 0)

    def _shown(self, number: int, percent: float) -> float:
        """What a trial scores at a share of its schedule; the larger the better."""
        known = float(np.interp(percent, PERCENTS, CORRELATIONS))
        return known * self._truth(number) + math.sqrt(1 - known**2) * self._normal(number, 2 + int(percent))

    def _record(
        self, number: int, state: str, config: TrialConfig, percent: float, score: float, seconds: float
    ) -> TrialRecord:
        value = score if self.spec.mode == "max" else -score
        epoch = EpochScores(
            epoch=1,
            schedule_percent=percent,
            train_loss=0.0,
            scores={"loss": -score, self.spec.metric: value},
            collapsed=False,
            learning_rate=config.learning_rate,
            examples_per_second=0.0,
            began_at=0.0,
            train_s=seconds,
            eval_s=0.0,
            peak_memory_mib=0.0,
        )
        return TrialRecord(number, state, config, 0, (epoch,), epoch, value)


def _passed_on(ended: Sequence[TrialRecord], spec: SweepSpec, spent_s: float) -> list[TrialRecord]:
    """The trials that may become finalists, and one that has the training time of all others."""
    sign = 1 if spec.mode == "max" else -1
    best = sorted(ended, key=lambda record: (record.state != "COMPLETE", -sign * (record.value or 0.0)))
    kept = best[:FINALISTS_PASSED_ON]
    default = default_trial(ended, spec)
    if default is not None and default not in kept:
        kept.append(default)
    numbers = {record.number for record in kept}
    others_s = spent_s + sum(record.seconds for record in ended if record.number not in numbers)
    if others_s and ended:
        rest = next((record for record in ended if record.number not in numbers), ended[0])
        epoch = replace(rest.epochs[0], train_s=others_s)
        kept.append(replace(rest, number=-1, state="FAIL", epochs=(epoch,), best=None, value=None))
    return kept
