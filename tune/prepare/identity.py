"""Whether the sweep in a run directory is the one that is asked for, and what spec.yaml says to tell them apart."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from trainable.config import Precision
from trainable.data.findings import DataFindings
from trainable.data.load import TextData
from trainable.data.sources import is_folder
from trainable.errors import UserError
from tune.prepare.inputs import Inputs, ModelFolder
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.integrity import find_records
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.space import change_problem, parse_domain
from tune.spec.sweep_spec import SweepSpec, spec_as_yaml_values

# A sweep that differs in one of these is another sweep: the trials of the two could not be compared.
IDENTITY = (
    "train_rows", "validation_rows", "metric", "mode", "f1", "space", "scheduler", "reduction_factor", "sampler",
    "seed", "max_length", "precision", "batching",
)  # fmt: skip
FOUND_COUNTS = ("same_text", "contradictions", "near_copies")
# What the study has of it before the first trial.
IN_THE_STUDY = ("metric", "mode")


@dataclass(frozen=True)
class StoredSweep:
    """What the run directory already holds of this sweep; nothing but a name where the sweep is new."""

    sweep_id: str | None
    """What ties study, states and report to spec.yaml; None for a sweep of a version that gave no such names."""
    precision: Precision | None = None
    """As all its trials so far were trained in; None until it is chosen."""
    records: tuple[TrialRecord, ...] = ()


def new_sweep() -> StoredSweep:
    """A sweep of which nothing is stored yet."""
    return StoredSweep(uuid.uuid4().hex)


def find_stored_sweep(
    run_dir: RunDir,
    spec: SweepSpec,
    compared: Sequence[str],
    data: TextData | None,
    model: ModelFolder | None,
    problems: list[str],
) -> StoredSweep:
    """Read the sweep in a run directory, and append to `problems` where it is another one or is damaged.

    Args:
        run_dir: Holds a sweep.
        spec: What is asked for.
        compared: The fields of IDENTITY that must be equal.
        data: None where it could not be read; then it is not compared.
        model: None where it could not be found; then it is not compared.
        problems: Get a sentence for each difference that makes it another sweep.
    """
    try:
        stored = run_dir.read_spec()
    except UserError as error:
        problems += error.problems
        return new_sweep()
    resolved = stored["resolved"]
    precision = resolved["precision"]
    if precision not in (None, *get_args(Precision)):
        problems.append(f"{run_dir.spec_file} is damaged: precision {precision!r}; {WHAT_TO_DO}")
        return new_sweep()
    if precision is None and _holds_nothing(run_dir, spec):
        # Its model could not be trained, say, and the way on is another one in the same folder.
        compared, data, model = IN_THE_STUDY, None, None
    if other := other_sweep_problems(run_dir.name, stored, spec, compared, data, model):
        problems += other  # whether another sweep is damaged does not matter here
        return new_sweep()
    records = find_records(run_dir, spec, problems)
    problems += _point_problems(stored.get("points") or [], spec, len(of_the_search(records)))
    sweep_id = resolved.get("sweep")
    if sweep_id is None and not records:
        return StoredSweep(uuid.uuid4().hex, precision)
    return StoredSweep(None if sweep_id is None else str(sweep_id), precision, records)


def _holds_nothing(run_dir: RunDir, spec: SweepSpec) -> bool:
    """Whether a run directory without a precision has no trial, as it should, and no damage."""
    problems: list[str] = []
    return not find_records(run_dir, spec, problems) and not problems


def other_sweep_problems(
    name: str,
    stored: Mapping[str, Any],
    spec: SweepSpec,
    compared: Sequence[str],
    data: TextData | None,
    model: ModelFolder | None,
) -> list[str]:
    """Say why the sweep that is `stored` (spec.yaml's values) is not the one that is asked for."""
    resolved = stored["resolved"]
    different = []
    if model is not None and resolved.get("model_fingerprint") != model.fingerprint:
        different.append(f"another model: {stored.get('model')} there, {spec.model} here")
    here = spec_as_yaml_values(spec)
    is_cut_otherwise = any(stored.get(name) != here.get(name) for name in ("train_rows", "validation_rows"))
    there = stored.get("dataset")
    same_name = there in (spec.dataset, os.path.abspath(os.path.expanduser(spec.dataset)))
    other_rows = data is not None and resolved.get("data_fingerprint") != data.fingerprint
    if other_rows and not (is_cut_otherwise and same_name):  # the difference is told below
        other = f"{there} has changed" if same_name else f"{there} there, {spec.dataset} here"
        different.append(f"other data: {other}")
    changed = [key for key in compared if stored.get(key) != here.get(key)]
    different += [f"{key}: {stored.get(key)} there, {here.get(key)} here" for key in changed]
    if not different:
        return [] if "space" in compared else _space_problems(stored, spec)
    hint = "give another --out, or --fresh to start over"
    if changed == ["space"] and len(different) == 1:
        hint += ", or --allow-new-space to go on with it"
    return [f"--out {name}: holds another sweep ({'; '.join(different)}); {hint}"]


def _point_problems(stored: Sequence[Mapping[str, Any]], spec: SweepSpec, trials: int) -> list[str]:
    """Say where points were added for which no trial is left."""
    old = list(stored)
    added = 0
    for point in spec.points:
        if point.named() in old:
            old.remove(point.named())
        else:
            added += 1
    if not added or spec.num_trials >= trials + added:
        return []
    return [
        f"--points: {added} points are new, but {trials} trials exist: ask for --num-trials {trials + added} or more"
    ]


def _space_problems(stored: Mapping[str, Any], spec: SweepSpec) -> list[str]:
    """Say which hyperparameters were changed in a way that the study does not allow."""
    problems = []
    for name in stored["space"].keys() & spec.space.keys():
        text = stored["space"][name]
        why = change_problem(parse_domain(name, text), spec.space[name])
        if why is not None:
            problems.append(
                f"--allow-new-space: {name} is {text} there and {spec.space[name]} here; Optuna takes no parameter "
                f"{why} into a study that has it (another range is fine)"
            )
    return problems


def stored_findings(run_dir: RunDir, data: TextData) -> DataFindings | None:
    """What a sweep found in these very rows before; None where it has not looked, or not at these."""
    try:
        resolved = run_dir.read_spec()["resolved"]
        found = resolved["data_findings"]
        if resolved["data_fingerprint"] != data.fingerprint:
            return None
        same, against, near = ({str(where): int(rows) for where, rows in found[name].items()} for name in FOUND_COUNTS)
        return DataFindings(same, against, near, tuple(map(str, found["leaks"])), tuple(map(str, found["notes"])))
    except (UserError, LookupError, TypeError, ValueError, AttributeError):  # damage is told elsewhere
        return None


def spec_document(inputs: Inputs, sweep_id: str | None, precision: str | None) -> dict[str, Any]:
    """What spec.yaml says of a sweep: the spec, and under `resolved` what was found for it.

    Args:
        inputs: The sweep's.
        sweep_id: Ties study, states and report to spec.yaml.
        precision: None until it is chosen.
    """
    values = spec_as_yaml_values(inputs.spec)
    # A run may be continued and scored from other working directories.
    for name in ("model", "dataset"):
        if is_folder(values[name]):
            values[name] = os.path.abspath(os.path.expanduser(values[name]))
    data = inputs.data
    resolved = {
        "precision": precision,
        "model_fingerprint": inputs.model.fingerprint,
        "data_fingerprint": data.fingerprint,
        "text_columns": list(data.text_columns),
        "label_column": data.label_column,
        "label_names": list(data.label_names),
        "f1": inputs.f1_average,
        "max_length": inputs.max_length,
        "rows": {name: len(split) for name, split in data.splits.items()},
        "data_findings": _found_in_data(inputs.findings),
        "sweep": sweep_id,  # the last line: a file that was cut off lacks it
    }
    return {**values, "resolved": resolved}


def _found_in_data(findings: DataFindings) -> dict[str, Any]:
    counts = {name: getattr(findings, name) for name in FOUND_COUNTS}
    return {**counts, "leaks": list(findings.leaks), "notes": list(findings.notes)}
