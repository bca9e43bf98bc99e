"""The search space as values: parsed from text, checked, handed to Optuna as distributions.

log:1e-5..1e-4   a float, logarithmic        2..5      an integer
0.0..0.1         a float                     8,16,32   one of these
0.01             fixed: part of every configuration, not searched
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainable.config import RULES
from trainable.errors import nearest, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = float | int | None


@dataclass(frozen=True)
class Float:
    """A number in [low, high], uniform in its logarithm where `log`."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low!r}..{self.high!r}"


@dataclass(frozen=True)
class Int:
    """An integer in low..high, both included."""

    low: int
    high: int
    log: bool = False

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low}..{self.high}"


@dataclass(frozen=True)
class Choice:
    """One of these values, without order."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return ",".join("none" if value is None else repr(value) for value in self.values)


@dataclass(frozen=True)
class Fixed:
    """Always this value."""

    value: Value

    def __str__(self) -> str:
        return "none" if self.value is None else repr(self.value)


Domain = Float | Int | Choice | Fixed
Space = Mapping[str, Domain]

_HOW = "write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"


def parse_domain(name: str, given: object) -> Domain:
    """The domain of field `name` of a trial's configuration, from text, a number or a list of numbers.

    Raises ValueError with the broken rule and the values.
    """
    if name not in RULES:
        raise ValueError(f"{shown(name)} is no field of a trial's configuration; {nearest(name, RULES)}")
    if isinstance(given, (list, tuple)):
        values = tuple(_number(item, given) for item in given)
        if not values:
            raise ValueError(f"can't read {shown(given)}; {_HOW}")
        domain: Domain = Choice(values) if len(values) > 1 else Fixed(values[0])
    elif isinstance(given, str) and ".." in given:
        domain = _range(given)
    elif isinstance(given, str) and "," in given:
        domain = Choice(tuple(_number(item, given) for item in given.split(",")))
    else:
        domain = Fixed(_number(given, given))
    return _typed(name, domain)


def parse_number(given: object) -> int | float:
    """A number, or text that is one: 1e-5 is text in YAML. Raises ValueError for all else."""
    number = given
    if isinstance(given, str):
        text = given.strip()
        number = int(text) if re.fullmatch(r"[+-]?\d{1,4000}", text) else float(text)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"{shown(given)} is no number")  # noqa: TRY004 - what is wrong is a value, whatever its type
    if isinstance(number, int) and abs(number) >= 2**63:
        raise ValueError(f"{shown(given)} is too large")
    return number


def parse_value(given: object) -> Value:
    """A number as parse_number reads it, or none. Raises ValueError for all else."""
    if given is None or (isinstance(given, str) and given.strip().lower() in ("none", "null")):
        return None
    return parse_number(given)


def _number(given: object, whole: object) -> Value:
    try:
        return parse_value(given)
    except ValueError:
        raise ValueError(f"can't read {shown(whole)}; {_HOW}") from None


def _range(given: str) -> Float | Int:
    text = given.strip()
    log = text.startswith("log:")
    ends = text.removeprefix("log:").split("..")
    if len(ends) != 2:
        raise ValueError(f"can't read {shown(given)}; {_HOW}")
    low, high = (_number(end, given) for end in ends)
    if low is None or high is None:
        raise ValueError(f"can't read {shown(given)}; {_HOW}")
    if not low < high:
        raise ValueError(f"`low < high` must hold, but got (low={low!r}, high={high!r})")
    if log and low <= 0:
        raise ValueError(f"`low > 0` must hold for a logarithmic range, but got (low={low!r}, high={high!r})")
    if isinstance(low, int) and isinstance(high, int):
        return Int(low, high, log)
    return Float(float(low), float(high), log)


def _typed(name: str, domain: Domain) -> Domain:
    """The domain with its field's type, every bound checked against the field's rule."""
    rule = RULES[name]
    match domain:
        case Float(low, high, log) | Int(low, high, log):
            bounds: tuple[Value, ...] = (low, high)
            if rule.type is float:
                domain = Float(float(low), float(high), log)
            elif isinstance(domain, Float):
                if not (float(low).is_integer() and float(high).is_integer()):
                    raise ValueError(f"`{name}` takes integers, but got {domain}")
                domain = Int(int(low), int(high), log)
        case Choice(values):
            bounds = values
            if len(set(values)) != len(values):
                raise ValueError(f"a choice stands twice in {domain}")
        case Fixed(value):
            bounds = (value,)
    for bound in bounds:
        if not rule.accepts(bound):
            raise ValueError(f"`{name}` must be {rule.text}, but got {shown(bound)}")
    match domain:
        case Choice(values):
            return Choice(tuple(None if value is None else rule.type(value) for value in values))
        case Fixed(value):
            return Fixed(None if value is None else rule.type(value))
    return domain


def change_problem(old: Domain, new: Domain) -> str | None:
    """Why trials of the one domain and of the other can't stand in one Optuna study; None where they can."""
    if isinstance(old, Fixed) or isinstance(new, Fixed):
        return None
    if type(old) is not type(new):
        return "of another kind"
    if isinstance(old, Choice) and old != new:
        return "with other choices"
    return "on another scale" if getattr(old, "log", None) != getattr(new, "log", None) else None


def fixed_values(space: Space) -> dict[str, Value]:
    """The fields that every configuration has in common."""
    return {name: domain.value for name, domain in space.items() if isinstance(domain, Fixed)}


def largest(space: Space, name: str, default: float) -> float:
    """The largest value that a field can take; `default` where the space does not name it."""
    match space.get(name):
        case Float(_, high) | Int(_, high):
            return high
        case Choice(values):
            return max(value for value in values if value is not None)
        case Fixed(value) if value is not None:
            return value
    return default


def distributions(space: Space, point: Mapping[str, Value]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of what is searched.

    A range is widened to hold a value that `point` gives. A field whose given value is none of its choices is left
    out, since Optuna allows one set of choices only, and so is one whose logarithmic range can't hold its value, 0:
    the value then stands in the trial's configuration alone.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    result: dict[str, BaseDistribution] = {}
    for name, domain in space.items():
        given = point.get(name)
        match domain:
            case _ if name in point and given is None and not isinstance(domain, Choice):
                continue
            case Float(log=True) if given is not None and given <= 0:
                continue
            case Float(low, high, log):
                ends = (low, high) if given is None else (min(low, given), max(high, given))
                result[name] = FloatDistribution(*ends, log=log)
            case Int(low, high, log):
                ints = (low, high) if given is None else (min(low, int(given)), max(high, int(given)))
                result[name] = IntDistribution(*ints, log=log)
            case Choice(values) if name not in point or given in values:
                result[name] = CategoricalDistribution(values)
    return result
