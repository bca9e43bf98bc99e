"""The fields of pydantic models: checks that pydantic lacks, and what is wrong with a value in words for users.

Pydantic finds every wrong field of a model at once, but its messages speak of inputs and types. A user is better
served by the rule and the value: "must be an integer >= 1, but got 0". The rule is read off the field's constraints,
so that it can't differ from what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from trainable.errors import nearest, shown

LARGEST_INTEGER = 2**63 - 1  # SQLite and Optuna hold no larger ones

# Checks, as they stand in a field's type: Annotated[int, Ge(1), INTEGER]


def _integer(value: object) -> object:
    """Take 3.0 for 3, as JSON and YAML may write it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_INTEGER:
        raise PydanticCustomError("int_type", "no integer")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise PydanticCustomError("float_type", "no finite number")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise PydanticCustomError("float_type", "too large")
    return value


INTEGER = BeforeValidator(_integer)
"""Refuses text, true and false, which pydantic would take for integers. It stands after the bounds."""

NUMBER = BeforeValidator(_number)
"""Refuses text, true, false, nan and infinity. It stands after the bounds."""


@dataclass(frozen=True)
class OneOf:
    """Allows only the names of a table. `Literal` can't do this: the table is put together at run time."""

    table: Mapping[str, object]
    """The entries by name, in the order in which errors and --help list the names."""

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed names."""
        return tuple(self.table)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic check the value, and list the names in the JSON schema."""
        return core_schema.literal_schema(list(self.names))


@dataclass(frozen=True)
class Rule:
    """Gives a field's rule in words, where its constraints can't be put into words one by one."""

    words: str
    """What stands after "must be" in an error."""


# What is wrong with values


def wrong_fields(model: type[BaseModel], values: Mapping[str, object], or_none: bool = True) -> dict[str, str]:
    """What is wrong with the values of a model's fields, by name: "must be an integer >= 1, but got 0".

    Args:
        model: The model whose fields these are.
        values: Values by name. Names that are no fields are not looked at, and fields without a value are not missed.
        or_none: Whether the words say that a field takes none.
    """
    fields = model.model_fields
    try:
        model.model_validate({name: value for name, value in values.items() if name in fields})
    except ValidationError as error:
        wrong = {str(each["loc"][0]): each for each in error.errors(include_url=False)}
        return {name: _problem(fields[name], values[name], wrong[name], or_none) for name in values if name in wrong}
    return {}


def _problem(field: FieldInfo, value: object, error: ErrorDetails, or_none: bool) -> str:
    if error["type"] == "value_error":  # raised by a validator of ours, whose message says everything
        return str(error["ctx"]["error"])
    choices = choices_of(field)
    hint = nearest(value, choices) if isinstance(value, str) and choices else ""
    more = f"; {hint}" if hint.startswith("did you mean") else ""  # the rule lists the names already
    return f"must be {rule(field, or_none)}, but got {shown(value)}{more}"


def rule(field: FieldInfo, or_none: bool = True) -> str:
    """What a field accepts, as errors say it: "an integer >= 1", "a number >= 0 and < 1 or none"."""
    words = _in_words(field.annotation, field.metadata)
    return words if or_none else words.removesuffix(" or none")


def _in_words(annotation: Any, constraints: Sequence[Any]) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        return _in_words(annotation, [*inner, *constraints])
    rules = [constraint.words for constraint in constraints if isinstance(constraint, Rule)]
    if rules:
        return str(rules[0])
    choices = _choices(annotation, constraints)
    if choices:
        return f"one of {', '.join(choices)}"
    if annotation is type(None):
        return "none"
    if annotation in (int, float):
        bounds = [text for constraint in constraints if (text := _bound(constraint))]
        return " ".join(["an integer" if annotation is int else "a number", " and ".join(bounds)]).strip()
    alternatives = get_args(annotation)
    return " or ".join(_in_words(each, ()) for each in alternatives) if alternatives else "text"


def _bound(constraint: Any) -> str:
    match constraint:
        case Ge(ge):
            return f">= {ge:g}"
        case Gt(gt):
            return f"> {gt:g}"
        case Le(le):
            return f"<= {le:g}"
        case Lt(lt):
            return f"< {lt:g}"
    return ""


# What a field takes


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The values of a field that takes one of a few names; empty for any other field."""
    return _choices(field.annotation, field.metadata)


def _choices(annotation: Any, constraints: Sequence[Any]) -> tuple[str, ...]:
    named = next((constraint.names for constraint in constraints if isinstance(constraint, OneOf)), ())
    return named or (get_args(annotation) if get_origin(annotation) is Literal else ())


def choices_in_words(field: FieldInfo) -> str:
    """The choices of a field as --help lists them, each with its description if its table has one.

    A description goes on from the name: "asha stops trials early; none runs every trial to its end".
    """
    tables = [constraint.table for constraint in field.metadata if isinstance(constraint, OneOf)]
    entries = tables[0] if tables else {}
    described = {name: getattr(entries.get(name), "description", "") for name in choices_of(field)}
    words = [f"{name} {text}".strip() for name, text in described.items()]
    return ("; " if any(described.values()) else ", ").join(words)


def takes_text(field: FieldInfo) -> bool:
    """Whether a field's values are text."""
    return str in _types(field.annotation)


def takes_integers(field: FieldInfo) -> bool:
    """Whether a field's numbers are integers."""
    return int in _types(field.annotation)


def takes_numbers(field: FieldInfo) -> bool:
    """Whether a field's values are numbers, integers or not."""
    return bool(_types(field.annotation) & {int, float})


def takes_on_off(field: FieldInfo) -> bool:
    """Whether a field is true or false."""
    return _types(field.annotation) == {bool}


def _types(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, without constraints and literal values."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return set()
    alternatives = get_args(annotation)
    return set().union(*map(_types, alternatives)) if alternatives else {annotation}
