"""A run directory that is there already: go on, start over beside it, or go on with another space."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from tests.conftest import write_pairs
from tests.tune.checked import checked
from trainable.data.findings import NOTHING_FOUND, DataFindings
from trainable.data.splits import Split, cut_missing, rows_needed
from trainable.epoch_scores import EpochScores
from trainable.errors import UserError
from tune.cluster.nodes import Node
from tune.cluster.plan import make_plan
from tune.report.words import introduction
from tune.spec.space import Choice, Float, Int
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.trial_book import TrialBook


def flags(folder: Path, model: Path, *more: str) -> list[str]:
    if not (folder / "pairs").exists():
        write_pairs(folder / "pairs", {"train": 48, "validation": 24, "test": 24})
    return ["--dataset", str(folder / "pairs"), "--model", str(model), "--out", str(folder / "run"), *more]


def begun(folder: Path, model: Path) -> Path:
    """A run directory as a sweep that has begun leaves it."""
    prepared = checked(flags(folder, model))
    prepared.run_dir.root.mkdir()
    prepared.write_spec("fp32")
    TrialBook(prepared.spec, prepared.run_dir)
    return prepared.run_dir.root


def refusal(argv: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        checked(argv)
    return str(caught.value)


def test_another_space_is_refused_with_the_difference_and_what_to_do(tmp_path: Path, tiny_model: Path) -> None:
    begun(tmp_path, tiny_model)
    told = refusal(flags(tmp_path, tiny_model, "--space", "epochs=2..9"))
    assert "'epochs': '2..5'" in told
    assert "'epochs': '2..9'" in told
    assert told.endswith("give another --out, or --fresh to start over, or --allow-new-space to go on with it")


def test_another_space_is_taken_on_request(tmp_path: Path, tiny_model: Path) -> None:
    begun(tmp_path, tiny_model)
    argv = flags(tmp_path, tiny_model, "--space", "epochs=2..9", "--allow-new-space")
    prepared = checked(argv)
    prepared.write_spec("fp32")
    assert yaml.safe_load(prepared.run_dir.spec_file.read_text())["space"]["epochs"] == "2..9"
    assert checked(flags(tmp_path, tiny_model, "--space", "epochs=2..9")), "from now on it is this one"


@pytest.mark.parametrize("change", [["--metric", "loss"], ["--scheduler", "none"], ["--seed", "7"]])
def test_what_makes_trials_incomparable_is_refused_all_the_same(
    tmp_path: Path, tiny_model: Path, change: list[str]
) -> None:
    begun(tmp_path, tiny_model)
    told = refusal(flags(tmp_path, tiny_model, "--space", "epochs=2..9", "--allow-new-space", *change))
    assert change[0].removeprefix("--") in told
    assert "epochs" not in told


NEW_SPACES: list[tuple[str, dict[str, Any]]] = [
    ("wider", {"learning_rate": Float(1e-6, 1e-2, log=True), "batch_size": Choice((8, 16)), "epochs": Int(1, 9)}),
    ("narrower", {"learning_rate": Float(1e-4, 2e-4, log=True), "batch_size": Choice((8, 16)), "epochs": Int(3, 3)}),
    ("fewer", {"learning_rate": Float(1e-5, 1e-3, log=True)}),
    ("more", {"learning_rate": Float(1e-5, 1e-3, log=True), "batch_size": Choice((8, 16)), "epochs": Int(2, 4),
              "dropout": Float(0.0, 0.3)}),
]  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize(("name", "space"), NEW_SPACES, ids=[name for name, _ in NEW_SPACES])
def test_the_study_goes_on_in_a_changed_space(tmp_path: Path, name: str, space: dict[str, Any], sampler: str) -> None:
    from tests.tune.test_searcher import make_book, run_one

    first = make_book(tmp_path, sampler=sampler, num_trials=20)
    for number in range(8):
        run_one(first, [0.1 * number])
    left_open = first.issue()
    second = make_book(tmp_path, sampler=sampler, num_trials=20, space=space)
    again = second.issue()
    assert left_open is not None
    assert again is not None
    assert again.config == left_open.config, "a trial that was begun keeps its configuration"
    for _ in range(4):
        values = run_one(second, [0.5]).config.named()
        assert values.keys() == space.keys()
        assert all(is_in(value, space[key]) for key, value in values.items())


def is_in(value: Any, domain: Any) -> bool:
    return value in domain.values if isinstance(domain, Choice) else domain.low <= value <= domain.high


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("learning_rate=1e-5..3e-4", "on another scale"),
        ("batch_size=8,16", "with other choices"),
        ("batch_size=8..32", "of another kind"),
    ],
)
def test_a_space_that_the_study_can_not_take_is_refused(
    tmp_path: Path, tiny_model: Path, change: str, why: str
) -> None:
    begun(tmp_path, tiny_model)
    told = refusal(flags(tmp_path, tiny_model, "--space", change, "--allow-new-space"))
    assert why in told
    assert f"{change.partition('=')[0]} is " in told


def test_fresh_moves_what_was_there_aside_and_deletes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    root = begun(tmp_path, tiny_model)
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    for number in (1, 2):
        # Another seed is no problem where the sweep starts over.
        checked(flags(tmp_path, tiny_model, "--seed", "9", "--fresh")).run_dir.move_aside()
        assert not root.exists()
        aside = root.with_name(f"run.old-{number}")
        assert {path.name: path.read_bytes() for path in aside.iterdir() if path.name in before} == before
        os.rename(aside, root) if number == 1 else None
        os.mkdir(aside) if number == 1 else None


def test_fresh_with_nothing_there_is_a_start(tmp_path: Path, tiny_model: Path) -> None:
    checked(flags(tmp_path, tiny_model, "--fresh")).run_dir.move_aside()
    assert not (tmp_path / "run").exists()


def test_fresh_does_not_move_a_folder_that_is_no_sweep(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    assert "holds files but no sweep" in refusal(flags(tmp_path, tiny_model, "--fresh"))


def test_what_is_wrong_with_the_input_keeps_the_old_run_where_it_is(tmp_path: Path, tiny_model: Path) -> None:
    from tune.search import main

    root = begun(tmp_path, tiny_model)
    assert main(flags(tmp_path, tiny_model, "--fresh", "--num-trials", "0")) == 2
    assert root.exists()


def test_the_disk_must_have_room_and_the_budget_must_hold(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(flags(tmp_path, tiny_model, "--checkpoint-budget", "0.0001", "--set", "num_cpus=2"))
    assert "--checkpoint-budget 0.0001: 2 trials side by side may take" in told
    assert "lower --max-concurrent, --keep-top or --confirm, or raise it" in told
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    told = refusal(flags(tmp_path, tiny_model, "--set", "num_cpus=2"))
    assert "the disk has 0.00 GB for the run directory, but 2 trials side by side may take" in told


def test_the_best_k_models_stay(tmp_path: Path) -> None:
    from tests.tune.test_searcher import make_book, run_one

    book = make_book(tmp_path, keep_top=2)
    kept: list[set[int]] = []
    for f1 in (0.5, 0.4, 0.6, 0.3, 0.55):
        run_one(book, [f1])
        kept.append({int(path.parent.name) for path in tmp_path.glob("trials/*/model")})
    assert kept == [{0}, {0, 1}, {0, 2}, {0, 2}, {2, 4}]
    assert yaml.safe_load((tmp_path / "incumbent.json").read_text())["trial"] == 4, "the last that is kept is to beat"
    again = make_book(tmp_path, keep_top=2)
    assert [record.number for record in again.leaders] == [2, 4]
    assert isinstance(again.spec, SweepSpec)


def test_a_sweep_that_never_came_to_its_first_trial_may_be_changed(tmp_path: Path, tiny_model: Path) -> None:
    prepared = checked(flags(tmp_path, tiny_model))
    prepared.run_dir.root.mkdir()
    prepared.write_spec(None)
    TrialBook(prepared.spec, prepared.run_dir)
    other = shutil.copytree(tiny_model, tmp_path / "other")
    (other / "special_tokens_map.json").write_text("{}")
    changed = checked(flags(tmp_path, other, "--precision", "fp32", "--max-length", "32"))
    assert changed.stored.sweep_id == prepared.stored.sweep_id
    assert "metric: f1 there, loss here" in refusal(flags(tmp_path, other, "--metric", "loss"))
    prepared.write_spec("fp32")
    assert "another model" in refusal(flags(tmp_path, other))


def test_models_that_are_gone_are_known_where_more_are_to_be_kept(tmp_path: Path) -> None:
    from tests.tune.test_searcher import make_book, run_one

    book = make_book(tmp_path)
    for f1 in (0.5, 0.4, 0.6):
        run_one(book, [f1])
    assert book.models_gone == []
    assert make_book(tmp_path, keep_top=2).models_gone == [0]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_driver_that_dies_while_it_draws_leaves_all_of_a_configuration_or_nothing(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna.trial import Trial

    from tests.tune.test_searcher import make_book, run_one

    whole = make_book(tmp_path / "whole", sampler=sampler, num_trials=20)
    torn = make_book(tmp_path / "torn", sampler=sampler, num_trials=20)
    for number in range(8):
        for book in (whole, torn):
            run_one(book, [0.1 * number])
    expected = whole.issue()
    waiting = torn.issue()  # another trial is at work, and ends before the driver is back
    second = whole.issue()
    assert expected is not None
    assert waiting is not None
    assert second is not None

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "suggest_int", die)
        patch.setattr(Trial, "suggest_categorical", die)
        with pytest.raises(Killed):
            torn.issue()
    again = make_book(tmp_path / "torn", sampler=sampler, num_trials=20)
    first = again.issue()
    assert first is not None
    again.record_epochs(first.number, whole_epochs(0.99))
    again.finish(first.number, TrialState.PRUNED)
    drawn = again.issue()
    assert drawn is not None
    assert drawn.number == second.number
    assert drawn.config == second.config, "what was drawn later knew more than what was drawn before"


def whole_epochs(f1: float) -> list[EpochScores]:
    from tests.tune.test_searcher import epoch

    return [epoch(1, f1)]


def test_the_time_of_a_sweep_is_that_of_all_its_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tune.test_searcher import make_book

    now = [1000.0]
    monkeypatch.setattr("tune.sweep.meter.time.monotonic", lambda: now[0])
    book = make_book(tmp_path)

    def until_ctrl_c() -> None:
        with book.meter.noted():
            now[0] += 51
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        until_ctrl_c()
    now[0] = 5.0  # another driver, after another start of the machine
    again = make_book(tmp_path)
    with again.meter.noted():
        now[0] += 85
    assert again.meter.usage.wall_s == 51 + 85
    assert make_book(tmp_path).meter.usage.wall_s == 51 + 85


def test_fewer_training_rows_are_not_other_data(tmp_path: Path, tiny_model: Path) -> None:
    begun(tmp_path, tiny_model)
    told = refusal(flags(tmp_path, tiny_model, "--train-rows", "40"))
    assert "train_rows: None there, 40 here" in told
    assert "other data" not in told
    assert "other data" not in refusal(flags(tmp_path, tiny_model, "--validation-rows", "20"))
    (tmp_path / "pairs" / "train.csv").write_text((tmp_path / "pairs" / "test.csv").read_text())
    assert "other data: " in refusal(flags(tmp_path, tiny_model))


def test_points_may_be_added_where_trials_are_left_for_them(tmp_path: Path, tiny_model: Path) -> None:
    begun(tmp_path, tiny_model)
    points = [{"learning_rate": 1e-3, "batch_size": 8, "epochs": 2}, {"learning_rate": 2e-3}]
    (tmp_path / "points.json").write_text(json.dumps(points))
    added = ["--points", str(tmp_path / "points.json")]
    assert len(checked(flags(tmp_path, tiny_model, *added)).spec.points) == 2


# What is shown before anything starts


def test_the_introduction_shows_the_space_and_where_each_setting_comes_from(tmp_path: Path, tiny_model: Path) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text("space:\n  learning_rate: log:1e-5..1e-3\n  epochs: 3\nseed: 5\n")
    flags_ = [str(spec), *flags(tmp_path, tiny_model, "--max-length", "5000", "--space", "batch_size=8,16")]
    inputs = checked(flags_).inputs
    lines = introduction(inputs, make_plan(inputs.spec, [Node(2, here=True)], []), "run")
    assert "space learning_rate log:1e-05..0.001 (mine.yaml), epochs 3 (mine.yaml), batch_size 8,16 (--space)" in lines
    assert "set max_length 5000 (--max-length), seed 5 (mine.yaml)" in lines
    assert "note: the model has positions for 128 tokens: max_length 5000 is lowered to that" in lines
    plain = checked(flags(tmp_path, tiny_model)).inputs
    lines = introduction(plain, make_plan(plain.spec, [Node(2, here=True)], []), "run")
    space = "learning_rate log:1e-05..0.0003 (default), batch_size 8,16,32 (default), epochs 2..5 (default)"
    assert f"space {space}" in lines
    assert not any(line.startswith("set ") for line in lines)


def test_six_rows_are_too_few_and_the_message_says_how_many_are_needed(tmp_path: Path, tiny_model: Path) -> None:
    rows = "".join(f"a text with number {i},{i % 2}\n" for i in range(6))
    (tmp_path / "six.csv").write_text(f"text,label\n{rows}")
    told = refusal(["--dataset", str(tmp_path / "six.csv"), "--model", str(tiny_model), "--out", str(tmp_path / "run")])
    assert "of 6 labelled rows 4 were cut off for validation and test" in told
    needed = int(told.partition("Its smallest batch of 8 needs about ")[2].split()[0])
    assert 8 < needed < 20


@pytest.mark.parametrize("labels", [[0, 1] * 3, [0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("batch", [4, 16])
def test_so_many_rows_leave_a_batch(labels: list[int], batch: int) -> None:
    needed = rows_needed(labels, (0.15, 0.15), batch)
    many = [labels[i % len(labels)] for i in range(needed)]
    split = Split((tuple(f"text {i}" for i in range(needed)),), tuple(many))
    left = cut_missing({"train": split}, {"test": 0.15, "validation": 0.15}, 0, [])["train"]
    assert batch <= len(left) <= batch + len(set(labels)) + 2


def test_what_was_found_in_the_data_is_not_looked_for_again(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    train = (data / "train.csv").read_text()
    (data / "test.csv").write_text(train)  # each of its rows was trained on
    found = checked(flags(tmp_path, tiny_model)).inputs.findings
    assert found.leaks
    begun(tmp_path, tiny_model)
    looked: list[object] = []

    def look(splits: object) -> Callable[[], DataFindings]:
        looked.append(splits)
        return lambda: NOTHING_FOUND

    monkeypatch.setattr("tune.prepare.check.look_in_background", look)
    assert checked(flags(tmp_path, tiny_model)).inputs.findings == found
    assert not looked
    assert found.leaks[0] in refusal(flags(tmp_path, tiny_model, "--strict-data"))
    assert not looked
    refusal(flags(tmp_path, tiny_model, "--train-rows", "40"))  # these are other rows
    checked(flags(tmp_path, tiny_model, "--fresh"))
    spec = tmp_path / "run" / "spec.yaml"
    spec.write_text(spec.read_text().replace("near_copies: {}", "near_copies: []"))
    checked(flags(tmp_path, tiny_model))
    assert len(looked) == 3
