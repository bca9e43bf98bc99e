"""The result of a sweep as one value: what report.json holds, and what page, card and terminal are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, Field, model_serializer, model_validator

from trainable.metrics import Direction
from tune.report.budget_words import budget_sentence
from tune.report.confirmed import Cheapest, DefaultScores, Final, FinalistScores, OptimismScores, RecipeScores
from tune.report.details import Answers, DataSummary, EpochRow, Importance, Provenance, RungRow, WorkerSpan
from tune.report.parts import Config, Part
from tune.run_dir.layout import RunDir
from tune.spec.budgets import still_holds
from tune.spec.sweep_spec import SweepSpec

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
