"""Why a search ended before its last trial, in a sentence for screen, page, card and status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLAG = {"time_budget": "a larger --time-budget", "gpu_hours": "more --gpu-hours", "max_cost": "a larger --max-cost"}
FLAG |= {"target": "another --target", "until_stable": "--set until_stable=false"}


def budget_sentence(ended_by: str, budgets: Mapping[str, Any], trials: int) -> str:
    """Say which budget ended the search.

    Args:
        ended_by: The budget, one of BUDGETS.
        budgets: The budgets that the sweep had, by name.
        trials: How many trials of the search had ended.
    """
    given = budgets.get(ended_by)
    reasons = {
        "time_budget": f"its time budget of {given} was used up",
        "gpu_hours": f"its budget of {given} GPU-hours was used up",
        "max_cost": f"its budget of {given} for GPUs was used up",
        "target": f"a trial had reached its target, {given}",
        "until_stable": "further trials no longer improved the result by more than its standard error",
    }
    return f"the search ended after {trials} trial{'' if trials == 1 else 's'} because {reasons[ended_by]}"


def ways_on(ended_by: str) -> str:
    """Say what goes on with a search that a budget has ended."""
    return f"{FLAG[ended_by]} goes on"
