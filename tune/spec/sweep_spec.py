"""The specification of a sweep: one frozen value, made from everything that was given, or every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from trainable.config import TrialConfig
from trainable.errors import nearest
from trainable.fields import OneOf, wrong_fields
from trainable.metrics import METRICS
from tune.samplers import SAMPLERS
from tune.spec.field_types import (
    GPUS_RULE,
    AboveOne,
    ClassLabel,
    ClassLabels,
    ColumnNames,
    Columns,
    Confirm,
    Cores,
    Duration,
    Flag,
    FromFour,
    FromOne,
    FromTwo,
    FromZero,
    Gpus,
    Name,
    NotNegative,
    OnOff,
    Positive,
    Target,
    Text,
    TextEncoding,
    TrackerNames,
    UpToHalf,
    flag_name,
)
from tune.spec.points import read_points
from tune.spec.sources import Given
from tune.spec.space import DEFAULT_SPACE, Domain, all_configurations, read_space
from tune.stopping_rules import STOPPING_RULES


class SweepSpec(BaseModel):
    """One sweep, as the user wants it. `None` leaves a choice to the program."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name
    """What the run is called."""

    model: Annotated[Text, Flag()]
    """Hub name, local folder, or builtin:minilm."""

    dataset: Annotated[Text, Flag()]
    """Hub name (glue/mrpc), local folder, one file, or builtin:newswire."""

    validation: Annotated[Text | None, Flag("FILE")] = None
    """File that is the validation split."""

    test: Annotated[Text | None, Flag("FILE")] = None
    """File that is the test split."""

    encoding: Annotated[TextEncoding, Flag()] = "utf-8"
    """Encoding of data files that are text, such as windows-1252."""

    column_names: Annotated[ColumnNames | None, Flag("A,B[,...]")] = None
    """What the columns are of csv and tsv files without a header."""

    text_columns: Annotated[Columns | None, Flag("A[,B]")] = None
    """One text column or a pair: a[,b]; guessed when unambiguous."""

    label_column: Annotated[Text | None, Flag("Y")] = None
    """The column of the classes; guessed when unambiguous."""

    positive_label: ClassLabel | None = None
    """Of two classes, the one that binary F1 counts (default: the last in order)."""

    strict_labels: Annotated[OnOff, Flag()] = False
    """Labels that differ only in blanks around them or in case stay different classes."""

    skip_labels: Annotated[ClassLabels | None, Flag("A[,B]")] = None
    """Rows with one of these labels are left out."""

    skip_blank_rows: Annotated[OnOff, Flag()] = False
    """Rows in which a text or the label is blank are left out."""

    strict_data: Annotated[OnOff, Flag()] = False
    """Texts that stand in two splits, near-copies across splits and contradicting labels are errors, not warnings."""

    train_split: Text = "train"
    """What the data set calls its training split."""

    validation_split: Text = "validation"
    """What the data set calls its validation split."""

    test_split: Annotated[Text, Flag("NAME")] = "test"
    """What the data set calls its test split; none for a sweep without a test score."""

    validation_fraction: UpToHalf = 0.15
    """Fraction of the training rows that is cut off where there is no validation split."""

    test_fraction: UpToHalf = 0.15
    """Fraction of the training rows that is cut off where there is no test split."""

    train_rows: Annotated[FromTwo | None, Flag()] = None
    """Use only the first N training rows after a seeded shuffle."""

    validation_rows: Annotated[FromTwo | None, Flag()] = None
    """Use only N validation rows, of each class its share."""

    max_length: Annotated[FromFour, Flag()] = 128
    """Longer rows are cut to this many tokens."""

    space: Annotated[Mapping[str, Domain], WithJsonSchema({"type": "object"})] = Field(
        default_factory=lambda: dict(DEFAULT_SPACE)
    )
    """The search space: a domain for each hyperparameter, which is a range, choices, or one fixed value."""

    points: Annotated[tuple[TrialConfig, ...], WithJsonSchema({})] = ()
    """Configurations to try first: a list, or the name of a JSON file with one."""

    num_trials: Annotated[FromOne, Flag()] = 12
    """How many trials the sweep has in all (default: 12; with a budget of time or money or --until-stable: 1000)."""

    time_budget: Annotated[Duration | None, Flag("DURATION")] = None
    """The most time that the sweep may take with all its restarts, confirmation and report: 90s, 30m, 2h, 1h30m."""

    gpu_hours: Annotated[Positive | None, Flag()] = None
    """The most GPU-hours that the sweep may take: the GPUs of the machines that it has, used or not, by the hour."""

    max_cost: Annotated[Positive | None, Flag()] = None
    """The most money that the sweep's GPU-hours may cost; goes with --price-per-gpu-hour."""

    price_per_gpu_hour: Annotated[Positive | None, Flag()] = None
    """What a GPU costs by the hour, for --max-cost and for what --plan tells."""

    target: Annotated[Target | None, Flag("METRIC=X")] = None
    """End the search once a trial reaches this score on validation, such as f1=0.92."""

    until_stable: Annotated[OnOff, Flag()] = False
    """End the search once further trials no longer improve the best score by more than its standard error."""

    repeat_configurations: Annotated[OnOff, Flag()] = False
    """In a space of few configurations, run them again with other seeds once all were tried, instead of stopping."""

    metric: Annotated[str, OneOf(METRICS), Flag()] = "f1"
    """The objective, measured on validation data."""

    mode: Annotated[Literal["max", "min"], Flag()] = "max"
    """Whether the largest or the smallest value of the metric is the best (default: as the metric has it)."""

    f1: Literal["auto", "binary", "macro"] = "auto"
    """How F1 is averaged; auto is binary for two classes, macro for more."""

    scheduler: Annotated[str, OneOf(STOPPING_RULES), Flag()] = "asha"
    """The rule that stops bad trials early."""

    reduction_factor: AboveOne = 2.0
    """With asha, the best 1/N of the trials at a rung go on."""

    sampler: Annotated[str, OneOf(SAMPLERS), Flag()] = "tpe"
    """What proposes the configurations."""

    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Flag()] = "auto"
    """Number format of training; auto measures before the sweep and takes the fastest in which the model works."""

    batching: Literal["bucketed", "shuffled"] = "bucketed"
    """Whether a batch holds rows of like length (bucketed, faster) or rows as they come."""

    seed: Annotated[FromZero, Flag()] = 42
    """Seed of the sweep; each trial's own follows from it."""

    gpus_per_trial: Annotated[Gpus | Literal["auto"] | None, GPUS_RULE, Flag("X")] = None
    """GPUs for each trial, which may be a fraction of one; auto measures how much memory a trial takes."""

    cpus_per_trial: Annotated[Cores | None, Flag()] = None
    """CPU cores for each trial."""

    max_concurrent: Annotated[FromOne | None, Flag()] = None
    """The most trials that run at the same time (default: as many as there is room for)."""

    accelerator: Annotated[Text | None, Flag()] = None
    """Run only on nodes with this kind of GPU, as Ray calls it (H100)."""

    address: Annotated[Text | None, Flag()] = None
    """An existing Ray cluster, auto or host:port (default: a private local one)."""

    num_cpus: FromOne | None = None
    """CPU cores that the private local Ray offers (default: all)."""

    num_gpus: FromZero | None = None
    """GPUs that the private local Ray offers, as logical numbers (default: all)."""

    state_interval_s: NotNegative = 60.0
    """A trial's state is written at most this often, seconds."""

    max_retries: Annotated[FromZero, Flag()] = 2
    """How often a trial is run again whose worker died before it got any further."""

    confirm: Annotated[Confirm, Flag("KxM")] = "auto"
    """After the search, K finalists are trained M times from fresh seeds, and the best mean wins; auto, or none."""

    final: Annotated[Literal["median", "best", "soup"], Flag()] = "median"
    """Of the winner's fresh runs, the one that is handed over; soup is the average of their weights if it is better."""

    export: Annotated[Literal["none", "onnx"], Flag()] = "none"
    """What else is made of the best model: onnx writes best/model.onnx for ONNX Runtime; needs the extra onnx."""

    keep_top: Annotated[FromOne, Flag("K")] = 1
    """Keep the models of the best K trials; the best one's is best/."""

    checkpoint_budget_gb: Annotated[Positive | None, Flag("GB")] = None
    """The most disk space that the sweep may take, GB."""

    log_to: Annotated[TrackerNames | None, Flag("NAME", repeatable=True)] = None
    """Log also to trackers of experiments, besides TensorBoard: mlflow, trackio, wandb, or several as a,b."""

    no_examples: Annotated[OnOff, Flag()] = False
    """Keep texts of the data out of report.html and report.json, which show those of the worst errors."""


OPTIONAL = tuple(name for name, field in SweepSpec.model_fields.items() if field.default is None)
"""Fields that may be none. For the others "none" is a value like any other: --set scheduler=none."""

REQUIRED = ("model", "dataset")
"""Fields without a default; a name is made up where none is given."""


BUDGETS = ("time_budget", "gpu_hours", "max_cost", "target", "until_stable")
"""Fields that end the search before its last trial."""

GPU_BUDGETS = ("gpu_hours", "max_cost")
"""Those of BUDGETS that count GPUs."""

LIMITS = ("time_budget", "gpu_hours", "max_cost", "until_stable")
"""Those of BUDGETS that take the place of a number of trials. A target is none: it may never be reached."""

MOST_TRIALS_IN_BUDGET = 1000  # of a search that LIMITS end


def build_spec(given: Given, problems: list[str]) -> SweepSpec:
    """Check everything that was given and make the specification of it.

    A field that is wrong gets its default (model and dataset: empty; a hyperparameter is left out of the space). What
    does not hang on it can then be checked too, and the user is told every problem at once.

    Args:
        given: The settings, not checked yet.
        problems: What is wrong is appended here. A specification with problems must not be run.
    """
    values = _sound_values(given, problems)
    values["space"] = read_space(given, problems)
    values["points"] = read_points(given, problems)
    problems += [
        f"{flag_name(name)} is missing: {(SweepSpec.model_fields[name].description or '').rstrip('.')}"
        for name in REQUIRED
        if given.values.get(name) is None and given.whole
    ]
    values.setdefault("name", _name_of(str(values.get("dataset", ""))))
    missing = [name for name in REQUIRED if name not in values]
    spec = SweepSpec.model_validate({**dict.fromkeys(missing, "missing"), **values})
    spec = spec.model_copy(update=dict.fromkeys(missing, ""))  # which validation would refuse
    return _checked_together(spec, given, problems)


def _sound_values(given: Given, problems: list[str]) -> dict[str, Any]:
    """The values that keep the rules of their fields, without space and points."""
    values = {name: value for name, value in given.values.items() if name not in ("space", "points")}
    for name in REQUIRED:
        if values.get(name, "") is None:  # as if it was not there: it is told to be missing
            del values[name]
    wrong = wrong_fields(SweepSpec, values, or_none=False)
    for name in values:
        if name not in SweepSpec.model_fields:
            hint = nearest(str(name), SweepSpec.model_fields)
            problems.append(f"{given.where(str(name))}: no such field; {hint}")
        elif name in wrong:
            problems.append(f"{given.where(name)} {wrong[name]}")
    return {name: value for name, value in values.items() if name in SweepSpec.model_fields and name not in wrong}


def _name_of(dataset: str) -> str:
    """A sweep's name, made of its data set's: imdb for imdb, imdb.csv.gz, imdb/train.csv and imdb/data."""
    from trainable.data.folders import ALIASES
    from trainable.data.formats import suffix_of  # not above: numpy, which it imports, would slow --help down

    path = Path(dataset)
    suffix = suffix_of(path.name)
    name = path.name.removesuffix(suffix)
    says_nothing = {"data", "dataset"} if not suffix else {alias for names in ALIASES.values() for alias in names}
    if name.lower() in says_nothing:
        name = path.parent.name or name
    return name if name not in ("", "..") else "sweep"


def _checked_together(spec: SweepSpec, given: Given, problems: list[str]) -> SweepSpec:
    """Set what follows from other fields, and check the fields that must fit each other."""
    named = spec.model_fields_set
    if "num_trials" not in named or "num_trials" in given.from_preset:
        limited = any(getattr(spec, name) for name in LIMITS)
        most = max(
            MOST_TRIALS_IN_BUDGET if limited else spec.num_trials, 0 if "num_trials" in named else len(spec.points)
        )
        spec = spec.model_copy(update={"num_trials": most})
    if spec.num_trials < len(spec.points):
        problems.append(
            f"`num_trials >= number of points` must hold, but got (num_trials={spec.num_trials}, "
            f"points={len(spec.points)})"
        )
    if (few := trials_of_all_configurations(spec)) is not None and spec.num_trials > few:
        spec = spec.model_copy(update={"num_trials": few})
    direction = METRICS[spec.metric].direction
    if "mode" not in named:
        spec = spec.model_copy(update={"mode": direction})
    if spec.mode != direction:
        problems.append(f"{given.where('mode')} {spec.mode} would look for the worst {spec.metric}; use {direction}")
    problems += [
        f"{name} is what a private local Ray offers; with --address the cluster says what it has"
        for name in ("num_cpus", "num_gpus")
        if getattr(spec, name) is not None and spec.address is not None
    ]
    if spec.max_cost is not None and spec.price_per_gpu_hour is None:
        if given.values.get("price_per_gpu_hour") is None:  # else that is told to be wrong
            problems.append(f"{given.where('max_cost')} goes with --price-per-gpu-hour")
        spec = spec.model_copy(update={"max_cost": None})
    return spec


def trials_of_all_configurations(spec: SweepSpec) -> int | None:
    """How many trials try every configuration of the space and every point once; None where there is no such number.

    A space with a single configuration has none: whoever asks for several trials of it wants replicates.
    """
    every = all_configurations(spec.space)
    if every is None or len(every) == 1 or spec.repeat_configurations:
        return None
    outside = sum(not any(point.named().items() <= each.items() for each in every) for point in spec.points)
    return len(every) + outside


def spec_as_yaml_values(spec: SweepSpec) -> dict[str, Any]:
    """The specification in the form that a YAML file has; reading it back gives an equal one."""
    values = {name: getattr(spec, name) for name in SweepSpec.model_fields}
    values["space"] = {name: str(domain) for name, domain in spec.space.items()}
    values["points"] = [point.named() for point in spec.points] or None
    for name in ("column_names", "text_columns", "skip_labels", "log_to"):
        values[name] = list(values[name]) if values[name] else None
    return {name: value for name, value in values.items() if value is not None}
