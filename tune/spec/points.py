"""Configurations that a sweep tries first: from a JSON file, or a list in the specification."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainable.config import TrialConfig, config_problems
from trainable.data.file_checks import FileProblems, unique_keys
from trainable.data.small_file import read_small
from trainable.fields import takes_text
from tune.spec.numbers import parse_value
from tune.spec.sources import Given
from tune.spec.yaml_file import MAX_FILE_BYTES


def read_points(given: Given, problems: list[str]) -> tuple[TrialConfig, ...]:
    """The configurations that were given to be tried first.

    Args:
        given: The settings; `points` is a list of mappings, or the name of a JSON file that holds one.
        problems: What is wrong is appended here; configurations that are wrong are left out.
    """
    points, origin = given.values.get("points"), given.where("points")
    if points is None:
        return ()
    if isinstance(points, str):
        path = Path(os.path.expanduser(points))
        points = _read_json(path, origin, problems)
        if points is None:
            return ()
        origin = str(path)
    if not isinstance(points, (list, tuple)) or not points or not all(isinstance(each, Mapping) for each in points):
        problems.append(f'{origin}: must be a list of configurations, like [{{"learning_rate": 5e-5, "epochs": 3}}]')
        return ()
    configs = []
    found = FileProblems(origin)
    for number, point in enumerate(points, 1):
        values = {str(name): _value(str(name), value) for name, value in point.items()}
        wrong = config_problems(values)
        for problem in wrong:
            found.add(f"configuration {number}", problem)
        if not wrong:
            configs.append(TrialConfig.from_values(values))
    problems += found.take()
    return tuple(configs)


def _read_json(path: Path, origin: str, problems: list[str]) -> Any:
    """What a JSON file holds; None where it can't be read."""
    try:
        text = read_small(path, MAX_FILE_BYTES)
    except ValueError as error:
        problems.append(f"{origin}: {error}")
        return None
    try:
        read = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        problems.append(f"{origin}: {path} is not JSON: {error}")
        return None
    return read if read is not None else ()  # null is refused as an empty list is


def _value(name: str, given: Any) -> Any:
    """The number that a text means, None for "none"; anything else as it is, for the configuration to judge."""
    field = TrialConfig.model_fields.get(name)
    if field is not None and takes_text(field):
        return given
    try:
        return parse_value(given)
    except ValueError:
        return given
