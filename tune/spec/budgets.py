"""What a specification's budgets are in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune.spec.durations import parse_duration
from tune.spec.sweep_spec import BUDGETS, SweepSpec

Settings = dict[str, str | float | bool]
"""Fields of a specification that set a budget, by name."""


def settings_of(spec: SweepSpec) -> Settings:
    """The budgets that a specification has, with the price that makes one of money."""
    names = (*BUDGETS, *(("price_per_gpu_hour",) if spec.max_cost is not None else ()))
    return {name: value for name in names if (value := getattr(spec, name))}


def still_holds(ended_by: str | None, settings: Mapping[str, Any], spec: SweepSpec) -> bool:
    """Whether a search that a budget has ended stays ended: whether that budget is the same.

    Args:
        ended_by: The budget that ended it, one of BUDGETS; None where none did.
        settings: The budgets that it had.
        spec: What is asked for now.
    """
    if ended_by is None:
        return False
    names = (ended_by, "price_per_gpu_hour") if ended_by == "max_cost" else (ended_by,)
    now = settings_of(spec)
    return ended_by in now and all(settings.get(name) == now.get(name) for name in names)


def time_budget_s(spec: SweepSpec) -> float | None:
    """The most time that the sweep may take, seconds; None where that is not limited."""
    return None if spec.time_budget is None else parse_duration(spec.time_budget)


def gpu_hours_of(spec: SweepSpec) -> dict[str, float]:
    """The most GPU-hours by the budgets that limit them."""
    found = {} if spec.gpu_hours is None else {"gpu_hours": spec.gpu_hours}
    if spec.max_cost is not None and spec.price_per_gpu_hour is not None:
        found["max_cost"] = spec.max_cost / spec.price_per_gpu_hour
    return found


def target_of(spec: SweepSpec) -> tuple[str, float] | None:
    """The metric and the value that end the search; None without a target."""
    if spec.target is None:
        return None
    name, _, value = spec.target.partition("=")
    return name, float(value)
