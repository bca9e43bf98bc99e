"""Confirmation: after the search its best configurations are trained again from fresh seeds. Pure decisions.

The best of many noisy scores flatters: the search finds lucky seeds. Here the finalists meet again with seeds that no
decision has touched, and the best mean wins; the seed that a configuration was found with does not count. Each decision
follows from the study's records alone, so that a driver that is started again goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.confirm import LEAST_SEEDS, MOST_FINALISTS, MOST_SEEDS, SHARE_OF_SEARCH, finalists_and_seeds
from tune.spec.sweep_spec import SweepSpec
from tune.spec.untuned import untuned_values

MOST_FAILURES = 2  # of a finalist's fresh runs, after which it gets no more
BEHIND = 2.0  # standard errors

HasModel = Callable[[TrialRecord], bool]
Fits = Callable[["Finalist"], bool]
"""Whether the time is left for a fresh run of a finalist."""


@dataclass(frozen=True)
class Finalist:
    """A configuration that is trained again, and what came of it."""

    record: TrialRecord
    """The search's best trial of this configuration."""
    runs: tuple[TrialRecord, ...]
    """Its fresh runs that ran their whole schedule, in their order."""
    open: int
    """How many of its fresh runs are not finished."""
    failed: int
    """How many of them failed."""
    is_default: bool
    """Whether it is the untuned default."""

    @property
    def begun(self) -> int:
        """How many fresh runs it was given."""
        return len(self.runs) + self.open + self.failed

    @property
    def values(self) -> list[float]:
        """The objective of each fresh run at its best epoch."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float | None:
        """The mean of the values; None without any."""
        return fmean(self.values) if self.values else None

    @property
    def run_s(self) -> float:
        """About how long a fresh run takes: as the ones before, or as its trial in the search with a whole schedule."""
        if self.runs:
            return fmean(run.seconds for run in self.runs)
        percent = self.record.scored[-1].schedule_percent if self.record.scored else 100.0
        return self.record.seconds * 100.0 / percent


@dataclass(frozen=True)
class Chosen:
    """What a sweep has found: the winning configuration, and the run of it that is handed over."""

    finalist: TrialRecord
    """The trial of the search that found the configuration."""
    run: TrialRecord
    """The trial whose model is handed over: one of its fresh runs, or itself where nothing was confirmed."""
    runs: tuple[TrialRecord, ...]
    """Its fresh runs; none where nothing was confirmed."""


def default_trial(records: Sequence[TrialRecord], spec: SweepSpec) -> TrialRecord | None:
    """The search's trial of the untuned default; None where none was run, or it failed."""
    wanted = untuned_values(spec).items()
    ended = (record for record in of_the_search(records) if record.state in ("COMPLETE", "PRUNED"))
    return next((record for record in ended if wanted <= record.config.all_values().items()), None)


def finalists(records: Sequence[TrialRecord], spec: SweepSpec) -> list[Finalist]:
    """The configurations that are trained again, best of the search first; the default is among them.

    What an earlier driver has trained again stays a finalist, also when the search has gone on since.
    """
    if spec.confirm == "none" and not any(record.confirms is not None for record in records):
        return []
    default = default_trial(records, spec)
    best: list[TrialRecord] = []
    for record in rank(records, spec.metric, spec.mode):
        if all(record.config != other.config for other in best):
            best.append(record)
    again = {record.confirms for record in records}
    chosen = [record for i, record in enumerate(best) if i < _most_finalists(spec) or record.number in again]
    if default is not None and all(record.config != default.config for record in chosen):
        chosen.append(default)
    return [_finalist(record, records, default) for record in chosen]


def _finalist(record: TrialRecord, records: Sequence[TrialRecord], default: TrialRecord | None) -> Finalist:
    runs = [each for each in records if each.confirms is not None and each.config == record.config]
    return Finalist(
        record=record,
        runs=tuple(run for run in runs if run.state == "COMPLETE" and run.best is not None),
        open=sum(run.state == "RUNNING" for run in runs),
        failed=sum(run.state == "FAIL" for run in runs),
        is_default=default is not None and record.config == default.config,
    )


def _most_finalists(spec: SweepSpec) -> int:
    asked_for = finalists_and_seeds(spec)
    return MOST_FINALISTS if asked_for is None else asked_for[0]


def next_finalist(
    records: Sequence[TrialRecord], spec: SweepSpec, has_model: HasModel, fits: Fits = lambda finalist: True
) -> TrialRecord | None:
    """The trial whose configuration is to be trained again next; None where nothing is, as far as is known now.

    Args:
        records: Every trial of the study. The search is over.
        spec: The sweep's.
        has_model: Whether the model of a run is still there.
        fits: Whether the budget has room for a fresh run of a finalist.
    """
    if not rank(records, spec.metric, spec.mode):
        return None
    group = finalists(records, spec)
    wanted = _with_numbers(group, spec) if finalists_and_seeds(spec) else _by_race(group, records, spec)
    following = None if spec.confirm == "none" else next(filter(fits, wanted), None)
    if following is not None or any(each.open for each in group):
        return None if following is None else following.record
    winner = _winner(group, spec)  # what was removed when another one won is trained again
    if winner is None or winner.failed > MOST_FAILURES or any(map(has_model, winner.runs)):
        return None
    return winner.record if winner.runs[-1].model_sha256 is not None else None  # else another would leave none, either


def _with_numbers(group: Sequence[Finalist], spec: SweepSpec) -> Iterator[Finalist]:
    """Each finalist in turn, as often as was asked for."""
    seeds = (finalists_and_seeds(spec) or (0, 0))[1]
    for begun in range(seeds):
        yield from (each for each in group if each.begun <= begun and each.failed <= MOST_FAILURES)


def _by_race(group: Sequence[Finalist], records: Sequence[TrialRecord], spec: SweepSpec) -> Iterator[Finalist]:
    """First the search's winner and the default; then whoever may still win, as long as the time lasts.

    The default is a yardstick. Where it is not among the best, two seeds of it are enough.
    """
    group = [each for each in group if each.failed <= MOST_FAILURES]
    must = [each for i, each in enumerate(group) if i == 0 or each.is_default]
    for begun in range(LEAST_SEEDS):
        yield from (each for each in must if each.begun <= begun)
    best = [record.config for record in rank(records, spec.metric, spec.mode)[:MOST_FINALISTS]]
    racing = [each for each in group if each.record.config in best]
    left_s = SHARE_OF_SEARCH * sum(record.seconds for record in of_the_search(records))
    left_s -= sum(sum(run.seconds for run in each.runs) + each.open * each.run_s for each in group)
    # One seed alone shows nothing: who has one gets the second before others get their first.
    for each in sorted(racing, key=lambda each: (each.begun in (0, *range(LEAST_SEEDS, MOST_SEEDS)), each.begun)):
        lacking = max(1, LEAST_SEEDS - each.begun)  # a finalist with one seed could win by luck
        fits = each.begun < MOST_SEEDS and lacking * each.run_s <= left_s
        if fits and not is_behind(each, group, spec):
            yield each


def is_behind(finalist: Finalist, group: Sequence[Finalist], spec: SweepSpec) -> bool:
    """Whether a finalist's fresh runs are so far behind the best ones' that more of them would change nothing.

    The spread between seeds is that of all finalists together, whose degrees of freedom are too few on their own.
    """
    leader = _winner(group, spec)
    if leader is None or leader.mean is None or finalist.mean is None or leader.record == finalist.record:
        return False
    degrees = sum(len(each.values) - 1 for each in group if each.values)
    squares = sum((value - fmean(each.values)) ** 2 for each in group for value in each.values)
    if not degrees:
        return False
    error = math.sqrt(squares / degrees * (1 / len(finalist.values) + 1 / len(leader.values)))
    behind = leader.mean - finalist.mean if spec.mode == "max" else finalist.mean - leader.mean
    return behind > BEHIND * error > 0


def _winner(group: Sequence[Finalist], spec: SweepSpec) -> Finalist | None:
    """The finalist of the best mean; of those with one fresh run only where none has more. Of equals the first."""
    confirmed = [each for each in group if each.mean is not None]
    several = [each for each in confirmed if len(each.values) >= LEAST_SEEDS]
    sign = 1 if spec.mode == "max" else -1
    return max(several or confirmed, key=lambda each: sign * (each.mean or 0.0), default=None)


def choose(records: Sequence[TrialRecord], spec: SweepSpec, has_model: HasModel) -> Chosen | None:
    """The winner, and which run of it is handed over; None where no trial has run its whole schedule.

    Args:
        records: Every trial of the study.
        spec: The sweep's.
        has_model: Whether the model of a run is still there.
    """
    ranked = rank(records, spec.metric, spec.mode)
    if not ranked:
        return None
    group = finalists(records, spec)
    winner = _winner(group, spec)
    # Where a search is ended early, others may have been trained again, and not yet the one that leads.
    leader_waits = bool(group) and group[0].begun == group[0].open
    if winner is None or ((spec.confirm == "none" or leader_waits) and has_model(ranked[0])):
        return Chosen(ranked[0], ranked[0], ())
    runs = sorted(winner.runs, key=lambda run: run.best.merit(spec.metric, spec.mode) if run.best else (), reverse=True)
    middle = 0 if spec.final == "best" else (len(runs) - 1) // 2
    by_distance = sorted(range(len(runs)), key=lambda i: (abs(i - middle), i))
    found = next((run for run in chain((runs[i] for i in by_distance), [winner.record]) if has_model(run)), None)
    return Chosen(winner.record, found or runs[middle], winner.runs)
