"""When a budget ends the search, and what still fits into it. Pure decisions on records and a clock.

What a sweep has to do after its search is reserved: the confirmation and the final scoring. So each budget of time or
money has two ends. At the first the search is over, at the second the sweep is. Both are given as seconds of the
sweep's own clock, which stands still while no driver runs.

`until_stable` follows the termination criterion of Makarova et al., "Automatic Termination for Hyperparameter
Optimization" (2022): what a search can still gain is nothing beside the standard error of the score that it optimizes.
How much it can gain is told by what it has gained of late, as Optuna's BestValueStagnationEvaluator does, which knows
no standard error. Optuna's evaluators that have a model of the gain need values of pruned trials, which have none here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from trainable.metrics import METRICS
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord, of_the_search
from tune.samplers.tpe import STARTUP_TRIALS
from tune.spec.budgets import gpu_hours_of, target_of, time_budget_s
from tune.spec.confirm import LEAST_SEEDS, MOST_FINALISTS, MOST_SEEDS, SHARE_OF_SEARCH, finalists_and_seeds
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.confirmation import Finalist, finalists

HOUR_S = 3600.0
TIME_MARGIN = 1.25  # of what is yet to be done over what was measured
END_S = (8.0, 60.0)  # the least and the most for what is imported and written at the end, and for the end of Ray
END_OF_START = 0.5  # that end, of the time in which this driver started: both are slow on a machine that is busy
LEAST_SHARE = 0.5  # of a budget, which the search gets at least where --confirm is auto
STABLE_TRIALS = 2 * STARTUP_TRIALS  # without an improvement; a third of all searches find none in so many after six

Noise = Callable[[TrialRecord], float]
"""The standard error of a trial's objective on the validation rows."""


@dataclass(frozen=True)
class Usage:
    """What a sweep has used so far, all its drivers together."""

    wall_s: float = 0.0
    """Time, seconds."""
    gpu_s: float = 0.0
    """GPUs that it had by the seconds that it had them."""
    gpus: float = 0.0
    """How many GPUs it has now."""


@dataclass(frozen=True)
class Pace:
    """What decides how long the rest takes, beside the trials' own times."""

    slots: int = 1
    """How many trials run side by side."""
    between_s: float = 0.0
    """What a trial takes beside training and evaluation, seconds."""
    test_share: float = 0.0
    """Rows of the test split for each row of the validation split."""
    start_s: float = 0.0
    """How long this driver took to start, seconds."""

    @property
    def end_s(self) -> float:
        """About how long the end takes beside the scoring, seconds."""
        return min(max(END_S[0], END_OF_START * self.start_s), END_S[1])


@dataclass(frozen=True)
class BudgetEnds:
    """When the budget that is used up first ends what, in seconds of the sweep's clock."""

    by: str
    """The budget, one of BUDGETS."""
    search_s: float
    """The search: what is left then is for confirmation and final scoring."""
    training_s: float
    """Every training: what is left then is for the final scoring."""


def ends(records: Sequence[TrialRecord], spec: SweepSpec, usage: Usage, pace: Pace) -> BudgetEnds | None:
    """When the search and when all training has to be over; None without a budget of time, GPU-hours or money.

    Args:
        records: Every trial of the study.
        spec: The sweep's.
        usage: What is used so far.
        pace: How fast it goes.
    """
    found = {}
    if (time_s := time_budget_s(spec)) is not None:
        found["time_budget"] = time_s
    for name, hours in gpu_hours_of(spec).items():
        left_gpu_s = hours * HOUR_S - usage.gpu_s
        if left_gpu_s <= 0 or usage.gpus > 0:  # without GPUs nothing is used up
            found[name] = usage.wall_s + (left_gpu_s / usage.gpus if usage.gpus else 0.0)
    if not found:
        return None
    by = min(found, key=lambda name: found[name])
    training_s = found[by] - scoring_s(records, spec, pace)
    return BudgetEnds(by, training_s - confirmation_s(records, spec, pace, found[by]), training_s)


def scoring_s(records: Sequence[TrialRecord], spec: SweepSpec, pace: Pace) -> float:
    """About how long it takes to score what is scored on the test split, and to write the result."""
    evaluations = [epoch.eval_s for record in records for epoch in record.epochs]
    if not evaluations:
        return pace.end_s
    fresh = sum(record.confirms is not None for record in records)
    models = 1 if spec.confirm == "none" else max(2 * LEAST_SEEDS, fresh)
    return pace.end_s + TIME_MARGIN * models * pace.test_share * fmean(evaluations)


def confirmation_s(records: Sequence[TrialRecord], spec: SweepSpec, pace: Pace, budget_s: float) -> float:
    """How long the confirmation is given if the search ends now; 0 as long as there is nothing to confirm.

    With `auto` that is the share of the search's time that it has without a budget, or the fewest runs of which it
    means something, if these leave the search its least share of the budget.
    """
    group = finalists(records, spec)
    if spec.confirm == "none" or not group:
        return 0.0
    done = sum(len(each.runs) for each in group)
    asked_for = finalists_and_seeds(spec)
    run_s = max(_fresh_run_s(each, pace) for each in group if asked_for or each is group[0] or each.is_default)

    def takes_s(runs: int) -> float:
        return math.ceil(max(runs - done, 0) / pace.slots) * run_s

    if asked_for is not None:
        return takes_s((asked_for[0] + 1) * asked_for[1])
    trained_s = sum(record.seconds for record in of_the_search(records))
    share_s = min(SHARE_OF_SEARCH * trained_s / pace.slots, takes_s((MOST_FINALISTS + 1) * MOST_SEEDS))
    return max(min(takes_s(2 * LEAST_SEEDS), (1 - LEAST_SHARE) * budget_s), share_s)


def _fresh_run_s(finalist: Finalist, pace: Pace) -> float:
    return TIME_MARGIN * finalist.run_s + pace.between_s


def trial_s(records: Sequence[TrialRecord], pace: Pace) -> float:
    """About how long a trial takes that runs its whole schedule; 0 as long as that is not known."""
    scored = [record for record in of_the_search(records) if record.scored]
    done = sum(record.scored[-1].schedule_percent / 100 for record in scored)
    return sum(record.seconds for record in scored) / done + pace.between_s if done else 0.0


def time_is_up(
    records: Sequence[TrialRecord], spec: SweepSpec, usage: Usage, pace: Pace, for_another: bool = False
) -> str | None:
    """The budget that leaves no more time for the search; None where there is some.

    Args:
        records: Every trial of the study.
        spec: The sweep's.
        usage: What is used so far.
        pace: How fast it goes.
        for_another: Whether the time must be enough for a whole trial that is yet to begin.
    """
    found = ends(records, spec, usage, pace)
    if found is None:
        return None
    until_s = usage.wall_s + (trial_s(records, pace) if for_another else 0.0)
    return found.by if until_s > found.search_s else None


def goal_reached(records: Sequence[TrialRecord], spec: SweepSpec, noise: Noise) -> str | None:
    """The goal that the search has reached, "target" or "until_stable"; None where none is, or none was set.

    Args:
        records: Every trial of the study.
        spec: The sweep's.
        noise: Is asked for the best trial of the search.
    """
    done = rank(records, spec.metric, spec.mode)
    if (target := target_of(spec)) is not None:
        name, wanted = target
        scores = [record.best.scores[name] for record in done if record.best is not None and name in record.best.scores]
        if any(score >= wanted if METRICS[name].direction == "max" else score <= wanted for score in scores):
            return "target"
    return "until_stable" if spec.until_stable and _is_stable(records, spec, noise) else None


def _is_stable(records: Sequence[TrialRecord], spec: SweepSpec, noise: Noise) -> bool:
    """Whether the newest STABLE_TRIALS trials that ended well have improved the best score by no more than its noise.

    The trials before them are at least those that TPE draws at random.
    """
    ended = [record for record in of_the_search(records) if record.state in ("COMPLETE", "PRUNED")]
    before = rank(ended[:-STABLE_TRIALS], spec.metric, spec.mode)
    if len(ended) < STARTUP_TRIALS + STABLE_TRIALS or not before:
        return False
    best = rank(ended, spec.metric, spec.mode)[0]
    return abs((best.value or 0.0) - (before[0].value or 0.0)) <= noise(best)


def lacks_room_s(records: Sequence[TrialRecord], spec: SweepSpec, usage: Usage, pace: Pace) -> float:
    """How much longer a whole trial, the fewest fresh runs of it and the scoring take than the budget allows, seconds.

    Args:
        records: Every trial of the study, of which none ran its whole schedule yet.
        spec: The sweep's.
        usage: What is used so far.
        pace: How fast it goes.

    Returns:
        Not above 0 where there is room, or nothing is known yet.
    """
    found, whole_s = ends(records, spec, usage, pace), trial_s(records, pace)
    if found is None or not whole_s:
        return 0.0
    finalists_each, seeds = finalists_and_seeds(spec) or (0, LEAST_SEEDS)
    runs = 0 if spec.confirm == "none" else (finalists_each + 1) * seeds
    done_s = max((record.seconds for record in of_the_search(records)), default=0.0)
    return usage.wall_s + whole_s * (1 + TIME_MARGIN * math.ceil(runs / pace.slots)) - done_s - found.training_s


def must_stop(
    seconds: float, percent: float, is_fresh: bool, records: Sequence[TrialRecord], found: BudgetEnds, usage: Usage
) -> bool:
    """Whether a running trial is to be ended, since it would not come to its end in time. The search is over.

    Args:
        seconds: How long it has trained.
        percent: How much of its schedule that was; 0 where nothing was scored yet.
        is_fresh: Whether it is a fresh run of a finalist.
        records: Every trial of the study.
        found: When what has to end.
        usage: What is used so far.
    """
    until_s = found.training_s if is_fresh else found.search_s
    if usage.wall_s > until_s:
        return True
    if not percent or not any(record.state == "COMPLETE" for record in of_the_search(records)):
        return False  # without one trial that came to its end there is no result, and an estimate may be wrong
    return usage.wall_s + seconds * (100 - percent) / percent > until_s


def fits(finalist: Finalist, found: BudgetEnds | None, usage: Usage, pace: Pace) -> bool:
    """Whether there is time for a fresh run of a finalist."""
    return found is None or usage.wall_s + _fresh_run_s(finalist, pace) <= found.training_s
