"""Budgets: laws that sweeps on a simulated clock must keep, and what the decisions say of single cases."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.tune.sweep_on_a_clock import EVAL_S, TICK_S, ClockedSweep, clock, fresh_runs
from tests.tune.test_confirmation import record, spec_of
from tests.tune.test_end_to_end import command
from tests.tune.test_searcher import epoch, issue, leave_model, make_book, run_one
from trainable.metrics import METRICS
from tune.cluster.nodes import Node
from tune.cluster.plan import make_plan
from tune.report.budget_words import FLAG, budget_sentence
from tune.report.progress import outcome
from tune.run_dir.attributes import GPU_S, SEARCH_ENDED, WALL_S
from tune.run_dir.records import of_the_search
from tune.spec.budgets import settings_of, still_holds
from tune.spec.confirm import LEAST_SEEDS
from tune.spec.durations import duration_text, parse_duration
from tune.spec.sources import Given
from tune.spec.sweep_spec import BUDGETS, MOST_TRIALS_IN_BUDGET, build_spec
from tune.sweep.budget import END_S, STABLE_TRIALS, STARTUP_TRIALS, Pace, Usage, ends, goal_reached, time_is_up

__all__ = ["clock"]

SLACK_S = 2 * TICK_S


def varied(rng: random.Random) -> float:
    return rng.uniform(4, 16)


def tail_s(models: int, test_share: float) -> float:
    """How long a sweep of this test takes after its last training: each model is scored, and the report is written."""
    return 6 + models * test_share * EVAL_S


# Laws


@pytest.mark.parametrize("seed", range(12))
def test_a_sweep_never_takes_more_than_its_time_and_an_epoch(seed: int, tmp_path: Path, clock: list[float]) -> None:
    rng = random.Random(seed)
    budget_s = rng.choice([60, 200, 600, 900])
    confirm = rng.choice(["auto", "none", "2x2"])
    sweep = ClockedSweep(
        tmp_path, clock, {"time_budget": f"{budget_s}s", "confirm": confirm}, slots=rng.choice([1, 2, 3]),
        epoch_s=varied, value=lambda trial: trial.config.learning_rate * 900, early_percent=rng.choice([0, 50]),
    )  # fmt: skip
    began = clock[0]
    book = sweep.run()
    took_s = clock[0] - began
    fresh = len(fresh_runs(book.records()))
    assert took_s + tail_s(max(fresh, 1), 1.0) <= budget_s + sweep.longest_epoch_s + SLACK_S
    assert sweep.began_after_end == []
    assert book.budget.ended_by == "time_budget"
    assert {record.state for record in book.records()} <= {"COMPLETE", "PRUNED"}
    if budget_s >= 600:
        assert took_s + tail_s(fresh, 1.0) > 0.6 * budget_s, "time that was given is used"
        assert book.choose() is not None
        if confirm == "auto":
            complete = [run for run in fresh_runs(book.records()) if run.state == "COMPLETE"]
            assert len(complete) >= 2 * LEAST_SEEDS


def test_the_confirmation_of_a_short_budget_gets_up_to_half_of_it(tmp_path: Path, clock: list[float]) -> None:
    sweep = ClockedSweep(tmp_path, clock, {"time_budget": "4m", "confirm": "auto"}, slots=1)
    book = sweep.run()
    searched, fresh = of_the_search(book.records()), fresh_runs(book.records())
    assert len(searched) >= 2, "a search of one trial is none"
    assert sum(run.state == "COMPLETE" for run in fresh) >= 1
    assert clock[0] - 1000 <= 240


@pytest.mark.parametrize("seed", range(4))
def test_what_was_used_before_a_kill_counts_and_the_time_between_does_not(
    seed: int, tmp_path: Path, clock: list[float]
) -> None:
    rng = random.Random(seed)
    sweep = ClockedSweep(tmp_path, clock, {"time_budget": "10m", "confirm": "auto"}, slots=2, epoch_s=varied)
    ran_s = 0.0
    for _ in range(3):
        began = clock[0]
        sweep.run(until_s=began + rng.uniform(60, 170))
        ran_s += clock[0] - began
        clock[0] += 50_000
    began = clock[0]
    book = sweep.run()
    ran_s += clock[0] - began
    fresh = len(fresh_runs(book.records()))
    noted_late_s = 3 * 13  # a driver that is killed forgets what it used since its last note
    assert ran_s + tail_s(fresh, 1.0) <= 600 + sweep.longest_epoch_s + SLACK_S + noted_late_s
    assert ran_s > 400
    assert sweep.began_after_end == []
    assert book.meter.usage.wall_s == pytest.approx(ran_s, abs=noted_late_s)


def test_nothing_is_begun_after_the_end_also_by_a_driver_that_comes_back(tmp_path: Path, clock: list[float]) -> None:
    sweep = ClockedSweep(tmp_path, clock, {"target": "f1=0.8", "confirm": "2x3"}, value=lambda trial: trial.number / 10)
    sweep.run(until_s=clock[0] + 180)
    ended = sweep.run(until_s=clock[0] + 120)
    assert ended.budget.ended_by == "target"
    searched = len(of_the_search(ended.records()))
    last = sweep.run()
    assert len(of_the_search(last.records())) == searched
    assert len(fresh_runs(last.records())) >= 6
    assert sweep.began_after_end == []


def test_gpu_hours_are_those_of_all_gpus_used_or_not(tmp_path: Path, clock: list[float]) -> None:
    """4 GPUs for 10 minutes are 40 GPU-minutes."""
    fields = {"gpu_hours": 40 / 60, "confirm": "none"}
    sweep = ClockedSweep(tmp_path, clock, fields, slots=2, gpus=4.0)
    began = clock[0]
    sweep.run(until_s=began + 200)
    clock[0] += 9999
    again = clock[0]
    book = sweep.run()
    assert book.budget.ended_by == "gpu_hours"
    assert 540 < 200 + clock[0] - again + tail_s(1, 1.0) <= 600 + sweep.longest_epoch_s + SLACK_S
    assert book.meter.usage.gpu_s == pytest.approx(4 * book.meter.usage.wall_s, rel=0.02)


def test_money_is_gpu_hours_at_a_price(tmp_path: Path, clock: list[float]) -> None:
    fields = {"max_cost": 2.0, "price_per_gpu_hour": 3.0, "confirm": "none"}  # 40 GPU-minutes
    book = ClockedSweep(tmp_path, clock, fields, slots=2, gpus=4.0).run()
    assert book.budget.ended_by == "max_cost"
    assert 540 < clock[0] - 1000 + tail_s(1, 1.0) <= 600 + 11 + SLACK_S


def test_the_target_ends_the_search_with_the_trial_that_reaches_it(tmp_path: Path, clock: list[float]) -> None:
    fields = {"target": "accuracy=0.9", "confirm": "none"}
    sweep = ClockedSweep(tmp_path, clock, fields, slots=1, value=lambda trial: 0.95 if trial.number == 7 else 0.3)
    book = sweep.run()
    assert book.budget.ended_by == "target"
    assert len(book.records()) == 8
    choice = book.choose()
    assert choice is not None
    assert choice.run.number == 7


def test_what_runs_when_the_target_is_reached_is_finished(tmp_path: Path, clock: list[float]) -> None:
    sweep = ClockedSweep(tmp_path, clock, {"target": "f1=0.9", "confirm": "none"}, slots=3, value=lambda trial: 0.95)
    states = {record.state for record in sweep.run().records()}
    assert states == {"COMPLETE"}


def test_the_budget_that_ends_first_is_named(tmp_path: Path, clock: list[float]) -> None:
    both = {"time_budget": "5m", "target": "f1=0.9", "gpu_hours": 100.0, "until_stable": True, "confirm": "none"}
    late = ClockedSweep(tmp_path / "a", clock, both, gpus=1.0, value=lambda trial: trial.number / 1000)
    assert late.run().budget.ended_by == "time_budget"
    early = ClockedSweep(tmp_path / "b", clock, both, gpus=1.0, value=lambda trial: trial.number / 3)
    assert early.run().budget.ended_by == "target"
    paid = ClockedSweep(tmp_path / "c", clock, {**both, "gpu_hours": 0.02}, gpus=1.0)
    assert paid.run().budget.ended_by == "gpu_hours"


@pytest.mark.parametrize("slots", [1, 4])
def test_until_stable_ends_on_a_plateau_and_goes_on_while_scores_rise(
    slots: int, tmp_path: Path, clock: list[float]
) -> None:
    fields = {"until_stable": True, "confirm": "none"}
    flat = ClockedSweep(tmp_path / "flat", clock, fields, slots, value=lambda trial: 0.8, noise=0.01).run()
    assert flat.budget.ended_by == "until_stable"
    least = STARTUP_TRIALS + STABLE_TRIALS
    assert least <= len(flat.records()) < least + 2 * slots
    noisy = ClockedSweep(
        tmp_path / "noisy", clock, fields, slots, value=lambda trial: 0.8 + trial.number / 10_000, noise=0.01
    ).run()
    assert noisy.budget.ended_by == "until_stable", "what improves by less than the noise does not improve"
    rising = ClockedSweep(
        tmp_path / "rising", clock, {**fields, "num_trials": 40}, slots, value=lambda t: 0.3 + t.number / 90, noise=0.01
    ).run()
    assert rising.budget.ended_by is None
    assert len(rising.records()) == 40
    then_flat = ClockedSweep(
        tmp_path / "then flat", clock, fields, slots, value=lambda t: 0.3 + min(t.number, 20) / 90, noise=0.01
    ).run()
    assert 20 + STABLE_TRIALS - 1 <= len(then_flat.records()) <= 20 + STABLE_TRIALS + 2 * slots


def test_a_sweep_without_budgets_is_never_ended(tmp_path: Path, clock: list[float]) -> None:
    book = ClockedSweep(tmp_path, clock, {"num_trials": 5, "confirm": "none"}).run()
    assert book.budget.ended_by is None
    assert settings_of(book.spec) == {}
    assert len(book.records()) == 5
    assert ends(book.records(), book.spec, Usage(1e9, 1e9, 4.0), Pace()) is None


# Single cases


def test_a_budget_that_has_ended_a_search_can_be_raised_or_taken_away(tmp_path: Path, clock: list[float]) -> None:
    first = ClockedSweep(tmp_path, clock, {"time_budget": "3m", "confirm": "none"}).run()
    number = len(first.records())
    assert ClockedSweep(tmp_path, clock, {"time_budget": "3m", "confirm": "none"}).run().budget.ended_by
    more = ClockedSweep(tmp_path, clock, {"time_budget": "6m", "confirm": "none"}).run()
    assert len(more.records()) > number
    assert more.budget.ended_by == "time_budget"
    assert more.meter.usage.wall_s <= 360
    number = len(more.records())
    free = ClockedSweep(tmp_path, clock, {"num_trials": number + 2, "confirm": "none"}).run()
    assert len(free.records()) == number + 2
    assert free.budget.ended_by is None


def test_what_a_dead_driver_left_open_is_closed_where_no_time_is_left(tmp_path: Path, clock: list[float]) -> None:
    fields = {"time_budget": "100s", "confirm": "none"}
    first = make_book(tmp_path, **fields)
    run_one(first, [0.5])
    issue(first)
    clock[0] += 95
    first.meter.note()
    again = make_book(tmp_path, **fields)
    again.tick()
    assert [each.state for each in again.records()] == ["COMPLETE", "PRUNED"]
    assert (again.remaining, again.issue()) == (0, None)


def test_the_study_notes_time_gpus_and_the_end(tmp_path: Path, clock: list[float]) -> None:
    book = ClockedSweep(tmp_path, clock, {"gpu_hours": 0.1, "confirm": "none"}, gpus=2.0).run()
    book.meter.note()
    study = book.study
    assert study.user_attrs[SEARCH_ENDED] == {"by": "gpu_hours", "settings": {"gpu_hours": 0.1}}
    assert study.user_attrs[GPU_S] == pytest.approx(2 * study.user_attrs[WALL_S], abs=1)


def test_the_user_is_told_once_that_a_budget_is_too_small_and_that_the_search_ends(
    tmp_path: Path, clock: list[float]
) -> None:
    book = make_book(tmp_path, time_budget="100s", confirm="auto", num_trials=3)
    assert book.budget.news() == []
    trial = issue(book)
    clock[0] += 15
    book.record_epochs(trial.number, [replace(epoch(1, 0.5), schedule_percent=25.0, train_s=14.0, eval_s=1.0)])
    clock[0] += 5
    (note,) = book.budget.news()
    assert note.startswith("note: the budget is too small by about ")
    assert book.budget.news() == []
    clock[0] += 75
    book.tick()
    assert book.budget.news() == [
        "the search ended after 1 trial because its time budget of 1m40s was used up; what is begun runs on as long as "
        "it can end in time"
    ]
    assert book.budget.news() == []


def test_no_trial_is_ended_before_one_came_to_its_end(tmp_path: Path, clock: list[float]) -> None:
    book = make_book(tmp_path, time_budget="100s", confirm="none", num_trials=2)
    trial = issue(book)
    clock[0] += 60
    slow = replace(epoch(1, 0.5), schedule_percent=25.0, train_s=59.0, eval_s=1.0)
    assert not book.budget.must_stop(trial.number, slow), "an estimate may be wrong, and there is no result yet"
    clock[0] += 35
    book.tick()
    assert book.budget.must_stop(trial.number, slow)
    book.finish(trial.number, TrialState.PRUNED)
    assert book.choose() is None


def test_a_trial_that_was_ended_before_it_was_scored_is_told_and_proposed_after(
    tmp_path: Path, clock: list[float]
) -> None:
    book = make_book(tmp_path, num_trials=20, sampler="tpe")
    for number in range(8):
        trial = issue(book)
        if number % 2:
            told = outcome(book.finish(trial.number, TrialState.PRUNED), "f1")
            assert told == "stopped early before it was scored"
        else:
            book.record_epochs(trial.number, [epoch(1, 0.5)])
            leave_model(book, trial.number)
            book.finish(trial.number, TrialState.COMPLETE)
    assert issue(book).number == 8


def test_a_reserve_grows_with_what_is_to_be_done() -> None:
    spec = spec_of(time_budget="1000s", confirm="auto")
    none = ends([], spec, Usage(), Pace())
    assert none is not None
    assert (none.search_s, none.training_s) == (1000 - END_S[0], 1000 - END_S[0])
    records = [record(0, 0.8, 5e-5), record(1, 0.9, 1e-4)]
    one, two = (ends(records, spec, Usage(), Pace(slots, between_s=1.0)) for slots in (1, 2))
    tested = ends(records, spec, Usage(), Pace(1, 1.0, test_share=4.0))
    assert one is not None
    assert two is not None
    assert tested is not None
    assert one.search_s < two.search_s < none.search_s
    assert tested.training_s < one.training_s
    slow = ends([], spec, Usage(), Pace(start_s=40.0))
    assert slow is not None
    assert slow.training_s == 1000 - 20, "where the start was slow, the end will be"
    waited = ends([], spec, Usage(), Pace(start_s=4000.0))
    assert waited is not None
    assert waited.training_s == 1000 - END_S[1], "a start may have waited for machines"
    alone = ends(records, spec.model_copy(update={"confirm": "none"}), Usage(), Pace())
    assert alone is not None
    assert alone.search_s == alone.training_s


def test_no_trial_is_begun_that_has_no_time_for_its_schedule() -> None:
    spec, whole = spec_of(time_budget="100s", confirm="none"), record(0, 0.8, 5e-5)  # of 4.5 s
    records = [
        replace(whole, epochs=tuple(replace(each, schedule_percent=100 / 3 * each.epoch) for each in whole.epochs))
    ]
    until_s = 100 - END_S[0]
    assert time_is_up(records, spec, Usage(until_s - 5), Pace(), for_another=True) is None
    assert time_is_up(records, spec, Usage(until_s - 4), Pace(), for_another=True) == "time_budget"
    assert time_is_up(records, spec, Usage(until_s - 4), Pace()) is None


def test_a_loss_is_a_target_from_above() -> None:
    records = [record(0, 0.8, 5e-5)]  # its loss is 0.2
    assert goal_reached(records, spec_of(target="loss=0.21"), lambda of: 0.0) == "target"
    assert goal_reached(records, spec_of(target="loss=0.19"), lambda of: 0.0) is None
    stopped = [replace(records[0], state="PRUNED")]
    assert goal_reached(stopped, spec_of(target="f1=0.5"), lambda of: 0.0) is None, "such a trial can't win"
    assert goal_reached([replace(records[0], confirms=0)], spec_of(target="f1=0.5"), lambda of: 0.0) is None


# What is given


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400),
     (" 1H 30M ", 5400), ("1d", 86400), (0.5, 0.5), ("1d2h3m4.5s", 93784.5)],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "0", 0, -3, "-3m", "h", "1h30", "2 weeks", "1m1h", "nan", "1e3", True, None, [1]])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration above 0, such as 90s, 30m, 2h or 1h30m"):
        parse_duration(text)


def problems_of(fields: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    build_spec(Given({"model": "m", "dataset": "d", **fields}), problems)
    return problems


def test_everything_that_is_wrong_with_budgets_is_told_at_once() -> None:
    wrong = {"time_budget": "0s", "gpu_hours": -1, "max_cost": 0, "target": "f1=1.5", "until_stable": "perhaps"}
    assert problems_of(wrong) == [
        "time_budget must be a duration above 0, such as 90s, 30m, 2h or 1h30m, but got '0s'",
        "gpu_hours must be a number > 0, but got -1",
        "max_cost must be a number > 0, but got 0",
        "target must be a value of f1, which is between 0 and 1, but got 'f1=1.5'",
        "until_stable must be true or false, but got 'perhaps'",
    ]
    assert problems_of({"target": "F1-score=0.9"}) == [
        "target must name a metric, but got 'F1-score=0.9'; known: accuracy, f1, loss, matthews_correlation"
    ]
    for nonsense in ("0.9", "f1", "f1=", "f1=high", 3, ["f1"]):
        (problem,) = problems_of({"target": nonsense})
        assert problem.startswith("target must be METRIC=VALUE such as f1=0.92, but got ")
    for name, (low, high) in {name: metric.bounds for name, metric in METRICS.items()}.items():
        assert problems_of({"target": f"{name}={max(low, 0.5)}"}) == []
        assert problems_of({"target": f"{name}={low - 1}"}) != []
        assert problems_of({"target": f"{name}={high + 1}"}) != []
    assert problems_of({"max_cost": 20}) == ["max_cost goes with --price-per-gpu-hour"]
    assert problems_of({"price_per_gpu_hour": 2.5}) == []  # for --plan
    assert problems_of({"max_cost": 20, "price_per_gpu_hour": 2.5}) == []


def test_gpus_are_counted_only_where_trials_have_some() -> None:
    wanted = spec_of(gpu_hours=1.0, max_cost=2.0, price_per_gpu_hour=1.0)
    problems: list[str] = []
    assert make_plan(wanted, [Node(4, here=True)], problems).gpus == 0
    assert [problem.partition(" ")[0] for problem in problems] == ["--gpu-hours", "--max-cost"]
    assert problems[0] == "--gpu-hours counts GPU-hours, but trials train on the CPU: use --time-budget"
    nodes = [Node(8, 2), Node(8), Node(8, 1)]
    problems.clear()
    make_plan(wanted.model_copy(update={"gpus_per_trial": 0}), nodes, problems)
    assert len(problems) == 2
    problems.clear()
    plan = make_plan(wanted, nodes, problems)
    assert problems == []
    assert plan.gpus == plan.gpus_on(nodes) == 3


@pytest.mark.parametrize(
    ("fields", "trials"),
    [({}, 12), ({"time_budget": "2h"}, MOST_TRIALS_IN_BUDGET), ({"gpu_hours": 3}, MOST_TRIALS_IN_BUDGET),
     ({"until_stable": True}, MOST_TRIALS_IN_BUDGET),
     ({"target": "f1=0.9"}, 12), ({"time_budget": "2h", "num_trials": 20}, 20)],
)  # fmt: skip
def test_a_budget_takes_the_place_of_a_number_of_trials(fields: dict[str, Any], trials: int) -> None:
    assert build_spec(Given({"model": "m", "dataset": "d", **fields}), []).num_trials == trials


def test_every_budget_has_its_words() -> None:
    assert FLAG.keys() == set(BUDGETS)
    given = {"time_budget": "2h", "gpu_hours": 10.0, "max_cost": 20.0, "target": "f1=0.9", "until_stable": True}
    said = [budget_sentence(name, given, 14) for name in BUDGETS]
    assert said[0] == "the search ended after 14 trials because its time budget of 2h was used up"
    assert all(sentence.startswith("the search ended after 14 trials because ") for sentence in said)


def test_an_end_holds_as_long_as_its_budget_is_the_same() -> None:
    spec = spec_of(time_budget="2h", max_cost=20.0, price_per_gpu_hour=2.0)
    settings = settings_of(spec)
    assert settings.keys() == {"time_budget", "max_cost", "price_per_gpu_hour"}
    assert settings_of(spec_of(price_per_gpu_hour=2.0)) == {}, "a price alone limits nothing"
    assert still_holds("time_budget", settings, spec)
    assert not still_holds(None, settings, spec)
    assert not still_holds("target", settings, spec)
    dearer = spec.model_copy(update={"price_per_gpu_hour": 1.0})
    assert still_holds("time_budget", settings, dearer)
    assert not still_holds("max_cost", settings, dearer)
    assert not still_holds("time_budget", settings, spec.model_copy(update={"time_budget": None}))


# Real sweeps


def search(tmp_path: Path, model: Path, data: Path, *flags: object) -> tuple[str, dict[str, Any]]:
    sweep = ["--model", model, "--dataset", data, "--out", "run", "--precision", "fp32", "--space", "epochs=2"]
    ended = command("tune.search", *sweep, "--space", "batch_size=8", *flags, cwd=tmp_path, limit_s=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout, json.loads((tmp_path / "run" / "report.json").read_text())


@pytest.mark.slow
def test_a_real_sweep_with_a_time_budget(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    began = time.time()
    said, report = search(tmp_path, tiny_model, tiny_data, "--time-budget", "150s")
    took_s = time.time() - began
    assert report["wall_s"] <= 150 + 10
    assert took_s <= 150 + 30, "with the start of Python and the end of Ray, on a busy machine"
    assert report["budget_ended_by"] == "time_budget"
    trials = sum(row["confirms"] is None for row in report["trials"])
    sentence = f"the search ended after {trials} trials because its time budget of 2m30s was used up"
    for text in (said, *((tmp_path / "run" / name).read_text() for name in ("report.html", "best/README.md"))):
        assert sentence in text
    assert len(report["finalists"]) >= 1
    status = command("tune.search", "--status", "run", cwd=tmp_path)
    assert status.returncode == 0
    assert sentence in status.stdout
    again = command("tune.search", "--out", "run", cwd=tmp_path)
    assert f"nothing left to do: {sentence}; a larger --time-budget goes on" in again.stdout


@pytest.mark.slow
def test_a_real_sweep_with_a_target(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    said, report = search(tmp_path, tiny_model, tiny_data, "--target", "loss=5", "--num-trials", "50")
    assert report["budget_ended_by"] == "target"
    assert sum(row["confirms"] is None for row in report["trials"]) < 8
    assert "because a trial had reached its target, loss=5.0" in said
