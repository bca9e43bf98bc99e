"""Where a sweep's settings come from: presets, YAML files, flags and Python, the nearer one over the farther one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainable.errors import nearest, shown
from tune.spec.yaml_file import read_yaml

PRESETS = Path(__file__).parents[1] / "presets"
DEFAULT_PRESET = "demo"
PATHS = ("model", "dataset", "validation", "test", "points")  # fields that may be paths
# Columns, split names and classes are facts of the data set that they were written for.
FACTS_OF_A_DATASET = (
    "validation", "test", "encoding", "column_names", "text_columns", "label_column", "positive_label",
    "skip_labels", "train_split", "validation_split", "test_split",
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """Settings as somebody gave them, not checked yet."""

    values: Mapping[str, Any]
    """Values by field."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value stands, as errors say it: "--metric", "my.yaml: metric". Fields from Python have none."""
    whole: bool = True
    """Whether every source could be read. Where one could not, a missing field is no problem of its own."""
    from_preset: frozenset[str] = frozenset()
    """The fields whose values are a preset's own."""

    def where(self, name: str) -> str:
        """How errors call the value of a field: its origin, or the field's name where there is none."""
        return self.origins.get(name, name)


def given_from_preset(name: object, problems: list[str], origin: str = "--preset") -> Given:
    """The settings of a preset that is shipped."""
    if not isinstance(name, str) or name not in preset_names():
        problems.append(f"{origin}: no preset {shown(name)}; {nearest(str(name), preset_names())}")
        return Given({}, whole=False)
    found = _given_from_yaml(PRESETS / f"{name}.yaml", {"name": name}, problems)
    return replace(found, from_preset=frozenset(found.values))


def given_from_file(path: Path, problems: list[str]) -> Given:
    """The settings in a YAML file, over those of the preset that it names, if any."""
    here = _beside(path.parent, _given_from_yaml(path, {"name": path.stem}, problems))
    if "preset" not in here.values:
        return here
    below = given_from_preset(here.values["preset"], problems, path.name)
    values = {key: value for key, value in here.values.items() if key != "preset"}
    return merge(below, Given(values, here.origins))


def _beside(folder: Path, given: Given) -> Given:
    """The settings with relative paths taken from the file's own folder, where that has them."""
    values = dict(given.values)
    for name in PATHS:
        value = values.get(name)
        if isinstance(value, str) and value.strip() and not os.path.isabs(value) and "\0" not in value:
            there = os.path.join(folder, value)
            if value.startswith(("./", "../")) or os.path.lexists(there):
                values[name] = os.path.normpath(there)
    return Given(values, given.origins, given.whole)


def given_from_flags(file: str | None, preset: str | None, flags: Given, problems: list[str]) -> Given:
    """The settings of the flags over a file's or a preset's; over the demo's where no data set is named either."""
    if file is not None:
        return merge(given_from_file(Path(file), problems), flags)
    if preset is None and "dataset" in flags.values:
        return flags
    return merge(given_from_preset(DEFAULT_PRESET if preset is None else preset, problems), flags)


def given_from_python(spec: Mapping[str, Any] | str | None, problems: list[str]) -> Given:
    """The settings for `tune.search.run`: fields, a YAML file's path, a preset's name, or None for the demo."""
    if isinstance(spec, Mapping):
        values = {key: value for key, value in spec.items() if key != "preset"}
        return given_from_flags(None, spec.get("preset"), Given(values), problems)
    if spec is None or spec in preset_names():
        return given_from_flags(None, spec, Given({}), problems)
    return given_from_flags(str(spec), None, Given({}), problems)


def given_from_run(stored: Mapping[str, Any]) -> Given:
    """The settings in the spec.yaml of a run directory, without what the run made of them."""
    return Given({name: value for name, value in stored.items() if name != "resolved"})


def preset_names() -> list[str]:
    """The presets that are shipped."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _given_from_yaml(path: Path, defaults: Mapping[str, Any], problems: list[str]) -> Given:
    read = read_yaml(path, problems)
    values: dict[str, Any] = {**defaults, **(read or {})}
    values.pop("resolved", None)  # the results of a run, in the spec.yaml of its directory
    return Given(values, {str(key): f"{path.name}: {str(key)[:200]}" for key in values}, read is not None)


def merge(below: Given, above: Given) -> Given:
    """Two sources as one: `above` wins field by field, and hyperparameter by hyperparameter inside `space`."""
    values = {**below.values, **above.values}
    lower, upper = below.values.get("space"), above.values.get("space")
    if isinstance(lower, Mapping) and isinstance(upper, Mapping):
        values["space"] = {**lower, **upper}
    elif lower is not None and not isinstance(lower, Mapping):
        values["space"] = lower  # it is wrong, and must not be hidden by a right one above it
    if below.values.get("dataset") not in (None, values.get("dataset")):
        for key in FACTS_OF_A_DATASET:
            if key not in above.values:
                values.pop(key, None)
    from_preset = (below.from_preset - above.values.keys()) | above.from_preset
    return Given(values, {**below.origins, **above.origins}, below.whole and above.whole, from_preset)
