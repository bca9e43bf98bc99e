"""What the fresh runs of the finalists show of the winner: the parts of the report that `tune.statistics` computes.

Rows of equal texts are drawn together. Models are compared on the same rows: those of the test split where there is
one, else those of the validation split.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from trainable.config import TrialConfig
from trainable.data.tokens import TokenizedSplit
from trainable.job import Job
from trainable.metrics import METRICS
from trainable.storage.predictions import read_predictions
from tune.report.confirmed import (
    Cheapest,
    DefaultScores,
    Evidence,
    FinalistScores,
    FreshRun,
    OptimismScores,
    RecipeScores,
)
from tune.report.intervals import text_groups
from tune.report.text import short
from tune.run_dir.layout import RunDir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.statistics.bootstrap import Floats
from tune.statistics.configurations import Recipe, SeedSpread, compare, recipe, seed_spread
from tune.statistics.contributions import contributions
from tune.statistics.optimism import optimism
from tune.statistics.ties import cheapest, ties
from tune.sweep.confirmation import Chosen, Finalist, finalists, is_behind
from tune.sweep.final_score import TestSplit

if TYPE_CHECKING:
    from trainable.storage.predictions import Probabilities

NEAR = 0.02  # predictions are rounded to float16: a score that is farther from the study's is another epoch's
MOST_COMPARED = 200  # trials, the best ones: of more, the last could not have won
MUCH_CHEAPER = 0.9  # of the winner's time


class Evidences:
    """Reads what the models of a sweep predicted, and compares them."""

    def __init__(
        self,
        records: Sequence[TrialRecord],
        spec: SweepSpec,
        choice: Chosen,
        run_dir: RunDir,
        job: Job,
        test: TestSplit | None,
    ) -> None:
        """Compare the models of a sweep.

        Args:
            records: Every trial of the study.
            spec: The sweep's.
            choice: The winner.
            run_dir: Where the sweep was run.
            job: What its trials share.
            test: The test split; None where there is none.
        """
        self._spec, self._choice, self._run_dir, self._job, self._test = spec, choice, run_dir, job, test
        self._group = finalists(records, spec)
        self._done = rank(records, spec.metric, spec.mode)[:MOST_COMPARED]
        self._validation_groups = text_groups(job.validation)

    def all(self) -> Evidence:
        """Everything that can be said."""
        validated = {record.number: self._on_validation(record) for record in self._done}
        known = [record for record in self._done if validated[record.number] is not None]
        of_trials = [of for record in known if (of := validated[record.number]) is not None]
        fresh = {each.record.number: self._runs_on_validation(each) for each in self._group}
        fresh = {number: runs for number, runs in fresh.items() if runs}
        spread = seed_spread([np.array(runs) for runs in fresh.values()]) if fresh else None
        on, tested, test_spread = self._where_compared(fresh)
        default = self._default(on, tested, test_spread)
        # The test split may tell the default from the winner where the validation split can't.
        apart = {default.config} if default is not None and _is_worse(default, self._spec.mode) else set()
        tied, cheap = self._ties(known, of_trials, fresh, spread, apart)
        return Evidence(
            recipe=self._recipe(on, tested.get(self._choice.finalist.number), test_spread),
            optimism=self._optimism(known, of_trials, fresh),
            default=default,
            finalists=[self._finalist(each) for each in self._group if each.runs],
            ties=tied,
            cheapest=cheap,
        )

    # What was predicted

    def _on_validation(self, record: TrialRecord) -> Floats | None:
        file, rows = self._run_dir.predictions(record.number), self._job.validation
        self._run_dir.storage.fetch(file)
        predicted = read_predictions(file, len(rows), len(self._job.label_names))
        if predicted is None or record.value is None:
            return None
        found = self._contributions(predicted, rows, self._validation_groups)
        return found if METRICS[self._spec.metric].direction == "min" or _near(found, record.value) else None

    def _contributions(self, predicted: Probabilities, rows: TokenizedSplit, groups: Sequence[bytes]) -> Floats:
        return contributions(self._spec.metric, rows.labels, predicted, self._job.f1_average, groups)

    def _runs_on_validation(self, finalist: Finalist) -> list[Floats]:
        return [found for run in finalist.runs if (found := self._on_validation(run)) is not None]

    def _where_compared(
        self, fresh: dict[int, list[Floats]]
    ) -> tuple[Literal["test", "validation"], dict[int, list[Floats]], SeedSpread | None]:
        """The split on which the winner and the default meet, their runs there, and the spread of the seeds."""
        wanted = [e for e in self._group if e.runs and (e.is_default or e.record == self._choice.finalist)]
        if self._test is None:
            found = {each.record.number: fresh.get(each.record.number, []) for each in wanted}
        else:
            groups = text_groups(self._test.rows) if wanted else []
            found = {}
            for each in wanted:
                predicted = (self._test.predictions(run) for run in each.runs)
                found[each.record.number] = [
                    self._contributions(of, self._test.rows, groups) for of in predicted if of is not None
                ]
        found = {number: runs for number, runs in found.items() if runs}
        spread = seed_spread([np.array(runs) for runs in found.values()]) if found else None
        return "test" if self._test is not None else "validation", found, spread

    # What follows

    def _recipe(
        self, on: Literal["test", "validation"], runs: list[Floats] | None, spread: SeedSpread | None
    ) -> RecipeScores | None:
        if runs is None:
            return None
        of: Recipe = recipe(np.array(runs), spread)
        return RecipeScores(
            mean=of.mean,
            interval=None if of.interval is None else self._within_bounds(of.interval),
            seeds=len(runs),
            sd_seed=of.sd_seed,
            on=on,
            metric=self._spec.metric,
        )

    def _within_bounds(self, ends: tuple[float, float]) -> list[float]:
        """The ends, as far as the metric can reach."""
        low, high = METRICS[self._spec.metric].bounds
        return [float(max(ends[0], low)), float(min(ends[1], high))]

    def _optimism(
        self, known: Sequence[TrialRecord], of_trials: Sequence[Floats], fresh: dict[int, list[Floats]]
    ) -> OptimismScores | None:
        winner = self._choice.finalist
        numbers = [record.number for record in known]
        if winner.number not in numbers or winner.value is None:
            return None
        last = winner.epochs[-1].scores[self._spec.metric]
        runs = {numbers.index(number): np.array(of) for number, of in fresh.items() if number in numbers}
        mode = self._spec.mode
        found = optimism(winner.value, last, np.array(of_trials), numbers.index(winner.number), runs, mode)
        return OptimismScores(epoch=found.epoch or 0.0, seed=found.seed, selection=found.selection, total=found.total)

    def _default(
        self, on: Literal["test", "validation"], tested: dict[int, list[Floats]], spread: SeedSpread | None
    ) -> DefaultScores | None:
        default = next((each for each in self._group if each.is_default and each.mean is not None), None)
        winner = self._choice.finalist.number
        if default is None or default.mean is None or default.record.number not in tested or winner not in tested:
            return None
        runs, is_winner = np.array(tested[default.record.number]), default.record.number == winner
        against = None if is_winner else compare(np.array(tested[winner]), runs, self._spec.mode, spread)
        return DefaultScores(
            trial=default.record.number,
            config=default.record.config,
            validation=default.mean,
            test=float(runs.mean()) if on == "test" else None,
            difference=0.0 if against is None else against.difference,
            interval=None if against is None or against.interval is None else [*against.interval],
            probability_better=None if against is None else against.probability_better,
            on=on,
            is_winner=is_winner,
        )

    def _finalist(self, finalist: Finalist) -> FinalistScores:
        runs = [
            FreshRun(trial=r.number, seed=r.seed or 0, value=r.value, epoch=r.best_epoch or 0, seconds=r.seconds)
            for r in finalist.runs
            if r.value is not None
        ]
        return FinalistScores(
            trial=finalist.record.number,
            config=finalist.record.config,
            found=finalist.record.value or 0.0,
            runs=runs,
            mean=finalist.mean,
            behind=is_behind(finalist, self._group, self._spec),
        )

    def _ties(
        self,
        known: Sequence[TrialRecord],
        of_trials: Sequence[Floats],
        fresh: dict[int, list[Floats]],
        spread: SeedSpread | None,
        apart: Collection[TrialConfig],
    ) -> tuple[list[int], Cheapest | None]:
        """The trials that can't be told from the winner, and the one of them that trains fastest.

        Configurations that are `apart` are known to be worse.
        """
        winner = self._choice.finalist
        own = next((of for record, of in zip(known, of_trials, strict=True) if record.number == winner.number), None)
        best: list[Floats] | None = fresh.get(winner.number) or (None if own is None else [own])
        others = [
            (record, np.array(fresh[record.number]) if record.number in fresh else of)
            for record, of in zip(known, of_trials, strict=True)
            if record.config != winner.config and record.config not in apart
        ]
        if best is None or not others:
            return [], None
        tied = ties(np.array(best), [of for _, of in others], spread, self._spec.mode)
        records = [record for record, _ in others]
        fastest = cheapest(tied, [record.seconds for record in records])
        numbers = [records[i].number for i in tied]
        if fastest is None or records[fastest].seconds > MUCH_CHEAPER * winner.seconds:
            return numbers, None
        record = records[fastest]
        percent = 100 * record.seconds / winner.seconds
        words = f"{short(record.config)} is not measurably worse and trains in {percent:.0f} % of the time"
        return numbers, Cheapest(
            trial=record.number, config=record.config, seconds=record.seconds, of_winner_s=winner.seconds, words=words
        )


def _is_worse(default: DefaultScores, mode: str) -> bool:
    """Whether the winner is better by more than rows and seeds explain."""
    return default.interval is not None and (default.interval[0] > 0 if mode == "max" else default.interval[1] < 0)


def _near(found: npt.NDArray[np.float64], value: float) -> bool:
    return abs(float(found.mean()) - value) <= NEAR
