"""How long the whole sweep takes, in GPU-hours and in money, too: from measured seconds and simulated sweeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tune.cluster.plan import Plan
from tune.estimate.configurations import planned_configurations
from tune.estimate.simulation import Costs, Expected, expect
from tune.estimate.times import Times
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.budgets import gpu_hours_of, time_budget_s
from tune.spec.sweep_spec import SweepSpec

# Rough, from sweeps of MiniLM-L6 on two cores; docs/plan.md has what came of it. They matter in short sweeps only.
TUNE_START_S = 1.0  # Ray Tune, until it asks for workers
TRIAL_S = 0.3  # from the last score of a trial to the beginning of the next one in its worker
REPORT_S = 0.05  # from a score to the next step
MODEL_WRITE_BYTES_PER_S = 500e6
MODEL_LOAD_S = 0.5  # of a model that is scored on the test split
WRITE_UP_S = 3.0  # statistics, report, best/
CORES_HELP = 0.85  # n cores compute an evaluation n^0.85 times as fast as one


@dataclass(frozen=True)
class Phases:
    """Seconds of a sweep's parts."""

    prepare_s: float
    """Reading, Ray's start, tokenising, the choice of the precision."""
    search_s: float
    """The search, with the start of the workers."""
    confirm_s: float
    """Fresh runs of the finalists."""
    final_s: float
    """Scores on the test split, and the report."""
    total_s: float
    """All of it."""
    low_s: float
    """Nine of ten simulated sweeps take at least this long."""
    high_s: float
    """Nine of ten simulated sweeps take at most this long."""
    fresh_runs: float
    """How many fresh runs of finalists there are; a mean."""
    gpu_hours: float
    """GPUs of the machines, used or not, by the hour."""
    cost: float | None
    """What these cost; None without a price."""


@dataclass(frozen=True)
class SweepTime:
    """What a sweep takes."""

    with_early_stopping: Phases
    """As the spec's stopping rule decides; the same as below where that is `none`."""
    without_early_stopping: Phases


def sweep_time_of(
    spec: SweepSpec,
    plan: Plan,
    times: Times,
    rows: dict[str, int],
    records: tuple[TrialRecord, ...],
    prepared_s: float,
    gpus: float,
    model_bytes: int,
) -> SweepTime:
    """Estimate what is left of a sweep, or all of it where it is new.

    Args:
        spec: The sweep's.
        plan: How many trials run side by side.
        times: The measured seconds.
        rows: By split.
        records: The trials that the study holds already.
        prepared_s: How long everything took until the precision was to be chosen.
        gpus: GPUs of the machines that run trials.
        model_bytes: Of the model's weights.
    """
    ended = [record for record in of_the_search(records) if record.state in ("COMPLETE", "PRUNED", "FAIL")]
    configs = planned_configurations(spec, spec.num_trials)[len(ended) :]
    costs = Costs(
        train_epoch_s=times.train_epoch_s,
        eval_s=times.eval_s,
        start_s=TUNE_START_S + times.start_s,
        trial_s=TRIAL_S + model_bytes / MODEL_WRITE_BYTES_PER_S,
        report_s=REPORT_S,
    )
    spent_s = sum(record.seconds for record in ended)
    prepare_s = prepared_s + (0.0 if records else times.rehearsal_s)
    test_s = times.eval_s * rows.get("test", 0) / max(1, rows["validation"]) * times.fp32_ratio
    if plan.local_cores is not None:
        test_s /= (plan.local_cores / plan.threads) ** CORES_HELP

    limit_s = budget_s(spec, gpus)

    def phases(expected: Expected) -> Phases:
        mean = expected.mean
        final_s = WRITE_UP_S + (mean.scored_runs * (MODEL_LOAD_S + test_s) if "test" in rows else 0.0)
        beside_s = prepare_s + final_s
        total_s = min(limit_s, beside_s + mean.trials_s)
        gpu_hours = gpus * total_s / 3600
        price = spec.price_per_gpu_hour
        return Phases(
            prepare_s=prepare_s,
            search_s=min(mean.search_s, max(0.0, total_s - beside_s - mean.confirm_s)),
            confirm_s=mean.confirm_s,
            final_s=final_s,
            total_s=total_s,
            low_s=min(limit_s, beside_s + expected.low_s),
            high_s=min(limit_s, beside_s + expected.high_s),
            fresh_runs=mean.fresh_runs,
            gpu_hours=gpu_hours,
            cost=None if price is None else price * gpu_hours,
        )

    both = (
        phases(expect(spec, configs, costs, plan.slots, rows["train"], early_stopping=stops, spent_s=spent_s))
        for stops in (True, False)
    )
    return SweepTime(*both)


def budget_s(spec: SweepSpec, gpus: float) -> float:
    """The most time that the budgets of time, GPU-hours and money leave a sweep; infinite without one."""
    time_s = time_budget_s(spec)
    found = [math.inf if time_s is None else time_s]
    if gpus:
        found += [hours * 3600 / gpus for hours in gpu_hours_of(spec).values()]
    return min(found)
