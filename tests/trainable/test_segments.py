"""An epoch in pieces: wherever it is cut, saved and continued, each bit is that of an epoch in one piece."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainable.train.curve
from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.epoch_scores import CurvePoint, EpochScores, RungScores
from trainable.errors import TrialFailed
from trainable.train.batching import train_order
from trainable.train.loop import LossCheck
from trainable.train.run import FineTuningRun

CONFIG = TrialConfig(learning_rate=3e-3, batch_size=4, epochs=2, dropout=0.2, warmup_fraction=0.1)
TIMES = ("began_at", "train_s", "eval_s", "examples_per_second", "peak_memory_mib")


def after(steps: int) -> Callable[[], bool]:
    """Ends a segment after so many steps."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: next(left) == 0


def numbers(history: list[EpochScores]) -> list[dict[str, Any]]:
    return [{name: value for name, value in epoch.as_json().items() if name not in TIMES} for epoch in history]


def fresh(model: Path) -> FineTuningRun:
    run = FineTuningRun(make_job(model))
    run.reset(CONFIG, seed=3)
    return run


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_cut_saved_and_continued_in_another_worker_is_bit_equal(tiny_model: Path, tmp_path: Path, cut: int) -> None:
    straight = fresh(tiny_model)
    while not straight.done:
        straight.next_epoch()

    run, segments = fresh(tiny_model), 0
    while not run.done:
        run.next_segment(after(cut))
        run.save_state(tmp_path / str(segments))
        run = fresh(tiny_model)
        assert run.load_state(tmp_path / str(segments))
        segments += 1

    assert segments > 2, "no epoch was cut"
    assert numbers(run.history) == numbers(straight.history)
    for name, tensor in straight.classifier.weights().items():
        assert torch.equal(tensor, run.classifier.weights()[name]), name
    for name, tensor in straight.best_weights.tensors.items():
        assert torch.equal(tensor, run.best_weights.tensors[name]), name


def test_the_curve_within_an_epoch_adds_up_to_its_loss(tiny_model: Path) -> None:
    run = fresh(tiny_model)
    epoch = run.next_epoch()
    steps, order = run.steps, train_order(run.train.lengths, CONFIG.batch_size, 3, 0, run.job.batching)
    at = [0, *(point.steps for point in run.curve)]
    assert len(run.curve) == 20
    assert at[-1] == steps
    assert all(0 <= between - steps / 20 < 1 or between == steps // 20 for between in np.diff(at))
    rows = [sum(map(len, order[begin:end])) for begin, end in itertools.pairwise(at)]
    total = sum(point.train_loss * part for point, part in zip(run.curve, rows, strict=True))
    assert total / sum(rows) == pytest.approx(epoch.train_loss, rel=1e-5)
    assert [point.learning_rate for point in run.curve] == [run._rates(0)[step - 1] for step in at[1:]]
    run.next_epoch()
    assert [point.steps for point in run.curve] == [steps + step for step in at[1:]], "steps count through all epochs"


@pytest.mark.parametrize("points", [1, 3, 20])
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_the_curve_is_the_same_wherever_the_trial_is_cut(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, points: int
) -> None:
    monkeypatch.setattr(trainable.train.curve, "POINTS_PER_EPOCH", points)
    straight = fresh(tiny_model)
    expected: list[CurvePoint] = []
    found: list[CurvePoint] = []
    while not straight.done:
        straight.next_epoch()
        expected += straight.curve
        assert len(straight.curve) == min(points, straight.config.steps_per_epoch(len(straight.train)))
    run, segments = with_rungs(tiny_model), 0
    while not run.done:
        run.pulse.stop_asked = segments % 2 == 1
        run.next_segment(after(cut))
        found += run.curve
        run.save_state(tmp_path / str(segments))
        run = with_rungs(tiny_model)
        assert run.load_state(tmp_path / str(segments))
        segments += 1
    assert found == expected


RUNGS_PERCENT = (12.5, 25.0, 50.0, 75.0)


def with_rungs(model: Path) -> FineTuningRun:
    run = FineTuningRun(replace(make_job(model), rungs_percent=RUNGS_PERCENT))
    run.reset(CONFIG, seed=3)
    return run


def test_rungs_within_epochs_are_scored_and_change_no_bit(tiny_model: Path) -> None:
    straight = fresh(tiny_model)
    while not straight.done:
        straight.next_epoch()
    run = with_rungs(tiny_model)
    found: list[EpochScores | RungScores | None] = []
    while not run.done:
        found.append(run.next_segment(lambda: False))
    for name, tensor in straight.classifier.weights().items():
        assert torch.equal(tensor, run.classifier.weights()[name]), name
    assert numbers(run.history) == numbers(straight.history)
    total = run.steps
    assert total % 8 == 0, "the rungs fall on whole steps"
    at = [scored.schedule_percent for scored in found if scored is not None]
    assert at == [12.5, 25, 50, 75, 100]  # 50 is the end of the first of two epochs
    assert [type(scored) for scored in found] == [RungScores, RungScores, EpochScores, RungScores, EpochScores]
    assert [rung.steps for rung in run.rungs] == [total // 8, total // 4, 3 * total // 4]
    for rung in run.rungs:
        assert rung.scores.keys() == run.history[0].scores.keys()
        assert rung.seconds > 0
    assert run.history[0].eval_s > 0


def test_a_rungs_scores_are_those_of_the_model_at_its_step(tiny_model: Path) -> None:
    rung = with_rungs(tiny_model).next_segment(lambda: False)
    assert isinstance(rung, RungScores)
    other = fresh(tiny_model)
    other.next_segment(after(rung.steps))
    assert other._score_validation()[0] == rung.scores


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_rung_is_scored_once_wherever_the_trial_is_cut(tiny_model: Path, tmp_path: Path, cut: int) -> None:
    straight = with_rungs(tiny_model)
    while not straight.done:
        straight.next_segment(lambda: False)
    run, segments = with_rungs(tiny_model), 0
    while not run.done:
        run.pulse.stop_asked = segments % 2 == 1  # an evaluation that is left is done again
        run.next_segment(after(cut))
        run.save_state(tmp_path / str(segments))
        run = with_rungs(tiny_model)
        assert run.load_state(tmp_path / str(segments))
        segments += 1
    assert numbers(run.history) == numbers(straight.history)
    assert [(r.steps, r.train_loss, r.scores) for r in run.rungs] == [
        (r.steps, r.train_loss, r.scores) for r in straight.rungs
    ]


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
def test_schedules_of_every_length_are_scored_at_every_rung(tiny_model: Path, epochs: int) -> None:
    run = FineTuningRun(replace(make_job(tiny_model), rungs_percent=RUNGS_PERCENT))
    run.reset(TrialConfig(learning_rate=3e-3, batch_size=4, epochs=epochs), seed=0)
    at = []
    while not run.done:
        scored = run.next_segment(lambda: False)
        assert scored is not None
        at.append(scored.schedule_percent)
    a_step = 100 / run.steps
    for rung in RUNGS_PERCENT:
        assert min(percent - rung for percent in at if percent >= rung) < a_step
    assert at == sorted(set(at))
    assert len(at) <= epochs + len(RUNGS_PERCENT)


def test_the_steps_so_far_count_those_of_a_begun_epoch(tiny_model: Path) -> None:
    run = fresh(tiny_model)
    assert run.next_segment(after(2)) is None
    assert run.steps == 2
    run.next_epoch()
    assert run.steps == CONFIG.steps_per_epoch(len(run.train))
    assert run.begun is None


def test_an_evaluation_that_is_left_is_done_again_to_the_same_score(tiny_model: Path, tmp_path: Path) -> None:
    straight = fresh(tiny_model)
    straight.next_epoch()
    run = fresh(tiny_model)
    run.pulse.stop_asked = True
    assert run.next_segment(lambda: False) is None
    assert run.steps == CONFIG.steps_per_epoch(len(run.train)), "the epoch's training is not done again"
    run.save_state(tmp_path / "state")
    resumed = fresh(tiny_model)
    assert resumed.load_state(tmp_path / "state")
    resumed.next_epoch()
    assert numbers(resumed.history) == numbers(straight.history)


def test_a_loss_that_is_not_finite_ends_the_trial_within_fifty_steps(tiny_model: Path) -> None:
    job = make_job(tiny_model)
    run = FineTuningRun(replace(job, train=many_rows(job.train)))
    run.reset(TrialConfig(learning_rate=1e30, batch_size=1, epochs=1), seed=0)
    assert TrialConfig(batch_size=1).steps_per_epoch(len(run.train)) > 100
    taken, step = 0, run.optimizer.step

    def counted(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        return step(*arguments)

    run.optimizer.step = counted  # type: ignore[method-assign]
    with pytest.raises(TrialFailed, match=r"the training loss of epoch 1 is not finite \((nan|inf)\)"):
        run.next_epoch()
    assert taken <= 52


def many_rows(split: Any) -> Any:
    """The rows of a split, again and again until there are 200."""
    import numpy as np

    from trainable.data.tokens import TokenizedSplit

    times = -(-200 // len(split))
    lengths = np.tile(split.lengths, times)
    types = None if split.token_types is None else np.tile(split.token_types, times)
    return (
        replace(
            split,
            ids=np.tile(split.ids, times),
            token_types=types,
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(split.offsets.dtype),
            labels=np.tile(split.labels, times),
        )
        if isinstance(split, TokenizedSplit)
        else split
    )


def test_a_finite_loss_is_never_complained_of() -> None:
    check = LossCheck()
    assert all(check.is_finite(torch.tensor(1.0)) for _ in range(200))
    assert not all(check.is_finite(torch.tensor(float("nan"))) for _ in range(50))


def test_memory_that_ran_out_in_one_trial_does_not_show_in_the_next(tiny_model: Path) -> None:
    run = fresh(tiny_model)
    run.micro_batch_limit.halve(4)
    run.reset(CONFIG, seed=3)
    run.next_epoch()
    other = fresh(tiny_model)
    other.next_epoch()
    assert numbers(run.history) == numbers(other.history)
