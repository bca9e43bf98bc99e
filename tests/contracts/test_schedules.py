"""What every schedule must do, whichever it is: a new one in trainable/schedules/ is tested without a change."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

import trainable.schedules
from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.schedules import SCHEDULES, find_schedules
from trainable.train.run import FineTuningRun

PEAK = 3e-4

every_schedule = pytest.mark.parametrize("name", list(SCHEDULES))
every_warmup = pytest.mark.parametrize("warmup", [0.0, 0.1, 0.35, 0.99])
every_length = pytest.mark.parametrize("steps", [1, 2, 7, 100])


def rates(name: str, warmup: float, steps: int, peak: float = PEAK) -> list[float]:
    settings = TrialConfig(learning_rate=peak, warmup_fraction=warmup)
    return [SCHEDULES[name].rate(settings, step, steps) for step in range(steps)]


@every_schedule
def test_it_is_known_by_its_own_name_and_described_in_a_line(name: str) -> None:
    entry = SCHEDULES[name]
    assert entry.name == name
    assert name.isidentifier()
    assert 10 < len(entry.description) < 90
    assert "\n" not in entry.description


@every_schedule
@every_warmup
@every_length
def test_every_rate_is_between_zero_and_the_peak(name: str, warmup: float, steps: int) -> None:
    assert all(0.0 <= rate <= PEAK * (1 + 1e-12) for rate in rates(name, warmup, steps))
    assert steps * (1 - warmup) < 2 or max(rates(name, warmup, steps)) == pytest.approx(PEAK)


@every_schedule
@every_length
def test_without_warm_up_the_first_step_trains_and_so_does_the_last(name: str, steps: int) -> None:
    first, *_, last = [*rates(name, 0.0, steps), *rates(name, 0.0, steps)[-1:]]
    assert first > 0.0
    assert last > 0.0


@every_schedule
@pytest.mark.parametrize("warmup", [0.1, 0.35, 0.6])
def test_the_rate_rises_step_by_step_while_it_warms_up(name: str, warmup: float) -> None:
    up = rates(name, warmup, 100)[: math.ceil(100 * warmup) + 1]
    assert up == sorted(set(up))
    assert up[0] < PEAK / len(up)
    assert up[-1] == pytest.approx(PEAK)


@every_schedule
@every_warmup
def test_the_peak_scales_every_rate(name: str, warmup: float) -> None:
    doubled = rates(name, warmup, 40, peak=2 * PEAK)
    assert doubled == pytest.approx([2 * rate for rate in rates(name, warmup, 40)])


@every_schedule
def test_a_configuration_asks_the_schedule_that_it_names(name: str) -> None:
    config = TrialConfig(learning_rate=PEAK, warmup_fraction=0.2, schedule=name)
    assert [config.learning_rate_at(step, 30) for step in range(30)] == rates(name, 0.2, 30)


TOY = """
from trainable.schedules.base import ScheduleEntry

SCHEDULE = ScheduleEntry("toy", "a schedule that a test added", lambda settings, step, steps: settings.learning_rate)
"""


def test_one_new_file_adds_a_schedule_that_trains(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    monkeypatch.setattr(trainable.schedules, "__path__", [*trainable.schedules.__path__, str(tmp_path)])
    found = find_schedules()
    assert found.keys() == {*SCHEDULES, "toy"}
    monkeypatch.setitem(SCHEDULES, "toy", found["toy"])
    config = TrialConfig(learning_rate=1e-3, batch_size=8, epochs=2).model_copy(update={"schedule": "toy"})
    run = FineTuningRun(make_job(tiny_model))
    run.reset(config, 1)
    assert [run.next_epoch().learning_rate for _ in range(2)] == [1e-3, 1e-3]
    assert {group["lr"] for group in run.optimizer.param_groups} == {1e-3}
    run.write_best(tmp_path / "best")


def test_the_table_is_light() -> None:
    """`--help` reads it."""
    script = "import sys, trainable.schedules; assert not {'optuna', 'ray', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
