"""Check everything that a request names before anything starts, so that all problems are told at once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainable.data.findings import NOTHING_FOUND, DataFindings, look_in_background
from trainable.data.load import TextData
from trainable.errors import UserError
from trainable.hub.model_checks import tokenizer_problems
from trainable.redaction import one_line
from tune.cluster.connect import address_problems, ray_is_connected
from tune.cluster.nodes import local_nodes
from tune.cluster.plan import make_plan
from tune.prepare.identity import IDENTITY, StoredSweep, find_stored_sweep, new_sweep, stored_findings
from tune.prepare.inputs import (
    Inputs,
    ModelFolder,
    find_model,
    find_tokenizer,
    fit_problems,
    load_spec_data,
    make_inputs,
)
from tune.prepare.launch import disk_room_problems, sweep_files
from tune.run_dir.integrity import entry_problems, find_records, place_problems
from tune.run_dir.layout import RunDir
from tune.run_dir.records import of_the_search
from tune.spec.flags import Request
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import SweepSpec, build_spec
from tune.trackers import missing_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # what `--export onnx` needs


def check_request(request: Request, run_dir: RunDir, problems: list[str]) -> tuple[Inputs, StoredSweep]:
    """Read data and model, and what the run directory holds of this sweep.

    Raises:
        UserError: With the `problems` that are known already and every one that is found here.
    """
    spec = request.spec
    # A field with a problem has its default value, which says nothing of the sweep that is asked for.
    compared = [] if problems else [key for key in IDENTITY if not (key == "space" and request.allow_new_space)]
    out_problems = _out_problems(run_dir, request.fresh)
    problems += out_problems
    problems += address_problems(spec.address)
    problems += _export_problems(spec)
    problems += missing_trackers(spec.log_to or ())
    plan_here = None
    if spec.address is None:
        plan_here = make_plan(spec, local_nodes(spec), [] if ray_is_connected() else problems)
    data, look, model, tokenizer = _read_input(spec, run_dir, request.fresh or bool(out_problems), problems)
    stored = new_sweep()
    if not out_problems and run_dir.holds_sweep and not request.fresh:
        stored = find_stored_sweep(run_dir, spec, compared, data, model, problems)
    if (searched := len(of_the_search(stored.records))) > spec.num_trials:  # they exist, whatever is asked for now
        spec = spec.model_copy(update={"num_trials": searched})
    if problems or data is None or model is None or tokenizer is None:
        raise UserError(problems)
    inputs = make_inputs(spec, data, model, tokenizer, request.origins, look)
    if plan_here is not None:
        plan_here = make_plan(spec, local_nodes(spec), [], model_bytes=model.size_bytes)
        problems += disk_room_problems(spec, plan_here, sweep_files(inputs, run_dir))
        if problems:
            raise UserError(problems)
    return inputs, stored


def check_stored(run_dir: RunDir) -> tuple[Inputs, StoredSweep]:
    """Read the data and the model of a sweep that is to be reported, as its spec.yaml names them, and its trials.

    Args:
        run_dir: Holds a sweep. What a killed driver left half done there is put in order.

    Raises:
        UserError: With every problem.
    """
    problems: list[str] = []
    values = run_dir.read_spec()
    spec, resolved = build_spec(given_from_run(values), problems), values["resolved"]
    data, look, model, tokenizer = _read_input(spec, run_dir, False, problems)
    if data is not None and data.fingerprint != resolved["data_fingerprint"]:
        problems.append(f"{run_dir.name}: its data, {spec.dataset}, has changed since the sweep")
    if model is not None and model.fingerprint != resolved.get("model_fingerprint"):
        problems.append(f"{run_dir.name}: its pretrained model, {spec.model}, has changed since the sweep")
    records = find_records(run_dir, spec, problems)
    if problems or data is None or model is None or tokenizer is None:
        raise UserError(problems)
    num_trials = max(spec.num_trials, len(of_the_search(records)))
    inputs = make_inputs(spec.model_copy(update={"num_trials": num_trials}), data, model, tokenizer, look=look)
    return inputs, StoredSweep(run_dir.sweep_id, resolved["precision"], records)


def _read_input(
    spec: SweepSpec, run_dir: RunDir, is_new: bool, problems: list[str]
) -> tuple[TextData | None, Callable[[], DataFindings], ModelFolder | None, PreTrainedTokenizerBase | None]:
    """Read the data and find the model; each is None where it has problems, which are appended."""
    data = load_spec_data(spec, problems) if spec.dataset else None
    look = _looking(data, run_dir, is_new)
    model = find_model(spec.model, problems) if spec.model else None
    tokenizer = find_tokenizer(model.path, problems) if model is not None else None
    if data is not None:
        problems += fit_problems(spec, data)
        if spec.strict_data:
            problems += [f"--strict-data: {one_line(leak)}" for leak in look().leaks]
    if model is not None and tokenizer is not None:
        problems += tokenizer_problems(model.path, tokenizer, None if data is None else len(data.text_columns) == 2)
    return data, look, model, tokenizer


def _looking(data: TextData | None, run_dir: RunDir, is_new: bool) -> Callable[[], DataFindings]:
    """Begin to look for what spoils a score, unless a sweep that goes on has found it in these very rows."""
    if data is None:
        return lambda: NOTHING_FOUND
    stored = None if is_new or not run_dir.holds_sweep else stored_findings(run_dir, data)
    return look_in_background(data.splits) if stored is None else lambda: stored


def _export_problems(spec: SweepSpec) -> list[str]:
    """Say which packages are missing for what is to be made of the model in the end."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None] * (spec.export == "onnx")
    is_or_are = "is" if len(missing) == 1 else "are"
    how = "pip install 'finetune-search[onnx]'"
    return [f"--export onnx: {' and '.join(missing)} {is_or_are} not installed; {how}"] if missing else []


def _out_problems(run_dir: RunDir, fresh: bool) -> list[str]:
    """Say why no sweep can be run there, and fetch what an object store holds of it."""
    try:
        if not run_dir.storage.is_shared_folder:
            if run_dir.holds_others_files() and not fresh:
                return [f"--out {run_dir.name}: holds files but no sweep; give another prefix"]
            with run_dir.held():
                run_dir.fetch()
    except UserError as error:
        return list(error.problems)
    except (OSError, ValueError) as error:  # no such bucket, no right to it, no such kind of store
        return [f"--out {run_dir.name}: {getattr(error, 'strerror', None) or one_line(str(error))}"]
    above = next((path for path in run_dir.root.parents if os.path.exists(path)), None)
    if above is not None and not above.is_dir():
        return [f"--out {run_dir.root}: {above} is a file, not a folder"]
    try:
        strange = [] if fresh or not run_dir.holds_sweep else entry_problems(run_dir.root)
        return [f"--out {problem}" for problem in strange] or place_problems(run_dir, fresh)
    except OSError as error:  # a name that is too long, a folder that can't be listed
        return [f"--out {run_dir.root}: {error.strerror or error}"]
