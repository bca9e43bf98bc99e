"""The search space as values: parsed from text and checked.

log:1e-5..1e-4   a float, logarithmic        2..5      an integer
0.0..0.1         a float                     8,16,32   one of these
0.01             fixed: part of every configuration, not searched
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from trainable.config import TrialConfig, unknown_field
from trainable.errors import shown
from trainable.fields import takes_integers, takes_text
from tune.spec.numbers import parse_value
from tune.spec.sources import Given

Value = float | int | str | None


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
        return ",".join(_as_text(value) for value in self.values)


@dataclass(frozen=True)
class Fixed:
    """Always this value."""

    value: Value

    def __str__(self) -> str:
        return _as_text(self.value)


def _as_text(value: Value) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else repr(value)


Domain = Float | Int | Choice | Fixed
Space = Mapping[str, Domain]

DEFAULT_SPACE: dict[str, Domain] = {
    "learning_rate": Float(1e-5, 3e-4, log=True),
    "batch_size": Choice((8, 16, 32)),
    "epochs": Int(2, 5),
}
"""What is searched where nothing else is given. Hyperparameters that are given come in place of these."""

_HOW = "write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"


def read_space(given: Given, problems: list[str]) -> dict[str, Domain]:
    """The search space that was given, over the default one.

    Args:
        given: The settings; `space` holds a domain by hyperparameter, as text, numbers or lists.
        problems: What is wrong is appended here; hyperparameters whose domain is wrong are left out.
    """
    space = dict(DEFAULT_SPACE)
    domains = given.values.get("space")
    if domains is None:
        return space
    if not isinstance(domains, Mapping):
        problems.append(f"{given.where('space')} must be `field: domain` lines, but got {shown(domains)}")
        return {}
    for key, domain in domains.items():
        name = str(key)
        space.pop(name, None)
        try:
            space[name] = parse_domain(name, domain)
        except ValueError as error:
            origin = given.origins.get(f"space.{name}", f"{given.where('space')}.{name}")
            problems.append(f"{origin}: {error}")
    return space


def parse_domain(name: str, given: object) -> Domain:
    """The domain of a hyperparameter, from text, a number, a name, or a list of these.

    Args:
        name: A field of `TrialConfig`. The domain has its type, and all its values keep its rule.
        given: What somebody wrote.

    Raises:
        ValueError: It can't be read, or breaks a rule; the message says the rule and the values.
    """
    if name not in TrialConfig.model_fields:
        raise ValueError(unknown_field(name))
    if isinstance(given, str) and ".." in given and not takes_text(TrialConfig.model_fields[name]):
        return _checked(name, _range(given))
    if isinstance(given, tuple):
        ends = "..".join(map(str, given[:2]))
        either = f"write '{ends}' or 'log:{ends}' for a range, and the list {shown(list(given))} for choices"
        raise ValueError(f"{shown(given)} is a tuple, which may mean a range or choices; {either}")  # noqa: TRY004
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, list):
        items = [items]
    values = tuple(_value(name, item, given) for item in items)
    if not values:
        raise ValueError(f"can't read {shown(given)}; {_HOW}")
    return _checked(name, Choice(values) if len(values) > 1 else Fixed(values[0]))


def _value(name: str, given: object, whole: object) -> Value:
    """One value of a domain; `whole` is what was given for the domain, for errors."""
    if isinstance(given, str) and takes_text(TrialConfig.model_fields[name]):
        return given.strip()
    return _number(given, whole)


def _number(given: object, whole: object) -> float | int | None:
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


def _checked(name: str, domain: Domain) -> Domain:
    """The domain in its field's type.

    Raises:
        ValueError: A bound or a value breaks the field's rule.
    """
    match domain:
        case Float(low, high, log) | Int(low, high, log):
            if not takes_integers(TrialConfig.model_fields[name]):
                domain = Float(float(low), float(high), log)
            elif isinstance(domain, Float):
                if not (float(low).is_integer() and float(high).is_integer()):
                    raise ValueError(f"`{name}` takes integers, but got {domain}")
                domain = Int(int(low), int(high), log)
            for bound in (low, high):
                _typed(name, bound)
            return domain
        case Choice(values):
            if len(set(values)) != len(values):
                raise ValueError(f"a choice stands twice in {domain}")
            return Choice(tuple(_typed(name, value) for value in values))
        case Fixed(value):
            return Fixed(_typed(name, value))


def _typed(name: str, value: Value) -> Value:
    """A value in its field's type.

    Raises:
        ValueError: It breaks the field's rule.
    """
    typed: Value = TrialConfig.from_values({name: value}).named()[name]
    return typed


def change_problem(old: Domain, new: Domain) -> str | None:
    """Why one Optuna study can't hold trials of both domains of a hyperparameter; None if it can."""
    if isinstance(old, Fixed) or isinstance(new, Fixed):
        return None
    if type(old) is not type(new):
        return "of another kind"
    if isinstance(old, Choice) and old != new:
        return "with other choices"
    return "on another scale" if getattr(old, "log", None) != getattr(new, "log", None) else None


def fixed_values(space: Space) -> dict[str, Value]:
    """The values that every configuration has in common."""
    return {name: domain.value for name, domain in space.items() if isinstance(domain, Fixed)}


def largest(space: Space, name: str, default: float) -> float:
    """The largest number that a hyperparameter can be; `default` if the space does not name it, or it is none."""
    match space.get(name):
        case Float(_, high) | Int(_, high):
            return high
        case Choice(values):
            return max(value for value in values if isinstance(value, (int, float)))
        case Fixed(int() | float() as value):
            return value
    return default


def least(space: Space, name: str, default: float) -> float:
    """The smallest number that a hyperparameter can be; `default` if the space does not name it, or it is none."""
    match space.get(name):
        case Float(low, _) | Int(low, _):
            return low
        case Choice(values):
            return min(value for value in values if isinstance(value, (int, float)))
        case Fixed(int() | float() as value):
            return value
    return default


MOST_LISTED = 10_000  # configurations; a larger space is searched as if it had no end


def all_configurations(space: Space) -> list[dict[str, Value]] | None:
    """Every configuration of a space, in a fixed order; None if a range of real numbers or many integers is in it."""
    values: dict[str, Sequence[Value]] = {}
    size = 1
    for name, domain in space.items():
        match domain:
            case Choice(choices):
                values[name] = choices
            case Fixed(value):
                values[name] = (value,)
            case Int(low, high):
                values[name] = range(int(low), int(high) + 1)
            case Float():
                return None
        size *= len(values[name])
        if size > MOST_LISTED:
            return None
    return [dict(zip(values, cells, strict=True)) for cells in product(*values.values())]
