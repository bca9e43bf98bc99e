"""The small files of a run directory that are read back: spec.yaml, report.json and best/metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainable.errors import UserError
from trainable.storage.folders import is_whole, write_text
from tune.spec.yaml_file import write_yaml

WHAT_TO_DO = "restore it from a copy, or start over with --fresh"
RESOLVED = (
    "precision", "model_fingerprint", "data_fingerprint", "text_columns", "label_column", "label_names", "f1",
    "max_length", "rows",
)  # fmt: skip
"""What spec.yaml's `resolved` must have. Newer versions also write `sweep` there, which ties the other files to it."""

HEADER = "# The sweep as resolved. Written by finetune-search; the same command goes on from here.\n"
REPORT_TYPES: dict[str, type | tuple[type, ...]] = {
    "best": dict,
    "test": (dict, type(None)),
    "majority": dict,
    "trials": list,
    "wall_s": float,
}


def read_spec(file: Path) -> dict[str, Any]:
    """What spec.yaml says.

    Raises:
        UserError: It can't be read, is no YAML, or lacks something of `resolved`.
    """
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError([f"{file} can't be read: {error}; {WHAT_TO_DO}"]) from error
    if not isinstance(loaded, dict):
        raise UserError([f"{file} is damaged: it holds no fields; {WHAT_TO_DO}"])
    resolved = loaded.get("resolved")
    missing = [name for name in RESOLVED if not isinstance(resolved, dict) or name not in resolved]
    if missing:
        raise UserError([f"{file} is damaged: its `resolved` has no {', '.join(missing)}; {WHAT_TO_DO}"])
    return loaded


def write_spec(file: Path, values: Mapping[str, Any]) -> None:
    """Write or replace spec.yaml. Raises OSError if that fails; then the old file is still there."""
    write_text(file, HEADER + write_yaml(values))


def sweep_id_of(spec_file: Path) -> str | None:
    """What ties study, states and report to spec.yaml; None if that is missing, or an early version wrote it.

    Raises:
        UserError: spec.yaml is damaged.
    """
    if not spec_file.exists():
        return None
    found = read_spec(spec_file)["resolved"].get("sweep")
    return None if found is None else str(found)


def read_report(file: Path, sweep_id: str | None) -> dict[str, Any] | None:
    """The report, if it is there, has its main parts, and belongs to this sweep; else None."""
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(loaded, dict) or not all(
        isinstance(loaded.get(name), kind) for name, kind in REPORT_TYPES.items()
    ):
        return None
    if not all(isinstance(row, dict) for row in loaded["trials"]):
        return None
    return loaded if loaded.get("sweep") == sweep_id else None


def read_best_metrics(file: Path, sweep_id: str | None) -> dict[str, Any] | None:
    """What best/ says of its model (trial, epoch, scores), if best/ is whole and belongs to this sweep; else None."""
    if not is_whole(file.parent):
        return None
    try:
        metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return metrics if metrics.get("sweep") == sweep_id else None
    except (OSError, ValueError, AttributeError):  # whole, but another program made it
        return None
