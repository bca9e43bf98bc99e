"""Which hyperparameters the differences between trials come from, as Optuna's evaluator has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tune.report.details import Importance
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.space import Choice, Domain, Float, Int, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST_TRIALS = 4  # of fewer, a forest finds nothing
FEW_TRIALS = 30
MOST_TRIALS = 200  # at even distances: the forest takes seconds for them, and minutes for 1,000
METHOD = "fANOVA"


def importance_of(
    records: Sequence[TrialRecord], space: Mapping[str, Domain], metric: str, mode: str
) -> Importance | None:
    """Compute how much of the objective's variance each hyperparameter explains (fANOVA; Hutter et al., 2014).

    Only trials of the search that ran their whole schedule are compared: the others were scored earlier.

    Args:
        records: Every trial of the study.
        space: What was searched.
        metric: The objective's name.
        mode: "max" or "min".

    Returns:
        None where there are too few trials, or nothing differs between them.
    """
    done = [record for record in of_the_search(records) if record.state == "COMPLETE" and record.value is not None]
    done = [done[i * len(done) // MOST_TRIALS] for i in range(MOST_TRIALS)] if len(done) > MOST_TRIALS else done
    values = {name: [record.config.named().get(name) for record in done] for name in space}
    ranges = {name: _distribution(space[name], each) for name, each in values.items() if len(set(each)) > 1}
    searched = {name: domain for name, domain in ranges.items() if domain is not None}
    if len(done) < LEAST_TRIALS or not searched or len({record.value for record in done}) < 2:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    for i, record in enumerate(done):
        params = {name: values[name][i] for name in searched}
        study.add_trial(optuna.create_trial(value=record.value, params=params, distributions=searched))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    few = (
        f"computed of only {len(done)} trials that ran their whole schedule: another sweep may well say otherwise"
        if len(done) < FEW_TRIALS
        else None
    )
    return Importance(method=METHOD, shares=dict(found), trials=len(done), warning=few)


def _distribution(domain: Domain, values: Sequence[Value]) -> BaseDistribution | None:
    """Optuna's distribution of a hyperparameter, widened to the values that points gave; None where there is none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [value for value in values if isinstance(value, (int, float))]
    match domain:
        case Choice(choices):
            return CategoricalDistribution([*choices, *sorted({v for v in values if v not in choices}, key=str)])
        case Float(low, high, log) | Int(low, high, log) if len(numbers) == len(values):
            low, high = min(low, *numbers), max(high, *numbers)
            log = log and low > 0
            if isinstance(domain, Int):
                return IntDistribution(int(low), int(high), log=log)
            return FloatDistribution(low, high, log=log)
    return None
