"""The result of a sweep as one value: what report.json holds, and what page, card and terminal are made from."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field, model_serializer, model_validator

from trainable.metrics import METRICS, Direction
from tune.report.budget_words import budget_sentence
from tune.report.confirmed import Cheapest, DefaultScores, Evidence, Final, FinalistScores, OptimismScores, RecipeScores
from tune.report.details import Answers, DataSummary, Details, EpochRow, Importance, Provenance, RungRow, WorkerSpan
from tune.report.parts import Config, Part
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.budgets import settings_of, still_holds
from tune.spec.sweep_spec import SweepSpec

if TYPE_CHECKING:
    from tune.prepare.inputs import Inputs

REPORTED_PACKAGES = (
    "finetune-search", "ray", "torch", "transformers", "datasets", "evaluate", "optuna", "tensorboard",
)  # fmt: skip

Scores = dict[str, float]
"""Scores by their names in METRICS."""


class Winner(Part):
    """The trial whose model is in best/."""

    trial: int
    """Its number in the study."""
    config: Config
    epoch: int
    """The epoch whose weights are kept, from 1."""
    seed: int | None
    """The seed of its training."""
    confirms: int | None = None
    """The trial of the search that found its configuration; None where the model is that trial's own."""
    averaged: list[int] = Field(default_factory=list)
    """The trials whose weights were averaged into the model; none where it is one trial's."""
    validation: Scores
    """Its scores on the validation split, by which it was chosen."""
    collapsed: bool
    """Whether it gives every validation row the same class."""


class Intervals(Part):
    """In which range the scores of the very model in best/ lie on texts such as those of the split."""

    accuracy: list[float]
    """The low and the high end."""
    f1: list[float]
    level: float
    """How often such an interval holds the true score, in (0, 1)."""

    def of(self, metric: str) -> list[float] | None:
        """The interval of a metric; None of one that has none."""
        return {"accuracy": self.accuracy, "f1": self.f1}.get(metric)


class SplitScores(Part):
    """Scores on a split, and how many rows they are of."""

    scores: Scores
    rows: int
    never_predicted: list[str] | None = None
    """Classes that some rows have and no row was given; None in a report of a version that did not look."""
    interval: Intervals | None = None
    """None in a report of a version that did not compute it."""

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, value: object) -> object:
        if not isinstance(value, Mapping) or "scores" in value:
            return value
        others = {name: value[name] for name in ("rows", "never_predicted", "interval") if name in value}
        return {"scores": {name: value[name] for name in value if name not in others}, "rows": None, **others}

    @model_serializer
    def as_json(self) -> dict[str, Any]:
        """The flat object that report.json and best/metrics.json hold."""
        never = {} if self.never_predicted is None else {"never_predicted": self.never_predicted}
        interval = {} if self.interval is None else {"interval": self.interval.model_dump()}
        return {**self.scores, "rows": self.rows, **never, **interval}


class OnnxExport(Part):
    """How `--export onnx` went."""

    rows: int
    """Validation rows that were asked of the file and of the model."""
    largest_difference: float | None
    """Of the probabilities that the two give; None where there is no such number."""
    problem: str | None = None
    """Why the file is not in best/; None where it is."""


class Majority(Part):
    """What always answering the class most frequent in training scores, by those METRICS where that says something."""

    validation: Scores
    test: Scores
    """Empty where there is no test split."""


class TrialRow(Part):
    """One trial in the report."""

    number: int
    state: str
    """COMPLETE, PRUNED or FAIL, as Optuna calls them."""
    config: Config
    epochs_run: int
    best_epoch: int | None
    """From 1; None where no epoch was finished."""
    value: float | None
    """The objective at the best epoch."""
    collapsed: bool
    """Whether the best epoch gives every validation row the same class."""
    seconds: float
    """Training and evaluation, seconds."""
    seed: int | None
    """The seed of its training."""
    failure: str | None
    """Why it failed, in a line."""
    confirms: int | None = None
    """The trial whose configuration it trains again from a fresh seed; None of a trial of the search."""
    epochs: list[EpochRow] = Field(default_factory=list)
    """What each epoch gave, in their order; none in a report of a version that did not say."""
    rungs: list[RungRow] = Field(default_factory=list)
    """What it scored within epochs, in their order."""
    began_at: float | None = None
    """When the training of its first epoch began, seconds since 1970; None where no epoch was finished."""
    ended_at: float | None = None
    """When its last epoch ended, seconds since 1970."""


class SweepReport(Part):
    """A finished sweep: what was searched, what won, and how far it can be believed."""

    name: str
    model: str
    """As the spec names it."""
    dataset: str
    """As the spec names it."""
    metric: str
    """The objective, on the validation split."""
    mode: Direction
    f1_average: str
    """`binary` or `macro`."""
    label_names: list[str]
    """Class names by id."""
    precision: str
    """A key of Precision, of training and validation."""
    best: Winner
    test: SplitScores | None
    """The winner's, measured once, after validation had chosen it; None where no test split was wanted."""
    test_reads: int = 1
    """How often the test split was read: once for each winner at the sweep's end, and by each `tune.evaluate`."""
    majority: Majority
    warnings: list[str]
    """What the user must not overlook, a sentence each."""
    notes: list[str]
    """What else is worth knowing, a sentence each."""
    advice: list[str] = Field(default_factory=list)
    """What the numbers call for next, a sentence each."""
    trials: list[TrialRow]
    wall_s: float
    """How long the sweep took with all its restarts, seconds."""
    train_s: float
    """Training and evaluation of all trials together, seconds."""
    rows: dict[str, int]
    """Rows by split."""
    versions: dict[str, str]
    """Of Python and of the packages that decide a result."""
    seed: int
    """The sweep's, from which every trial's is derived."""
    sweep_id: str | None = Field(validation_alias=AliasChoices("sweep", "sweep_id"), serialization_alias="sweep")
    """Ties the report to spec.yaml; None in a sweep of a version that gave no such names."""
    recipe: RecipeScores | None = None
    """What the winner's configuration scores from new seeds; None where no finalist was trained again."""
    optimism: OptimismScores | None = None
    default: DefaultScores | None = None
    finalists: list[FinalistScores] = Field(default_factory=list)
    ties: list[int] = Field(default_factory=list)
    """The search trials that can't be told from the winner."""
    cheapest: Cheapest | None = None
    final: Final | None = None
    """Which of the winner's fresh runs is in best/; None of a search trial."""
    budget_ended_by: str | None = None
    """The budget that ended the search before its last trial, such as time_budget; None where none did."""
    budgets: dict[str, str | float | bool] = Field(default_factory=dict)
    """The budgets that the sweep had, as the spec names them."""
    gpu_hours: float = 0.0
    """The GPU-hours that the sweep took with all its restarts: those of all GPUs that it had, used or not."""
    timeline: list[WorkerSpan] = Field(default_factory=list)
    """Which worker ran which trial when, in the order of time."""
    importance: Importance | None = None
    """None where too few trials ran their whole schedule, or all of them have one configuration."""
    answers: Answers | None = None
    """What the model in best/ answers; None where its predictions are gone."""
    data: DataSummary | None = None
    provenance: Provenance | None = None
    unfinished: str | None = None
    """What the sweep still lacked when `tune.report` made this report of it, in words; None where it had ended."""

    onnx: OnnxExport | None = None
    """None where no ONNX file was asked for."""

    def count(self, state: str) -> int:
        """How many trials of the search are COMPLETE, PRUNED or FAIL."""
        return sum(row.state == state for row in self.searched)

    @property
    def searched(self) -> list[TrialRow]:
        """The trials of the search, without the fresh runs of its finalists."""
        return [row for row in self.trials if row.confirms is None]

    @property
    def why_it_ended(self) -> list[str]:
        """Which budget ended the search, a sentence; empty where none did."""
        ended_by = self.budget_ended_by
        return [] if ended_by is None else [budget_sentence(ended_by, self.budgets, len(self.searched))]

    def as_json(self) -> dict[str, Any]:
        """The object that report.json holds."""
        return self.model_dump(mode="json", by_alias=True)

    def best_as_json(self) -> dict[str, Any]:
        """The object that best/metrics.json holds."""
        whole = self.as_json()
        return {**whole["best"], **{name: whole[name] for name in ("test", "majority", "sweep")}}

    @classmethod
    def from_json(cls, loaded: Mapping[str, Any]) -> SweepReport:
        """Read what `as_json` wrote.

        Raises:
            ValueError: A key is missing, or a value has another type.
        """
        return cls.model_validate_json(json.dumps(loaded))  # strict JSON reads lists as sequences, strict Python not


def read_report(run_dir: RunDir) -> SweepReport | None:
    """Read report.json; None where there is none yet, or it is damaged or another sweep's."""
    loaded = run_dir.read_report()
    if loaded is None:
        return None
    try:
        return SweepReport.from_json(loaded)
    except (ValueError, RecursionError):
        return None


def is_whole_search(report: SweepReport, trials: int, spec: SweepSpec) -> bool:
    """Whether the search that a report is of has come to its end: it ran all its trials, or a budget ended it."""
    return trials >= spec.num_trials or still_holds(report.budget_ended_by, report.budgets, spec)


def test_reads_before(run_dir: RunDir) -> int:
    """How often the sweep scored a model on the test split before it was extended."""
    earlier = read_report(run_dir)
    return 0 if earlier is None or earlier.test is None else earlier.test_reads


def build_report(
    inputs: Inputs,
    sweep_id: str | None,
    precision: str,
    records: Sequence[TrialRecord],
    winner: TrialRecord,
    averaged: Sequence[int],
    validation: Scores,
    test: SplitScores | None,
    wall_s: float,
    gpu_hours: float,
    test_reads: int,
    advice: Sequence[str] = (),
    evidence: Evidence | None = None,
    details: Details | None = None,
    unfinished: str | None = None,
    budget_ended_by: str | None = None,
) -> SweepReport:
    """Put the report together.

    Args:
        inputs: The sweep's checked input.
        sweep_id: Ties the report to spec.yaml.
        precision: Of training and validation.
        records: Every trial of the study.
        winner: The one whose model is handed over.
        averaged: The trials whose weights are averaged in that model; none where it is the winner's own.
        validation: The model's scores on validation.
        test: The winner's scores on the test split; None where there is none.
        wall_s: How long the sweep took with all its restarts, seconds.
        gpu_hours: What it took of GPUs.
        test_reads: How often a model was scored on the test split, with all its restarts.
        advice: What the numbers call for next.
        evidence: What the fresh runs of the finalists have shown.
        details: What the page shows beside the scores.
        unfinished: What the sweep still lacks, in words; None where it has ended.
        budget_ended_by: The budget that ended the search before its last trial; None where none did.
    """
    spec, data, best = inputs.spec, inputs.data, winner.best
    if best is None:
        raise ValueError(f"trial {winner.number} has no epoch")
    report = SweepReport(
        name=spec.name,
        model=spec.model,
        dataset=spec.dataset,
        metric=spec.metric,
        mode=spec.mode,
        f1_average=inputs.f1_average,
        label_names=list(data.label_names),
        precision=precision,
        best=Winner(
            trial=winner.number,
            config=winner.config,
            epoch=best.epoch,
            seed=winner.seed,
            confirms=winner.confirms,
            averaged=[*averaged],
            validation=dict(validation),
            collapsed=winner.collapsed,
        ),
        test=test,
        test_reads=test_reads,
        majority=Majority(
            validation=inputs.majority("validation"), test={} if test is None else inputs.majority("test")
        ),
        warnings=[],
        notes=[
            *_default_notes(evidence),
            *data.notes,
            *memory_notes(records),
            *(_early_notes(records, spec, budget_ended_by) if unfinished is None else []),
        ],
        advice=list(advice),
        trials=[trial_row(record) for record in records],
        wall_s=wall_s,
        gpu_hours=gpu_hours,
        budget_ended_by=budget_ended_by,
        budgets=settings_of(spec),
        train_s=sum(record.seconds for record in records),
        rows={name: len(split) for name, split in data.splits.items()},
        versions=versions(),
        seed=spec.seed,
        sweep_id=sweep_id,
        final=spec.final if winner.confirms is not None else None,
        unfinished=unfinished,
        **(vars(evidence) if evidence is not None else {}),
        **(vars(details) if details is not None else {}),
    )
    return report.model_copy(update={"warnings": [*inputs.findings.leaks, *warnings_of(report)]})


def trial_row(record: TrialRecord) -> TrialRow:
    """Say what the study has of one trial."""
    return TrialRow(
        number=record.number,
        state=record.state,
        config=record.config,
        epochs_run=len(record.epochs),
        best_epoch=record.best_epoch,
        value=record.value,
        collapsed=record.collapsed,
        seconds=record.seconds,
        seed=record.seed,
        failure=record.failure,
        confirms=record.confirms,
        epochs=[
            EpochRow(epoch=of.epoch, train_loss=of.train_loss, scores=dict(of.scores), seconds=of.seconds)
            for of in record.epochs
        ],
        rungs=[
            RungRow(
                schedule_percent=of.schedule_percent,
                train_loss=of.train_loss,
                scores=dict(of.scores),
                seconds=of.seconds,
            )
            for of in record.rungs
        ],
        began_at=record.epochs[0].began_at if record.epochs else None,
        ended_at=record.epochs[-1].ended_at if record.epochs else None,
    )


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _early_notes(records: Sequence[TrialRecord], spec: SweepSpec, ended_by: str | None) -> list[str]:
    """Say that the search ended before its last trial: a budget ended it, or `--stop RUN --finish`."""
    done = sum(record.state != "RUNNING" for record in of_the_search(records))
    if ended_by is not None:
        return [budget_sentence(ended_by, settings_of(spec), done)]
    early = f"the sweep was finished early, as asked: after {done} of {spec.num_trials} trials"
    return [early] if done < spec.num_trials else []


def _default_notes(evidence: Evidence | None) -> list[str]:
    """Say where the search has brought nothing that can be measured over the untuned default."""
    default = evidence.default if evidence is not None else None
    if default is None:
        return []
    if default.is_winner:
        return ["the untuned default is the winner: the search has found nothing better"]
    if default.interval is not None and default.interval[0] <= 0 <= default.interval[1]:
        low, high = default.interval
        return [
            f"the winner is not measurably better than the untuned default: the difference on {default.on} is "
            f"{default.difference:.4f}, and lies between {low:.4f} and {high:.4f}"
        ]
    return []


def memory_notes(records: Sequence[TrialRecord]) -> list[str]:
    """Say which trials were computed in smaller pieces since memory ran out."""
    pieces = {r.number: [epoch.rows_at_once for epoch in r.epochs if epoch.rows_at_once] for r in records}
    return [
        f"memory ran out: trial {number} was computed {min(rows)} rows at a time, with its own batch size all the same"
        for number, rows in pieces.items()
        if rows
    ]


def warnings_of(report: SweepReport) -> list[str]:
    """Say what the user must not overlook."""
    found = [] if report.unfinished is None else [report.unfinished]
    best, majority = report.best, report.majority
    compared_on = [("validation", best.validation, majority.validation)]
    if report.test is not None:
        compared_on.append(("test", report.test.scores, majority.test))
    for split, scores, guess in compared_on:
        short_of = [name for name in guess if not _beats(name, scores[name], guess[name])]
        # On classes of very different sizes a good model may have less accuracy than the guess. The metric that was
        # searched decides; where the guess has none of it, a model has to fall short of the guess in everything.
        if report.metric in short_of or (report.metric not in guess and len(short_of) == len(guess)):
            compared = ", ".join(f"{name} {scores[name]:.4f} against {guess[name]:.4f}" for name in short_of)
            found.append(
                f"the winner does not beat always answering the most frequent class on {split} ({compared}): "
                "it has learned little or nothing"
            )
    if best.collapsed:
        found.append("the winner gives every validation row the same class")
    if failed := report.count("FAIL"):
        found.append(f"{failed} of {len(report.searched)} trials failed; trials/N/failure.txt says why")
    return found


def _beats(name: str, score: float, guess: float) -> bool:
    return score > guess if METRICS[name].direction == "max" else score < guess
