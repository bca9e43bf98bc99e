"""What a sampler sees of the trials: the order of the winner's rule."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import TrialState

from tests.tune.test_searcher import epoch, issue, leave_model, make_book
from trainable.epoch_scores import RungScores
from tune.run_dir.ranking import rank
from tune.samplers import SAMPLERS
from tune.sweep.ranked_study import RankedStudy
from tune.sweep.trial_book import TrialBook

SCORES = {"f1": (0.8, 0.8, 0.7, 0.8, 0.9, 0.7, 0.8), "loss": (0.5, 0.3, 0.9, 0.4, 0.6, 0.2, 0.3)}


def scored(f1: float, loss: float, percent: float = 100.0) -> Any:
    made = epoch(1, f1)
    return replace(made, schedule_percent=percent, scores={**made.scores, "loss": loss})


def end(book: TrialBook, state: TrialState, epochs: list[Any], rungs: list[RungScores] | None = None) -> int:
    number = issue(book).number
    book.record_rungs(number, rungs or [])
    book.record_epochs(number, epochs)
    if state == TrialState.COMPLETE:
        leave_model(book, number)
    book.finish(number, state)
    return number


@pytest.mark.parametrize("metric", ["f1", "loss", "accuracy"])
def test_the_sampler_and_the_winners_rule_have_one_order(tmp_path: Path, metric: str) -> None:
    mode = "min" if metric == "loss" else "max"
    book = make_book(tmp_path, metric=metric, mode=mode)
    for f1, loss in zip(SCORES["f1"], SCORES["loss"], strict=True):
        end(book, TrialState.COMPLETE, [scored(f1, loss)])
    seen = RankedStudy(book.study, metric, mode).get_trials()
    of_study = book.study.get_trials()
    order = sorted(seen, key=lambda trial: trial.value or 0, reverse=mode == "max")
    assert [trial.number for trial in order] == [record.number for record in rank(book.records(), metric, mode)]
    assert len({trial.value for trial in seen}) == len(seen)
    for trial, original in zip(seen, of_study, strict=True):
        assert trial.value is not None
        assert original.value is not None
        assert math.isclose(trial.value, original.value, rel_tol=1e-12)


def rung(percent: float, f1: float, loss: float) -> RungScores:
    return RungScores(percent, round(percent), 0.5, 1.0, {**epoch(1, f1).scores, "loss": loss})


def test_stopped_trials_are_ordered_by_how_far_they_came_in_their_own_schedules(tmp_path: Path) -> None:
    book = make_book(tmp_path, num_trials=6)
    end(book, TrialState.PRUNED, [], [rung(12.5, 0.9, 0.5)])
    end(book, TrialState.PRUNED, [scored(0.6, 0.5, 50.0)])
    end(book, TrialState.PRUNED, [scored(0.5, 0.5, 25.0), scored(0.7, 0.5, 50.0)])
    end(book, TrialState.PRUNED, [scored(0.8, 0.5, 25.0)], [rung(12.6, 0.1, 0.5)])
    end(book, TrialState.PRUNED, [], [rung(13.0, 0.9, 0.4)])
    study = RankedStudy(book.study, "f1", "max")
    good, rest = _split_trials(study, study.get_trials(), 3)
    assert {trial.number for trial in good} == {2, 1, 3}
    assert {trial.number for trial in rest} == {0, 4}
    good, _ = _split_trials(study, study.get_trials(), 4)
    assert 4 in {trial.number for trial in good}, "of equal scores at a rung the lower loss is better"


def test_a_sampler_is_shown_the_study_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Looks(TPESampler):
        def sample_independent(self, study: Any, *arguments: Any) -> Any:
            seen.append(study)
            return super().sample_independent(study, *arguments)

    monkeypatch.setitem(SAMPLERS, "tpe", replace(SAMPLERS["tpe"], make=lambda seed, searched: Looks(seed=seed)))
    book = make_book(tmp_path)
    for loss in (0.5, 0.3):
        end(book, TrialState.COMPLETE, [scored(0.8, loss)])
    first, second = seen[-1].get_trials(states=[TrialState.COMPLETE])
    assert first.value < second.value
    assert [trial.state for trial in seen[-1].trials] == [trial.state for trial in book.study.trials]
