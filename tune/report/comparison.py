"""Several finished sweeps side by side, and their winners' differences on the same test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trainable.data.splits import Split
from trainable.errors import UserError
from trainable.metrics import METRICS, F1Average
from trainable.storage.predictions import read_predictions
from trainable.storage.urls import is_url
from tune.process.restart import reporting_command
from tune.report.confirmed import FreshRun, RecipeScores
from tune.report.parts import Config, Part
from tune.report.results import Scores, SplitScores, SweepReport, read_report
from tune.run_dir.finished_run import open_begun
from tune.run_dir.layout import TEST_PREDICTIONS, RunDir
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import build_spec
from tune.statistics.bootstrap import Floats
from tune.statistics.configurations import compare, compare_models, seed_spread
from tune.statistics.contributions import contributions

if TYPE_CHECKING:
    from pathlib import Path

    from trainable.data.load import TextData


class ComparedRun(Part):
    """One sweep of a comparison."""

    run: str
    """What the user calls the run directory."""
    name: str
    model: str
    dataset: str
    metric: str
    """Its objective."""
    space: dict[str, str]
    """The domain of each hyperparameter, as spec.yaml has it."""
    trials: int
    """Of the search."""
    fresh_runs: int
    """Of its finalists."""
    train_s: float
    """Training and evaluation of all of them together, seconds."""
    config: Config
    """The winner's."""
    validation: Scores
    test: SplitScores | None
    recipe: RecipeScores | None
    """What the winner's configuration scores from fresh seeds."""
    test_reads: int
    unfinished: str | None
    """What the sweep lacked when its report was made; None where it had ended."""


class PairedDifference(Part):
    """The difference of two winners on the same test rows, the first minus the second."""

    first: str
    """A run directory, as the user calls it."""
    second: str
    metric: str
    rows: int
    first_score: float
    """The mean over its fresh seeds; of one model its score."""
    second_score: float
    first_seeds: int
    """Fresh seeds of the winner's configuration; 0 where the model in best/ is compared."""
    second_seeds: int
    difference: float
    interval: list[float]
    """The low and the high end at 95 %. It counts seeds and rows; only rows where neither has two fresh seeds."""
    probability_better: float
    """How probable it is that the first is better."""


class SideBySide(Part):
    """Sweeps side by side."""

    runs: list[ComparedRun]
    pairs: list[PairedDifference]
    notes: list[str]
    """Which runs can't be compared and why, and what else limits the comparison; a sentence each."""


@dataclass(frozen=True)
class _Opened:
    """A run directory, and what it says."""

    name: str
    run_dir: RunDir
    report: SweepReport
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class _TestRows:
    """The test split of a run: the rows that models predicted."""

    split: Split
    label_names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Equal for equal rows in the same order with the same classes."""
        found = hashlib.sha256(repr((self.label_names, tuple(self.split.labels))).encode())
        for column in self.split.texts:
            for text in column:
                found.update(f"{len(text)} {text}".encode(errors="surrogatepass"))
        return found.hexdigest()

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Of each row its texts: rows of equal texts are drawn together."""
        return list(zip(*self.split.texts, strict=True))


def compare_runs(runs: Sequence[str | Path], problems: list[str]) -> SideBySide:
    """Put sweeps that have a report side by side. Nothing is written, and no model is run.

    Args:
        runs: The run directories, or their URLs.
        problems: What is known to be wrong already.

    Raises:
        UserError: With `problems` and those of every run.
    """
    opened = [found for run in runs if (found := _open(run, problems)) is not None]
    places = [each.run_dir.name for each in opened]
    problems += [f"{place}: is named twice" for place in dict.fromkeys(places) if places.count(place) > 1]
    if problems:
        raise UserError(problems)
    notes: list[str] = []
    rows = _test_rows(opened, notes)
    pairs = [
        pair
        for first, second in combinations(opened, 2)
        if (pair := _paired(first, second, rows, opened[0].report.metric, notes)) is not None
    ]
    if pairs:
        notes.append("whoever chooses the run with the best test score gets a score that flatters a little")
    return SideBySide(runs=[_compared_run(each) for each in opened], pairs=pairs, notes=list(dict.fromkeys(notes)))


def _open(run: str | Path, problems: list[str]) -> _Opened | None:
    try:
        run_dir = open_begun(run)
        report, spec = read_report(run_dir), run_dir.read_spec()
    except UserError as error:
        problems += error.problems
        return None
    if report is None:
        problems.append(f"{run_dir.name}: has no report yet; {reporting_command(run_dir.name)} makes one")
        return None
    return _Opened(run_dir.name if is_url(run) else str(run), run_dir, report, spec)


def _compared_run(of: _Opened) -> ComparedRun:
    report = of.report
    return ComparedRun(
        run=of.name,
        name=report.name,
        model=report.model,
        dataset=report.dataset,
        metric=report.metric,
        space={str(name): str(domain) for name, domain in of.spec["space"].items()},
        trials=len(report.searched),
        fresh_runs=len(report.trials) - len(report.searched),
        train_s=report.train_s,
        config=report.best.config,
        validation=report.best.validation,
        test=report.test,
        recipe=report.recipe,
        test_reads=report.test_reads,
        unfinished=report.unfinished,
    )


# The rows


def _test_rows(opened: Sequence[_Opened], notes: list[str]) -> dict[str, _TestRows]:
    """The test rows of each run that has some, by its name. Data that several runs share is read once."""
    read: dict[str, _TestRows | None] = {}
    found = {}
    for each in opened:
        if each.report.test is None:
            notes.append(f"{each.name}: has no test split, so that no difference to it is measured")
            continue
        fingerprint = str(each.spec["resolved"]["data_fingerprint"])
        if read.get(fingerprint) is None:
            read[fingerprint] = _read(each, fingerprint, notes)
        if (rows := read[fingerprint]) is not None:
            found[each.name] = rows
    return found


def _read(of: _Opened, fingerprint: str, notes: list[str]) -> _TestRows | None:
    """Read the data of a run, as long as it is what the sweep has read."""
    from tune.prepare.inputs import load_spec_data

    problems: list[str] = []
    data: TextData | None = load_spec_data(build_spec(given_from_run(of.spec), problems), problems)
    if data is None or problems:
        notes.append(f"{of.name}: no difference to it is measured, because its data can't be read: {problems[0]}")
        return None
    if data.fingerprint != fingerprint or "test" not in data.splits:
        notes.append(f"{of.name}: no difference to it is measured, because its data has changed since the sweep")
        return None
    return _TestRows(data.splits["test"], data.label_names)


# The differences


def _paired(
    first: _Opened, second: _Opened, rows: Mapping[str, _TestRows], metric: str, notes: list[str]
) -> PairedDifference | None:
    """The difference of two runs; None where it can't be measured, which `notes` say."""
    pair = (first, second)
    both = f"{first.name} and {second.name}"
    if any(each.report.test is None or each.name not in rows for each in pair):
        return None  # as `notes` say already
    if rows[first.name].key != rows[second.name].key:
        notes.append(f"{both} have other test rows: their scores can't be compared")
        return None
    if metric == "f1" and first.report.f1_average != second.report.f1_average:
        notes.append(f"{both} average F1 otherwise: their scores can't be compared")
        return None
    on = rows[first.name]
    known = [_fresh(each, on, metric) or _handed_over(each, on, metric) for each in pair]
    if not all(known):
        lacking = " and ".join(each.name for each, of in zip(pair, known, strict=True) if not of)
        notes.append(f"{both}: no difference is measured, because predictions of {lacking} on test are missing")
        return None
    runs = [np.array(of) for of in known]
    direction = METRICS[metric].direction
    compared = compare(runs[0], runs[1], direction, seed_spread(runs))
    if compared.interval is None:
        compared = compare_models(runs[0], runs[1], direction)
    if compared.interval is None or compared.probability_better is None:
        return None
    if any(each.report.metric != metric for each in pair):
        notes.append(f"the differences are those of {metric}, which is not the objective of every run")
    seeds = [len(of) if _fresh_runs(each) else 0 for each, of in zip(pair, known, strict=True)]
    return PairedDifference(
        first=first.name,
        second=second.name,
        metric=metric,
        rows=len(on.split),
        first_score=float(runs[0].mean()),
        second_score=float(runs[1].mean()),
        first_seeds=seeds[0],
        second_seeds=seeds[1],
        difference=compared.difference,
        interval=[*compared.interval],
        probability_better=compared.probability_better,
    )


def _fresh_runs(of: _Opened) -> list[FreshRun]:
    """The winner's runs from fresh seeds."""
    return [run for each in of.report.finalists if each.trial == of.report.best.confirms for run in each.runs]


def _fresh(of: _Opened, on: _TestRows, metric: str) -> list[Floats]:
    """What each row contributes to the scores of the winner's fresh runs; empty where that of one is missing."""
    found = [_contributions(of, of.run_dir.test_predictions(run.trial), on, metric) for run in _fresh_runs(of)]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else []


def _handed_over(of: _Opened, on: _TestRows, metric: str) -> list[Floats]:
    """What each row contributes to the score of the model in best/; empty where its predictions are missing."""
    found = _contributions(of, of.run_dir.best / TEST_PREDICTIONS, on, metric)
    return [] if found is None else [found]


def _contributions(of: _Opened, file: Path, on: _TestRows, metric: str) -> Floats | None:
    of.run_dir.storage.fetch(file)
    predicted = read_predictions(file, len(on.split), len(on.label_names))
    if predicted is None:
        return None
    return contributions(metric, on.split.labels, predicted, cast(F1Average, of.report.f1_average), on.groups)
