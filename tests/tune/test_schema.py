"""The schema for editors: it is the models' own, takes what the reader takes, and refuses what people get wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from trainable.config import TrialConfig
from tune.spec.schema import as_text, sweep_schema
from tune.spec.sources import PRESETS, Given, preset_names
from tune.spec.sweep_spec import SweepSpec, build_spec, spec_as_yaml_values

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(sweep_schema())
NEED = {"model": "m", "dataset": "d"}


def is_valid(text: str) -> bool:
    return bool(VALIDATOR.is_valid(yaml.safe_load(text)))


def reader_takes(text: str) -> bool:
    problems: list[str] = []
    build_spec(Given({**NEED, **yaml.safe_load(text)}, {}), problems)
    return not problems


def test_the_file_is_made_from_the_models() -> None:
    command = "make schema writes it anew"
    assert (ROOT / "sweep.schema.json").read_text(encoding="utf-8") == as_text(), command


def test_it_is_a_schema_that_knows_every_field_and_its_documentation() -> None:
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = schema["properties"]
    assert properties.keys() == {*SweepSpec.model_fields, "preset", "resolved"}
    assert properties["space"]["properties"].keys() == TrialConfig.model_fields.keys()
    assert all(each["description"] for each in [*properties.values(), *properties["space"]["properties"].values()])
    assert properties["num_trials"]["description"].startswith("How many trials the sweep has in all")


@pytest.mark.parametrize("name", preset_names())
def test_presets_keep_to_it(name: str) -> None:
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    assert is_valid(text)
    problems: list[str] = []
    spec = build_spec(Given({**yaml.safe_load(text), "name": name}, {}), problems)
    assert VALIDATOR.is_valid({**spec_as_yaml_values(spec), "resolved": {"precision": None}}), "a run's spec.yaml"


def test_the_readmes_example_keeps_to_it() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "# yaml-language-server: $schema=" in block
    assert is_valid(block)


RIGHT = [
    "preset: mrpc",
    "space: {learning_rate: 1e-5}",
    "space: {learning_rate: 5.0e-5, epochs: 3, dropout: null}",
    "space: {learning_rate: 'log: 1e-5 .. 1e-4', epochs: 2..5, weight_decay: 0.0..0.1, warmup_fraction: .1}",
    "space: {batch_size: '8,16, 32', dropout: 'none,0.1', micro_batch_size: none}",
    "space: {learning_rate: [1e-5, 5.0e-5], dropout: [null, 0.1], optimizer: adamw, schedule: [linear]}",
    "points: [{learning_rate: 1e-5, epochs: 3}, {dropout: none, optimizer: adamw}]",
    "text_columns: a,b",
    "text_columns: [a, b]",
    "positive_label: 1",
    "validation_fraction: 1e-1",
    "gpus_per_trial: auto",
    "gpus_per_trial: 0.25",
    "max_concurrent: null",
    "state_interval_s: 0",
]
WRONG = [
    "num_trails: 3",
    "num_trials: 0",
    "num_trials: many",
    "num_trials: 2.5",
    "metric: f2",
    "sampler: [tpe]",
    "name: a/b",
    "preset: mprc",
    "model: ''",
    "seed: true",
    "validation_fraction: 0.6",
    "gpus_per_trial: -1",
    "gpus_per_trial: all",
    "text_columns: [a, b, c]",
    "text_columns: [a, a]",
    "text_columns: 'a,'",
    "text_columns: a,b,c",
    "space: [epochs]",
    "space: {lr: 1}",
    "space: {epochs: 2-5}",
    "space: {epochs: 0}",
    "space: {epochs: []}",
    "space: {learning_rate: true}",
    "space: {optimizer: adam}",
    "points: 5",
    "points: []",
    "points: [{lr: 1}]",
    "points: [{epochs: 0}]",
    "points: [{optimizer: 3}]",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_people_write_is_right(text: str) -> None:
    assert is_valid(text)
    assert "preset" in text or reader_takes(text)


@pytest.mark.parametrize("text", WRONG)
def test_what_people_get_wrong_is_refused(text: str) -> None:
    assert not is_valid(text)
    assert not reader_takes(text)


def test_what_the_schema_refuses_is_shown_with_its_field() -> None:
    (error,) = VALIDATOR.iter_errors(yaml.safe_load("metric: f2"))
    assert list(error.absolute_path) == ["metric"]


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    again: Any = json.loads(as_text())
    assert again == sweep_schema()
