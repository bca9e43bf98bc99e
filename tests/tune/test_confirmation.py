"""Which finalists are trained again, which of them wins, and which run of it is handed over. Records alone decide."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import command
from tests.tune.test_searcher import epoch, issue, leave_model, make_book, run_one
from trainable.config import TrialConfig
from trainable.epoch_scores import best_epoch
from trainable.storage.predictions import read_predictions
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.confirm import MOST_SEEDS, SHARE_OF_SEARCH, most_fresh_runs
from tune.spec.sources import Given
from tune.spec.space import Choice, Fixed, Float, Int
from tune.spec.sweep_spec import SweepSpec, build_spec
from tune.spec.untuned import untuned_values
from tune.sweep.confirmation import choose, default_trial, finalists, is_behind, next_finalist

DEFAULT: dict[str, Any] = {"learning_rate": 5e-5, "batch_size": 16, "epochs": 3}


def spec_of(**fields: Any) -> SweepSpec:
    return SweepSpec(**{"name": "s", "model": "m", "dataset": "d", "num_trials": 4, **fields})


def record(number: int, value: float, rate: float, confirms: int | None = None, **fields: Any) -> TrialRecord:
    """A trial of three epochs that take 1.5 s each."""
    epochs = tuple(epoch(i, value) for i in (1, 2, 3))
    config = TrialConfig(**{**DEFAULT, "learning_rate": rate})
    whole = {"state": "COMPLETE", "config": config, "seed": number, "epochs": epochs, "confirms": confirms, **fields}
    return TrialRecord(number=number, best=best_epoch(epochs, "f1", "max"), value=value, **whole)


SEARCH = [record(0, 0.80, 5e-5), record(1, 0.90, 1e-4), record(2, 0.85, 2e-4), record(3, 0.70, 3e-4)]


def confirmed(records: list[TrialRecord], spec: SweepSpec, score: Any) -> list[TrialRecord]:
    """The records with all fresh runs that the sweep makes of its finalists, one after another."""
    records = [*records]
    while (finalist := next_finalist(records, spec, lambda run: True)) is not None:
        number = len(records)
        assert number < 300, "it never ends"
        records.append(record(number, score(finalist, number), finalist.config.learning_rate, finalist.number))
    return records


def fresh(records: list[TrialRecord]) -> list[int]:
    """Whom the fresh runs confirm, in their order."""
    return [each.confirms for each in records if each.confirms is not None]


def test_nothing_is_confirmed_where_that_is_not_wanted_or_no_trial_has_ended() -> None:
    assert next_finalist(SEARCH, spec_of(confirm="none"), lambda run: True) is None
    assert next_finalist([record(0, 0.5, 5e-5, state="FAIL")], spec_of(), lambda run: True) is None


@pytest.mark.parametrize(("wanted", "runs"), [("2x3", [1, 2, 0] * 3), ("1x1", [1, 0]), ("9x1", [1, 2, 0, 3])])
def test_finalists_and_seeds_can_be_asked_for_by_numbers(wanted: str, runs: list[int]) -> None:
    """The default is confirmed beside them, unless it is one of them."""
    assert fresh(confirmed(SEARCH, spec_of(confirm=wanted), lambda finalist, number: 0.8)) == runs


def test_the_winner_and_the_default_get_two_seeds_in_any_case() -> None:
    one_epoch = [record(i, 0.9 - i / 10, rate, epochs=(epoch(1, 0.9 - i / 10),)) for i, rate in enumerate((5e-5, 1e-4))]
    assert sorted(fresh(confirmed(one_epoch, spec_of(), lambda finalist, number: 0.5))) == [0, 0]
    two = [record(0, 0.9, 1e-4), record(1, 0.5, 5e-5)]
    assert sorted(fresh(confirmed(two, spec_of(), lambda finalist, number: 0.5))) == [0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_auto_takes_a_third_of_the_searchs_time_and_no_more_seeds_than_it_says(seed: int) -> None:
    rng = random.Random(seed)
    search = [record(i, rng.random(), 5e-5 if i == 0 else rng.uniform(1e-5, 1e-3)) for i in range(rng.randint(2, 40))]
    spec = spec_of(num_trials=len(search))
    records = confirmed(search, spec, lambda finalist, number: rng.gauss(finalist.value, 0.05))
    runs = fresh(records)
    assert len(runs) <= max(4, SHARE_OF_SEARCH * len(search))
    assert len(runs) <= most_fresh_runs(spec)
    assert max(runs.count(number) for number in runs) <= MOST_SEEDS
    group = finalists(records, spec)
    seeds = [(len(each.runs), is_behind(each, group, spec)) for each in group]
    assert all(number >= 2 or behind for number, behind in seeds if number), "one seed says nothing of the spread"
    assert len({*runs}) <= 5


def test_who_is_clearly_behind_gets_no_more() -> None:
    search = [record(i, 0.9 - i / 1000, rate) for i, rate in enumerate((1e-4, 2e-4, 3e-4, 5e-5))]
    search += [record(i, 0.1, i * 1e-6) for i in range(40, 140)]
    close = confirmed(search, spec_of(), lambda finalist, number: 0.9 + 0.01 * (number % 3))
    assert all(fresh(close).count(number) == MOST_SEEDS for number in (0, 1, 2, 3))
    records = confirmed(search, spec_of(), lambda finalist, number: 0.9 * (finalist.number != 1) + 0.01 * (number % 3))
    assert fresh(records).count(1) in (1, 2)
    group = finalists(records, spec_of())
    assert {each.record.number: is_behind(each, group, spec_of()) for each in group}[1]


def test_the_best_mean_of_the_fresh_seeds_wins_and_the_seed_it_was_found_with_does_not_count() -> None:
    lucky = {1: 0.70, 2: 0.84, 0: 0.80}
    records = confirmed(SEARCH, spec_of(confirm="3x3"), lambda finalist, number: lucky[finalist.number])
    found = choose(records, spec_of(confirm="3x3"), lambda run: True)
    assert found is not None
    assert (found.finalist.number, len(found.runs)) == (2, 3)
    assert found.run in found.runs
    assert rank(records, "f1", "max")[0].number == 1, "the search's own order stays"


def test_the_median_run_is_handed_over_or_the_best_one() -> None:
    spec = spec_of(confirm="1x3")
    order, others = iter([0.95, 0.99, 0.91]), itertools.repeat(0.2)
    records = confirmed(SEARCH, spec, lambda finalist, number: next(order if finalist.number == 1 else others))
    for final, value in (("median", 0.95), ("best", 0.99)):
        found = choose(records, spec_of(confirm="1x3", final=final), lambda run: True)
        assert found is not None
        assert found.run.value == value
    gone = choose(records, spec, lambda run: run.value != 0.95)
    assert gone is not None
    assert gone.run.value in (0.91, 0.99), "the nearest whose model is there"


def test_a_smaller_score_wins_where_the_metric_says_so() -> None:
    spec = spec_of(confirm="2x2", metric="loss", mode="min")
    losses = [(None, 0.5, 1e-4), (None, 0.4, 5e-5), (0, 0.3, 1e-4), (1, 0.6, 5e-5), (0, 0.3, 1e-4), (1, 0.6, 5e-5)]
    records = [
        replace(record(number, 1 - loss, rate, confirms), value=loss)  # `epoch` has 1 - F1 for its loss
        for number, (confirms, loss, rate) in enumerate(losses)
    ]
    found = choose(records, spec, lambda run: True)
    assert found is not None
    assert found.finalist.number == 0


def test_a_finalist_that_fails_again_and_again_is_given_up() -> None:
    records = [*SEARCH]
    while (finalist := next_finalist(records, spec_of(confirm="1x2"), lambda run: True)) is not None:
        state = "FAIL" if finalist.number == 1 else "COMPLETE"
        records.append(record(len(records), 0.5, finalist.config.learning_rate, finalist.number, state=state))
        assert len(records) < 20
    assert fresh(records).count(1) <= 3
    found = choose(records, spec_of(confirm="1x2"), lambda run: True)
    assert found is not None
    assert found.finalist.number == 0


# The untuned default


@pytest.mark.parametrize(
    ("space", "values"),
    [
        ({}, {"learning_rate": 5e-5, "batch_size": 16, "epochs": 3}),
        ({"learning_rate": Float(1e-4, 1e-3), "epochs": Int(4, 9)}, {**DEFAULT, "learning_rate": 1e-4, "epochs": 4}),
        ({"batch_size": Choice((8, 32))}, {"learning_rate": 5e-5, "batch_size": 32, "epochs": 3}),
        ({"batch_size": Choice((4, 8)), "epochs": Fixed(2)}, {"learning_rate": 5e-5, "batch_size": 8}),
        ({"dropout": Choice((0.0, None))}, {"learning_rate": 5e-5, "batch_size": 16, "epochs": 3, "dropout": None}),
        ({"dropout": Float(0.1, 0.3)}, {"learning_rate": 5e-5, "batch_size": 16, "epochs": 3, "dropout": 0.1}),
    ],
)  # fmt: skip
def test_the_default_is_what_people_use_as_far_as_the_space_allows(
    space: dict[str, Any], values: dict[str, Any]
) -> None:
    spec = spec_of()
    assert untuned_values(spec.model_copy(update={"space": {**spec.space, **space}})) == values


def test_the_first_point_is_the_default_where_there_are_points() -> None:
    assert untuned_values(spec_of(points=(TrialConfig(learning_rate=3e-5),))) == {"learning_rate": 3e-5}


def test_the_default_is_a_trial_of_every_sweep(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    configs = [run_one(book, [0.5]).config for _ in range(3)]
    wanted = untuned_values(book.spec)
    assert [wanted.items() <= config.all_values().items() for config in configs].count(True) == 1
    found = default_trial(book.records(), book.spec)
    assert found is not None
    assert found.number == 0


# The book


def confirm_one(book: Any, value: float) -> Any:
    assignment = issue(book)
    assert assignment.confirms is not None
    book.record_epochs(assignment.number, [epoch(1, value)])
    leave_model(book, assignment.number)
    book.finish(assignment.number, TrialState.COMPLETE, None)
    return assignment


def test_fresh_runs_follow_the_search_and_survive_a_driver(tmp_path: Path) -> None:
    book = make_book(tmp_path, num_trials=3, confirm="1x2")
    searched = [run_one(book, [0.5 + i / 10]) for i in range(3)]
    assert (book.finished, book.remaining) == (3, 1)
    first = confirm_one(book, 0.6)
    open_one = issue(book)
    again = make_book(tmp_path, num_trials=3, confirm="1x2")
    continued = issue(again)
    assert continued == open_one, "what a dead driver left open is run again, as the same trial"
    again.record_epochs(continued.number, [epoch(1, 0.6)])
    leave_model(again, continued.number)
    again.finish(continued.number, TrialState.COMPLETE, None)
    rest = []
    while again.remaining:
        rest.append(confirm_one(again, 0.6))
    assert again.issue() is None
    runs = [first, open_one, *rest]
    assert sorted(run.confirms for run in runs) == [0, 0, 2, 2], "the best, and the default"
    assert len({run.seed for run in (*searched, *runs)}) == 7, "each from a seed of its own"
    assert all(run.config == searched[run.confirms].config for run in runs)
    assert len(of_the_search(again.records())) == 3


def test_a_sampler_never_sees_a_fresh_run(tmp_path: Path) -> None:
    """An extended sweep proposes what it would propose without them."""
    proposed = []
    for confirm in ("none", "1x2"):
        book = make_book(tmp_path / confirm, num_trials=6, confirm=confirm)
        for i in range(6):
            run_one(book, [0.5 + i / 20])
        while book.remaining:
            confirm_one(book, 0.9)
        shown = book._proposals._ranked.get_trials()
        proposed.append([(trial.number, trial.params, trial.value) for trial in shown])
    assert proposed[0] == proposed[1]


def test_a_winner_whose_models_are_gone_is_trained_again(tmp_path: Path) -> None:
    book = make_book(tmp_path, num_trials=2, confirm="1x2")
    for value in (0.5, 0.7):
        run_one(book, [value])
    while book.remaining:
        confirm_one(book, 0.6)
    for each in book.records():
        book.run_dir.storage.remove(book.run_dir.model(each.number))
    again = make_book(tmp_path, num_trials=2, confirm="1x2")
    assert again.remaining == 1
    winner = confirm_one(again, 0.6)
    assert again.remaining == 0
    chosen = again.choose()
    assert chosen is not None
    assert chosen.run.number == winner.number


@pytest.mark.parametrize("value", ["3", "0x2", "2x0", "x", "3 x 4", "-1x2", "axb", None, 3])
def test_what_is_no_confirmation_is_refused(value: Any) -> None:
    problems: list[str] = []
    build_spec(Given({"model": "m", "dataset": "d", "confirm": value}), problems)
    assert len(problems) == 1
    assert "confirm must be auto, none, or KxM such as 3x4 (finalists x seeds), but got" in problems[0]


# The command


@pytest.mark.slow
def test_a_sweep_confirms_its_winner_and_says_what_that_shows(tiny_model: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
    flags = [
        "--dataset", data, "--model", tiny_model, "--out", "run", "--num-trials", 3, "--precision", "fp32",
        "--space", "learning_rate=log:1e-3..1e-2", "--space", "epochs=2..3", "--scheduler", "none",
    ]  # fmt: skip
    done = command("tune.search", *flags, "--confirm", "1x2", "--final", "soup", cwd=tmp_path, limit_s=300)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    runs = [row for row in report["trials"] if row["confirms"] is not None]
    best, winner = report["best"], report["finalists"][0]["trial"]
    assert best["confirms"] in {row["confirms"] for row in runs}
    assert best["trial"] in {row["number"] for row in runs}
    assert len(runs) == (2 if report["default"]["is_winner"] and len(report["finalists"]) == 1 else 4)
    assert report["recipe"]["seeds"] == 2
    assert report["recipe"]["on"] == "test"
    assert report["optimism"]["seed"] is not None
    assert report["test_reads"] == 1
    predicted = read_predictions(tmp_path / "run" / "best" / "test_predictions.npy", 48, 2)
    assert predicted is not None
    labels = [int(line.rpartition(",")[2]) for line in (data / "test.csv").read_text().splitlines()[1:]]
    assert float(np.mean(predicted.argmax(axis=1) == labels)) == pytest.approx(report["test"]["accuracy"])
    for row in report["trials"]:
        of_trial = read_predictions(tmp_path / "run" / "trials" / str(row["number"]) / "predictions.npy", 48, 2)
        assert of_trial is not None
    assert not [*(tmp_path / "run" / "trials").glob("*/model")], "best/ has the one that is handed over"
    assert f"trial {winner}" in done.stdout
    nothing = command("tune.search", *flags, "--confirm", "1x2", "--final", "soup", cwd=tmp_path, limit_s=300)
    assert nothing.returncode == 0
    assert nothing.stdout.startswith("nothing left to do")
    scored = command("tune.evaluate", "run", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert "the test split was read 2 times" in scored.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["test_reads"] == 2
