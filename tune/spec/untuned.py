"""The configuration that people use who search nothing: the yardstick of a sweep."""

from __future__ import annotations

from collections.abc import Mapping

from trainable.config import TrialConfig
from tune.spec.space import Choice, Domain, Fixed, Float, Int, Value
from tune.spec.sweep_spec import SweepSpec

COMMON_BATCH_SIZES = (16, 32)


def untuned_values(spec: SweepSpec) -> Mapping[str, Value]:
    """The values of the searched hyperparameters that the sweep tries in any case.

    They are those of the first point, where the preset or the user gives points; else the defaults of `TrialConfig`
    (learning rate 5e-5, batch size 16 or 32, 3 epochs), each moved to the nearest value that the space allows.
    """
    if spec.points:
        return spec.points[0].named()
    defaults = TrialConfig().all_values()
    return {
        name: _nearest(name, domain, defaults[name])
        for name, domain in spec.space.items()
        if not isinstance(domain, Fixed)
    }


def _nearest(name: str, domain: Domain, value: Value) -> Value:
    """The allowed value that is nearest; where the default is no number, the lowest or the first one."""
    match domain:
        case Float(low, high) | Int(low, high):
            return min(max(value, low), high) if isinstance(value, int | float) else low
        case Choice(values):
            wanted = COMMON_BATCH_SIZES if name == "batch_size" else (value,)
            if (found := next((each for each in wanted if each in values), None)) is not None or value in values:
                return found
            numbers = [each for each in values if isinstance(each, int | float)]
            if isinstance(value, int | float) and numbers:
                return min(numbers, key=lambda each: abs(each - value))
            return values[0]
        case Fixed(fixed):
            return fixed
