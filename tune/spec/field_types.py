"""The types of a specification's fields: what each accepts, as text or as YAML has it, and how it is shown.

A type is `Annotated[...]` with, in this order: bounds, a check of the type, and a reader of text. Pydantic runs them
from the last to the first.
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from trainable.data.file_checks import is_unicode
from trainable.errors import nearest, shown
from trainable.fields import INTEGER, NUMBER, Rule
from trainable.metrics import METRICS
from tune.spec.durations import DURATION_TEXT, duration_text, parse_duration
from tune.spec.numbers import parse_number
from tune.trackers import TRACKERS

NUMBER_TEXT = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"  # a regular expression
NUMBER_AS_TEXT = {"pattern": rf"^\s*{NUMBER_TEXT}\s*$", "type": "string"}
SMALLEST_RESOURCE = 0.0001  # Ray counts cores and GPUs in ten-thousandths


@dataclass(frozen=True)
class Flag:
    """Marks a field that has a command line flag of its own; all others are set with --set."""

    metavar: str | None = None
    """What --help shows for the value; None derives it from the field's type or name."""
    repeatable: bool = False
    """Whether it may be given several times, and each value counts."""


def flag_name(field: str) -> str:
    """The flag of a field: "--num-trials" for num_trials. Units are left out."""
    return "--" + field.removesuffix("_gb").replace("_", "-")


def flag_of(field: FieldInfo) -> Flag | None:
    """The mark of a field that has a flag of its own."""
    return next((each for each in field.metadata if isinstance(each, Flag)), None)


class _NumberFromText:
    """Reads text that is a number, so that flags and YAML's 1e-5 give numbers too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_number_from_text, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), NUMBER_AS_TEXT]}


def _number_from_text(value: object) -> object:
    try:
        return parse_number(value)
    except ValueError:
        return value  # the next check refuses it


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, but got {shown(value)}")
    if "\0" in value or not is_unicode(value):
        raise ValueError(f"must be text without NUL and in UTF-8, but got {shown(value)}")
    return value


def _name(value: str) -> str:
    if "/" in value or value in (".", ".."):
        raise ValueError(f"must be a plain name, but got {shown(value)}")
    return value


def _label(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"must be a class, but got {shown(value)}")
    return str(value)


def _labels(value: object) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, int):
        names = [names]
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError(f"must be a label or several (a,b), but got {shown(value)}")
    return tuple(map(_label, names))


def _encoding(value: str) -> str:
    try:
        found = codecs.lookup(value)
        b"".decode(value)  # "base64" is a codec, too, but none of text
    except (LookupError, ValueError):
        raise ValueError(f"must be an encoding such as utf-8 or windows-1252, but got {shown(value)}") from None
    return found.name


def _on_off(value: object) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, but got {shown(value)}")  # noqa: TRY004
    return value


def _columns(value: object) -> tuple[str, ...]:
    names = _different_names(value)
    if names is None or len(names) > 2:
        raise ValueError(f"must be one column or two (a,b), but got {shown(value)}")
    return names


def _column_names(value: object) -> tuple[str, ...]:
    names = _different_names(value)
    if names is None or len(names) < 2:
        raise ValueError(f"must be two names or more, each another (a,b,c), but got {shown(value)}")
    return names


def _different_names(value: object) -> tuple[str, ...] | None:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if (
        not isinstance(names, (list, tuple))
        or not all(isinstance(name, str) and name.strip() and "\0" not in name and is_unicode(name) for name in names)
        or len(set(names)) != len(names)
    ):
        return None
    return tuple(names) or None


def _confirm(value: object) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in ("auto", "none") and not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", text):
        raise ValueError(f"must be auto, none, or KxM such as 3x4 (finalists x seeds), but got {shown(value)}")
    return text


def _trackers(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, (list, tuple)) else [value]
    names = [name.strip().lower() for text in given for name in str(text).split(",")]
    wrong = [name for name in names if name not in TRACKERS]
    if wrong or not names:
        got = shown(wrong[0] if wrong else value)
        raise ValueError(f"must be one or several of {', '.join(TRACKERS)}, but got {got}")
    return tuple(dict.fromkeys(names))


def _duration(value: object) -> str:
    return duration_text(parse_duration(value))


def _target(value: object) -> str:
    name, _, number = (part.strip() for part in (value if isinstance(value, str) else "").partition("="))
    try:
        score = parse_number(number)
    except ValueError:
        raise ValueError(f"must be METRIC=VALUE such as f1=0.92, but got {shown(value)}") from None
    if name not in METRICS:
        raise ValueError(f"must name a metric, but got {shown(value)}; {nearest(name, METRICS)}")
    low, high = METRICS[name].bounds
    if not low <= score <= high or score == math.inf:
        bounds = f"between {low:g} and {high:g}" if high < math.inf else f">= {low:g}"
        raise ValueError(f"must be a value of {name}, which is {bounds}, but got {shown(value)}")
    return f"{name}={float(score)!r}"


def _resource(value: float) -> float:
    if 0 < value < SMALLEST_RESOURCE:
        raise PydanticCustomError("greater_than_equal", "too small")
    return value


NUMBER_FROM_TEXT = _NumberFromText()

Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "pattern": r"\S"})]
Name = Annotated[
    str,
    AfterValidator(_name),
    BeforeValidator(_text),
    WithJsonSchema({"type": "string", "pattern": r"^[^/]*[^/\s][^/]*$"}),
]
ClassLabel = Annotated[str, BeforeValidator(_label), WithJsonSchema({"type": ["string", "integer"]})]
Columns = Annotated[
    tuple[str, ...],
    BeforeValidator(_columns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[^,]*[^,\s][^,]*(,[^,]*[^,\s][^,]*)?$"},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": r"\S"},
                    "minItems": 1,
                    "maxItems": 2,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]
ColumnNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_column_names),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[^,]*[^,\s][^,]*(,[^,]*[^,\s][^,]*)+$"},
                {"type": "array", "items": {"type": "string", "pattern": r"\S"}, "minItems": 2, "uniqueItems": True},
            ]
        }
    ),
]
TextEncoding = Annotated[
    str, AfterValidator(_encoding), BeforeValidator(_text), WithJsonSchema({"type": "string", "pattern": r"\S"})
]
OnOff = Annotated[bool, BeforeValidator(_on_off), WithJsonSchema({"type": "boolean"})]
ClassLabels = Annotated[
    tuple[str, ...],
    BeforeValidator(_labels),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "array", "items": {"type": ["string", "integer"]}}]}
    ),
]
Confirm = Annotated[
    str,
    BeforeValidator(_confirm),
    WithJsonSchema({"type": "string", "pattern": r"^(auto|none|[1-9]\d{0,3}x[1-9]\d{0,3})$"}),
]
TrackerNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_trackers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^\s*({'|'.join(TRACKERS)})(\s*,\s*({'|'.join(TRACKERS)}))*\s*$"},
                {"type": "array", "items": {"enum": list(TRACKERS)}, "minItems": 1},
            ]
        }
    ),
]
Duration = Annotated[
    str,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^\s*(\d+\.?\d*|\.\d+|(?=.*\d){DURATION_TEXT})\s*$"},
            ]
        }
    ),
]
Target = Annotated[
    str,
    BeforeValidator(_target),
    WithJsonSchema({"type": "string", "pattern": rf"^\s*({'|'.join(METRICS)})\s*=\s*{NUMBER_TEXT}\s*$"}),
]
FromZero = Annotated[int, Ge(0), INTEGER, NUMBER_FROM_TEXT]
FromOne = Annotated[int, Ge(1), INTEGER, NUMBER_FROM_TEXT]
FromTwo = Annotated[int, Ge(2), INTEGER, NUMBER_FROM_TEXT]
FromFour = Annotated[int, Ge(4), INTEGER, NUMBER_FROM_TEXT]
NotNegative = Annotated[float, Ge(0), NUMBER, NUMBER_FROM_TEXT]
Positive = Annotated[float, Gt(0), NUMBER, NUMBER_FROM_TEXT]
AboveOne = Annotated[float, Gt(1), NUMBER, NUMBER_FROM_TEXT]
UpToHalf = Annotated[float, Gt(0), Le(0.5), NUMBER, NUMBER_FROM_TEXT]
Cores = Annotated[float, Ge(SMALLEST_RESOURCE), NUMBER, NUMBER_FROM_TEXT]
Gpus = Annotated[
    float,
    Ge(0),
    AfterValidator(_resource),
    NUMBER,
    NUMBER_FROM_TEXT,
]
GPUS_RULE = Rule(f"auto, 0 or a number >= {SMALLEST_RESOURCE}")
