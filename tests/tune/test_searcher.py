"""The book over a real SQLite study: issue, record, finish, and go on after a death."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from trainable.epoch_scores import EpochScores
from trainable.errors import UserError
from trainable.job import Assignment
from trainable.storage.folders import write_folder
from tune.run_dir.layout import RunDir
from tune.samplers import SAMPLERS
from tune.samplers.tpe import STARTUP_TRIALS
from tune.spec.space import Choice, Fixed, Float, Int
from tune.spec.sweep_spec import SweepSpec
from tune.sweep import queue as queue_module
from tune.sweep.halt import Halt
from tune.sweep.proposals import derived_seed
from tune.sweep.searcher import StudySearcher
from tune.sweep.trial_book import TrialBook

SPACE = {
    "learning_rate": Float(1e-5, 1e-3, log=True),
    "batch_size": Choice((8, 16)),
    "epochs": Int(2, 4),
    "weight_decay": Fixed(0.05),
}


def make_book(folder: Path, **changes: Any) -> TrialBook:
    folder.mkdir(exist_ok=True)
    fields = {"name": "s", "model": "m", "dataset": "d", "space": SPACE, "num_trials": 8, "confirm": "none", **changes}
    return TrialBook(SweepSpec(**fields), RunDir(folder))


def epoch(number: int, f1: float) -> EpochScores:
    return EpochScores(
        epoch=number, schedule_percent=50.0, train_loss=0.5,
        scores={"loss": 1 - f1, "accuracy": f1, "f1": f1, "matthews_correlation": f1},
        collapsed=False, learning_rate=1e-4, examples_per_second=9.0, began_at=1.8e9, train_s=1.0, eval_s=0.5,
        peak_memory_mib=99.0,
    )  # fmt: skip


def issue(book: TrialBook) -> Assignment:
    assignment = book.issue()
    assert assignment is not None
    return assignment


def run_one(book: TrialBook, scores: list[float], state: TrialState = TrialState.COMPLETE) -> Assignment:
    assignment = issue(book)
    book.record_epochs(assignment.number, [epoch(number, f1) for number, f1 in enumerate(scores, 1)])
    if state == TrialState.COMPLETE:
        leave_model(book, assignment.number)
    book.finish(assignment.number, state, "it broke" if state == TrialState.FAIL else None)
    return assignment


def leave_model(book: TrialBook, number: int) -> Path:
    folder = book.run_dir.model(number)
    if not folder.exists():
        write_folder(folder, lambda aside: (aside / "model.safetensors").write_text("w") and None)
    return folder


def test_plain_optuna_shows_everything(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    run_one(book, [0.5, 0.9, 0.7])
    run_one(book, [0.3], TrialState.PRUNED)
    run_one(book, [], TrialState.FAIL)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    complete, pruned, failed = study.trials
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert complete.value == 0.9, "the value is that of the best epoch"
    assert complete.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}
    assert set(complete.params) == {"learning_rate", "batch_size", "epochs"}
    assert complete.user_attrs["config"] == {**complete.params, "weight_decay": 0.05}
    assert complete.user_attrs["seed"] == derived_seed(42, 0, "training")
    assert complete.user_attrs["epoch 2"] == epoch(2, 0.9).as_json()
    assert pruned.intermediate_values == {1: 0.3}
    assert pruned.value == 0.3
    assert failed.user_attrs["failure"] == "it broke"


def test_a_driver_that_comes_back_issues_open_trials_again_and_asks_for_the_rest(tmp_path: Path) -> None:
    first = make_book(tmp_path)
    run_one(first, [0.5])
    left_open = [issue(first), issue(first)]
    first.record_epochs(left_open[0].number, [epoch(1, 0.4)])

    second = make_book(tmp_path)
    assert (second.finished, second.remaining) == (1, 7)
    again = [issue(second), issue(second)]
    # The slowest epoch so far is another.
    assert again == left_open
    second.record_epochs(again[0].number, [epoch(1, 0.4), epoch(2, 0.6)])
    leave_model(second, again[0].number)
    second.finish(again[0].number, TrialState.COMPLETE)
    second.finish(again[1].number, TrialState.FAIL, "x")
    for _ in range(5):
        run_one(second, [0.1])
    assert second.remaining == 0
    numbers = [record.number for record in second.records()]
    assert numbers == list(range(8))
    assert second.records()[1].value == 0.6
    assert all(record.state != "RUNNING" for record in second.records())


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_restart_does_not_propose_the_same_again(tmp_path: Path, sampler: str) -> None:
    # a new driver for every trial
    rates = [run_one(make_book(tmp_path, sampler=sampler), [0.5]).config.learning_rate for _ in range(6)]
    assert len(set(rates)) == 6


def test_tpe_proposes_what_optunas_own_proposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def proposals(folder: Path) -> list[Any]:
        book = make_book(folder, num_trials=14)
        return [run_one(book, [0.2 + 0.05 * (number % 7)]).config.named() for number in range(14)]

    ours = proposals(tmp_path / "ours")

    def optunas_own(seed: int, searched: Any) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)

    monkeypatch.setitem(SAMPLERS, "tpe", replace(SAMPLERS["tpe"], make=optunas_own))
    assert ours == proposals(tmp_path / "theirs")


def test_random_search_gives_trial_n_the_same_whatever_happened_before(tmp_path: Path) -> None:
    straight = make_book(tmp_path / "a", sampler="random")
    one_way = [run_one(straight, [0.9]).config.named() for _ in range(5)]
    other_way = [run_one(make_book(tmp_path / "b", sampler="random"), [0.1]).config.named() for _ in range(5)]
    assert one_way == other_way


def test_points_come_first_and_exactly(tmp_path: Path) -> None:
    points = (
        {"learning_rate": 5e-5, "batch_size": 8, "epochs": 3},
        {"learning_rate": 0.5, "batch_size": 4, "epochs": 1, "warmup_fraction": 0.1},  # outside the space: still exact
        {"epochs": 2},
    )
    book = make_book(tmp_path, points=points, num_trials=4)
    configs = [run_one(book, [0.5]).config.named() for _ in range(4)]
    assert configs[0] == {**points[0], "weight_decay": 0.05}
    assert configs[1] == {**points[1], "weight_decay": 0.05}
    assert configs[2]["epochs"] == 2
    assert 1e-5 <= configs[2]["learning_rate"] <= 1e-3
    trials = book.study.trials
    assert trials[0].params == points[0]
    assert trials[1].params == {"learning_rate": 0.5, "epochs": 1}
    assert all(t.state == TrialState.COMPLETE for t in trials)


def test_only_the_leaders_model_stays(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    kept = []
    for number, f1 in enumerate([0.5, 0.8, 0.8, 0.3]):
        leave_model(book, number)
        (book.run_dir.trial(number) / "state").mkdir()
        run_one(book, [f1])
        kept.append([n for n in range(4) if book.run_dir.model(n).exists()])
        assert not (book.run_dir.trial(number) / "state").exists()
    assert kept == [[0], [1], [1], [1]]
    assert '"value": 0.8' in book.run_dir.incumbent_file.read_text()
    leave_model(book, 3)  # as a dead driver may leave it
    assert make_book(tmp_path).leader == book.leader
    assert not book.run_dir.model(3).exists()


def test_of_equals_the_smaller_number_leads_whichever_finishes_first(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    first, second = issue(book).number, issue(book).number
    for number in (second, first):
        leave_model(book, number)
        book.record_epochs(number, [epoch(1, 0.7)])
        book.finish(number, TrialState.COMPLETE)
    assert book.leader is not None
    assert book.leader.number == first
    assert book.run_dir.model(first).exists()
    assert not book.run_dir.model(second).exists()


def test_an_epoch_that_only_a_state_knows_gets_into_the_study(tmp_path: Path) -> None:
    """The driver died after the worker wrote its state and before the epoch was recorded."""
    first = make_book(tmp_path)
    number = issue(first).number
    first.record_epochs(number, [epoch(1, 0.5)])
    second = make_book(tmp_path)
    issue(second)
    second.record_epochs(number, [epoch(1, 0.5), epoch(2, 0.9), epoch(3, 0.7)])
    record = second.finish(number, TrialState.COMPLETE)
    assert [metrics.epoch for metrics in record.epochs] == [1, 2, 3]
    assert (record.value, record.best_epoch) == (0.9, 2)


def test_epochs_that_came_out_differently_the_second_time_are_replaced(tmp_path: Path) -> None:
    """The model on disk is the second life's; the study must not praise it with the first one's score."""
    first = make_book(tmp_path)
    run_one(first, [0.9])
    number = issue(first).number
    first.record_epochs(number, [epoch(1, 0.95)])
    second = make_book(tmp_path)
    issue(second)
    second.record_epochs(number, [epoch(1, 0.8)])
    second.finish(number, TrialState.COMPLETE)
    assert second.leader is not None
    assert second.leader.number == 0
    assert second.run_dir.model(0).exists()
    assert second.study.trials[number].intermediate_values == {1: 0.8}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("params", [0, 1, 2])
def test_a_driver_that_died_while_asking_gets_the_same_trial(tmp_path: Path, sampler: str, params: int) -> None:
    whole = issue(make_book(tmp_path / "whole", sampler=sampler)).config.named()
    torn = make_book(tmp_path / "torn", sampler=sampler)
    trial = torn._proposals.begin(0)
    torn._proposals._spec = torn.spec.model_copy(update={"space": dict(list(SPACE.items())[:params])})
    torn._proposals._suggest(trial)
    assert issue(make_book(tmp_path / "torn", sampler=sampler)).config.named() == whole


def test_states_that_a_dead_driver_left_of_a_finished_trial_go(tmp_path: Path) -> None:
    """It died between closing the trial and removing them; the best keep_top trials' would stay for good."""
    book = make_book(tmp_path, keep_top=2)
    for number in range(2):
        run_one(book, [0.5])
        (book.run_dir.trial(number) / "state" / "epoch-1").mkdir(parents=True)
    make_book(tmp_path, keep_top=2)
    for number in range(2):
        assert [path.name for path in book.run_dir.trial(number).iterdir()] == ["model"]


def test_a_trial_that_nearly_failed_and_then_went_well_has_no_failure(tmp_path: Path) -> None:
    """The driver died between writing the reason and closing the trial."""
    torn = make_book(tmp_path)
    torn._writer.opened(issue(torn).number).trial.set_user_attr("failure", "its worker died")
    book = make_book(tmp_path)
    run_one(book, [0.5])
    assert [record.failure for record in book.records()] == [None]
    issue(book)
    failed = book.finish(1, TrialState.FAIL, "it broke")
    assert (failed.failure, book.records()[1].failure) == ("it broke", "it broke")


def test_a_point_that_was_enqueued_and_never_asked_for_is_asked_for(tmp_path: Path) -> None:
    points = ({"learning_rate": 5e-5, "batch_size": 8, "epochs": 3}, {"learning_rate": 7e-5})
    first = make_book(tmp_path, points=points)
    first.study.enqueue_trial(dict(points[0]))
    second = make_book(tmp_path, points=points)
    assert issue(second).config.named() == {**points[0], "weight_decay": 0.05}
    assert issue(second).config.learning_rate == 7e-5
    assert len(second.study.trials) == 2


def test_the_leaders_model_is_taken_back_from_best_or_its_loss_is_told(tmp_path: Path) -> None:
    run_one(make_book(tmp_path), [0.9])
    run_dir = RunDir(tmp_path)
    shutil.rmtree(run_dir.model(0))
    with pytest.raises(UserError, match=r"the best trial's model, .*, is gone or damaged"):
        make_book(tmp_path)

    def write_best(aside: Path) -> None:
        (aside / "model.safetensors").write_text("w")
        (aside / "metrics.json").write_text('{"trial": 0}')

    write_folder(run_dir.best, write_best)
    make_book(tmp_path)
    assert sorted(p.name for p in run_dir.model(0).iterdir()) == ["manifest.json", "model.safetensors"]


def test_the_name_of_the_sweep_does_not_matter_and_a_path_may_be_nasty(tmp_path: Path) -> None:
    folder = tmp_path / "what? a #folder%20 with 'quotes'"
    run_one(make_book(folder), [0.5])
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    assert (folder / "study.db").is_file()
    assert make_book(folder, name="other").finished == 1


def test_a_pruned_trial_never_leads(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    run_one(book, [0.99], TrialState.PRUNED)
    run_one(book, [0.2])
    assert book.leader is not None
    assert book.leader.number == 1


def test_the_mode_min_looks_for_the_least(tmp_path: Path) -> None:
    book = make_book(tmp_path, metric="loss", mode="min")
    run_one(book, [0.2, 0.6])
    run_one(book, [0.9, 0.5])
    assert book.leader is not None
    assert (book.leader.number, book.leader.best_epoch) == (1, 1)
    assert book.study.best_trial.number == 1


@pytest.mark.parametrize("torn", [False, True])
def test_the_last_trial_handed_out_is_told_once(torn: bool, tmp_path: Path) -> None:
    book = make_book(tmp_path, num_trials=3)
    if torn:  # a driver that died with its last trial running
        for _ in range(3):
            issue(book)
        book = make_book(tmp_path, num_trials=3)
    told: list[int] = []
    searcher = StudySearcher(book, Halt(), lambda: 3, lambda: told.append(len(issued)))
    issued: list[Any] = []
    for number in range(3):
        issued.append(searcher.suggest(f"tune {number}"))
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.daemon:
                thread.join(timeout=0.2)
        assert bool(told) == (number == 2)
    assert len(told) == 1
    assert sorted(config["assignment"].number for config in issued) == [0, 1, 2]


def test_no_more_trials_are_handed_out_than_there_is_room_for_at_that_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "BACK_OFF_S", 0)
    book = make_book(tmp_path, num_trials=5)
    room = [1]
    searcher = StudySearcher(book, Halt(), lambda: room[0])

    def handed_out() -> list[int]:
        return [config["assignment"].number for config in iter(lambda: searcher.suggest("any"), None)]

    assert handed_out() == [0]
    room[0] = 3
    assert handed_out() == [1, 2]
    room[0] = 1  # nodes went; what is handed out stays so
    book.finish(0, TrialState.FAIL, "a reason")
    assert handed_out() == []
    book.run_again(1)  # its worker died with the node: it waits for the room like a new one
    assert handed_out() == []
    book.finish(2, TrialState.FAIL, "a reason")
    assert handed_out() == [1]
