"""The JSON schema of a sweep's YAML file, so that editors complete and check it while it is written.

python -m tune.spec.schema > sweep.schema.json     or `make schema`, after a field, a preset or a sampler was added

The schema is made from the models `SweepSpec` and `TrialConfig`: their types, bounds and documentation. It describes
the file as people write it. A range of the search space is text, for example, and so is 1e-5 for a reader of YAML 1.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from trainable.config import TrialConfig
from trainable.fields import choices_of
from tune.spec.field_types import NUMBER_AS_TEXT, NUMBER_TEXT
from tune.spec.sources import preset_names
from tune.spec.sweep_spec import SweepSpec

Schema = dict[str, Any]

_NUMBER_OR_NONE = rf"({NUMBER_TEXT}|[Nn]one|[Nn]ull)"
SHARED: dict[str, Schema] = {
    "number_as_text": {"description": "Text that is a number, like 1e-5.", **NUMBER_AS_TEXT},
    "value_as_text": {
        "description": "Text that is a number, like 1e-5, or none.",
        "type": "string",
        "pattern": rf"^\s*{_NUMBER_OR_NONE}\s*$",
    },
    "domain_as_text": {
        "description": "log:1e-5..1e-4, 0.0..0.1, 2..5 (integers), 8,16,32 (choices), or one value.",
        "type": "string",
        "pattern": rf"^\s*((log:\s*)?{NUMBER_TEXT}\s*\.\.\s*{NUMBER_TEXT}|"
        rf"{_NUMBER_OR_NONE}(\s*,\s*{_NUMBER_OR_NONE})*)\s*$",
    },
}
"""Parts of the schema that many fields use, by name."""


def sweep_schema() -> Schema:
    """The schema of a YAML file that `python -m tune.search SPEC.yaml` takes."""
    properties = _properties(SweepSpec)
    properties["space"] |= _mapping(_domain)
    properties["points"]["anyOf"] = [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": _mapping(_value)},
        {"type": "null"},
    ]
    preset = {"description": "A preset whose settings are taken where this file has none.", "enum": preset_names()}
    resolved = {
        "description": "What a run made of the settings. A run directory's spec.yaml has it; it is ignored here.",
        "type": "object",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Specification of a sweep",
        "description": "What python -m tune.search SPEC.yaml searches. Every field may also be left to a flag.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"preset": preset, **properties, "resolved": resolved},
        "$defs": SHARED,
    }


def _properties(model: type[BaseModel]) -> dict[str, Schema]:
    """The schema of each field of a model, without titles that only repeat its name."""
    properties: dict[str, Schema] = model.model_json_schema()["properties"]
    for schema in properties.values():
        del schema["title"]
        _refer_to_shared(schema)
    return properties


def _refer_to_shared(schema: Schema) -> None:
    for i, alternative in enumerate(schema.get("anyOf", [])):
        if alternative == NUMBER_AS_TEXT:
            schema["anyOf"][i] = _shared("number_as_text")


def _shared(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _mapping(make: Callable[[str, Schema], list[Schema]]) -> Schema:
    """A mapping from hyperparameters to what `make` gives for each: the alternatives that its value may be."""
    properties = {
        name: {"description": schema["description"], "anyOf": make(name, schema)}
        for name, schema in _properties(TrialConfig).items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _domain(name: str, schema: Schema) -> list[Schema]:
    """A hyperparameter in the search space: one value, choices as a list or as text, or a range as text."""
    names = "|".join(_names(name))
    text = {"type": "string", "pattern": rf"^\s*({names})(\s*,\s*({names}))*\s*$"}
    choices = {"type": "array", "minItems": 1, "items": {"anyOf": _value(name, schema)}}
    return [text, choices] if names else [*_typed_values(schema), _shared("domain_as_text"), choices]


def _value(name: str, schema: Schema) -> list[Schema]:
    """A hyperparameter in a configuration: its value, or text that means it."""
    if _names(name):
        return [{"type": "string", "enum": list(_names(name))}]
    return [*_typed_values(schema), _shared("value_as_text")]


def _typed_values(schema: Schema) -> list[Schema]:
    """The alternatives of a field, each with its type and bounds."""
    alternatives: list[Schema] | None = schema.get("anyOf")
    return alternatives or [{key: schema[key] for key in schema if key not in ("default", "description")}]


def _names(name: str) -> tuple[str, ...]:
    """The names that a hyperparameter takes; none where it takes numbers."""
    return choices_of(TrialConfig.model_fields[name])


def as_text() -> str:
    """The schema as the file sweep.schema.json holds it."""
    return json.dumps(sweep_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")
