"""How long a sweep takes, told before it starts: laws of the simulation, the cache, and what --plan prints."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_pairs
from tests.tune.checked import Checked, checked
from tests.tune.test_end_to_end import command
from trainable.config import TrialConfig
from trainable.errors import RayDied
from tune.cluster.nodes import Node
from tune.cluster.plan import make_plan
from tune.estimate import measure
from tune.estimate.configurations import measured_configurations, planned_configurations
from tune.estimate.lengths import lengths_of
from tune.estimate.planned import NO_ROOM, Planned, plan_sweep
from tune.estimate.simulation import Costs, Simulated, expect
from tune.estimate.sweep_time import budget_s, sweep_time_of
from tune.estimate.times import Times, cache_file, keep_times, read_times
from tune.estimate.words import plan_lines
from tune.prepare.launch import Launch
from tune.prepare.precision import ChosenPrecision
from tune.spec.space import Choice, Fixed, Int
from tune.spec.sweep_spec import SweepSpec

ROWS = 640
COSTS = Costs(train_epoch_s={8: 30.0, 32: 10.0}, eval_s=2.0)


def a_spec(trials: int = 12, epochs: int = 3, **fields: Any) -> SweepSpec:
    space = {"learning_rate": Choice((1e-5, 3e-5, 1e-4, 3e-4)), "batch_size": Choice((8, 32)), "epochs": Fixed(epochs)}
    fields = {"confirm": "none", "scheduler": "none", "repeat_configurations": True, **fields}
    return SweepSpec(name="s", model="m", dataset="d", num_trials=trials, space=space, **fields)


def sweep_s(spec: SweepSpec, slots: int = 2, costs: Costs = COSTS) -> Simulated:
    return expect(spec, planned_configurations(spec, spec.num_trials), costs, slots, ROWS).mean


@pytest.mark.parametrize("scheduler", ["asha", "none"])
@pytest.mark.parametrize("confirm", ["auto", "none", "2x2"])
def test_more_trials_and_more_epochs_take_longer(scheduler: str, confirm: str) -> None:
    by_trials = [sweep_s(a_spec(trials, scheduler=scheduler, confirm=confirm)).trials_s for trials in (4, 8, 16, 32)]
    assert by_trials == sorted(by_trials)
    by_epochs = [sweep_s(a_spec(epochs=n, scheduler=scheduler, confirm=confirm)).trials_s for n in (1, 2, 4)]
    assert by_epochs == sorted(by_epochs)


def test_without_early_stopping_the_time_is_that_of_all_trials() -> None:
    spec = a_spec(trials=6)
    configs = planned_configurations(spec, 6)
    each = [3 * (COSTS.train_epoch_s[config.batch_size] + COSTS.eval_s) for config in configs]
    assert sweep_s(spec, slots=1).trials_s == pytest.approx(sum(each))
    assert sweep_s(spec, slots=6).trials_s == pytest.approx(max(each))
    assert sweep_s(spec, slots=3).busy_s == pytest.approx(sum(each))


@pytest.mark.parametrize("scheduler", ["asha", "none"])
def test_half_the_slots_take_twice_as_long(scheduler: str) -> None:
    spec = a_spec(trials=32, scheduler=scheduler)
    four, two, one = (sweep_s(spec, slots=slots).trials_s for slots in (4, 2, 1))
    assert two / four == pytest.approx(2, rel=0.15)
    assert one / two == pytest.approx(2, rel=0.15)


def test_early_stopping_saves_time_but_not_the_first_rung() -> None:
    spec = a_spec(trials=24, scheduler="asha")
    configs = planned_configurations(spec, 24)
    stopped, whole = (expect(spec, configs, COSTS, 2, ROWS, early_stopping=early) for early in (True, False))
    assert 0.2 * whole.mean.trials_s < stopped.mean.trials_s < 0.8 * whole.mean.trials_s
    assert stopped.low_s < stopped.mean.trials_s < stopped.high_s
    assert whole.low_s == pytest.approx(whole.high_s)


def test_confirmation_takes_its_share_or_the_runs_that_were_asked_for() -> None:
    asked_for = sweep_s(a_spec(confirm="2x3"))
    assert 6 <= asked_for.fresh_runs <= 9  # two finalists, and the default where it is none of them
    auto = sweep_s(a_spec(trials=40, confirm="auto"), slots=1)
    assert auto.fresh_runs >= 4
    assert auto.confirm_s <= auto.search_s / 3 * 1.2
    assert sweep_s(a_spec(confirm="none")).fresh_runs == 0


def test_the_workers_that_waited_for_the_end_of_the_search_start_again() -> None:
    spec, slow = a_spec(confirm="2x3"), replace(COSTS, start_s=20.0)
    quick, late = sweep_s(spec), sweep_s(spec, costs=slow)
    assert late.search_s == pytest.approx(quick.search_s + 20)
    assert 1 < late.confirm_s - quick.confirm_s <= 20


def test_trials_that_are_done_are_not_counted_again() -> None:
    spec = a_spec(trials=10, confirm="auto")
    configs = planned_configurations(spec, 10)
    whole, rest = expect(spec, configs, COSTS, 2, ROWS), expect(spec, configs[5:], COSTS, 2, ROWS, spent_s=300.0)
    assert rest.mean.search_s < 0.7 * whole.mean.search_s
    assert expect(spec, [], COSTS, 2, ROWS).mean.trials_s == 0


def test_seconds_between_two_batch_sizes_lie_between_theirs() -> None:
    assert COSTS.epoch_s(8) == 30
    assert 10 < COSTS.epoch_s(16) < 30
    assert COSTS.epoch_s(128) == 10


def test_the_configurations_are_those_that_the_sweep_will_try(tmp_path: Path, tiny_model: Path) -> None:
    from tune.sweep.trial_book import TrialBook

    write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    found = checked(["--dataset", str(tmp_path / "pairs"), "--model", str(tiny_model), "--out", str(tmp_path / "run")])
    found.run_dir.root.mkdir()
    found.write_spec("fp32")
    book = TrialBook(found.spec, found.run_dir)
    issued = [assignment.config for _ in range(5) if (assignment := book.issue()) is not None]
    assert planned_configurations(found.spec, 5) == issued


def test_a_range_of_batch_sizes_is_measured_at_a_few() -> None:
    spec = a_spec().model_copy(update={"space": {"batch_size": Int(4, 64), "epochs": Fixed(1)}})
    sizes = list(measured_configurations(spec))
    assert (sizes[0], sizes[-1], len(sizes)) == (4, 64, 5)
    spec = spec.model_copy(update={"points": (TrialConfig(batch_size=128),)})
    assert 128 in measured_configurations(spec)


def test_what_other_lengths_cut_and_cost() -> None:
    whole = np.array([10] * 90 + [300] * 10)
    lengths = lengths_of(whole, 128, 512, hidden=768)
    assert (lengths.cut_rows, lengths.longest, lengths.median) == (10, 300, 10)
    assert sum(bar.rows for bar in lengths.histogram) == 100
    by_length = {other.max_length: other for other in lengths.others}
    assert by_length.keys() == {64, 256, 512}
    assert [by_length[n].cut_rows for n in (64, 256, 512)] == [10, 10, 0]
    times = [by_length[64].relative_time, 1.0, by_length[256].relative_time, by_length[512].relative_time]
    assert times == sorted(times)
    assert {other.max_length for other in lengths_of(whole, 512, 512, 768).others} == {256}
    assert lengths_of(np.array([5, 6]), 128, None, 768).others == []


def test_what_was_measured_is_kept_and_damage_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    file = cache_file({"model": "a"})
    assert file.is_relative_to(tmp_path / "caches")
    assert file != cache_file({"model": "b"})
    times = Times("bf16", "why", 2.0, 1.0, 3.0, 0.5, {8: 4.0, 16: 3.0}, "cpu", 2, steps=7)
    keep_times(file, times)
    kept = read_times(file)
    assert kept is not None
    assert replace(kept, measured_at=0.0) == replace(times, steps=0)
    for damage in (
        "",
        "{}",
        "[]",
        file.read_text().replace('"bf16"', '"fp8"'),
        file.read_text().replace("4.0", "-4.0"),
    ):
        file.write_text(damage)
        assert read_times(file) is None
    (tmp_path / "caches").chmod(0o500)
    keep_times(tmp_path / "caches" / "none" / "x.json", times)  # nothing is raised


@pytest.fixture
def prepared(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    flags = ["--space", "batch_size=8,16", "--precision", "fp32", "--price-per-gpu-hour", "2"]
    argv = ["--dataset", str(tmp_path / "pairs"), "--model", str(tiny_model), "--out", str(tmp_path / "run"), *flags]
    return checked(argv)


def planned_on(prepared: Checked, nodes: list[Node], said: list[str] | None = None) -> Planned:
    plan = make_plan(prepared.spec, nodes, [])
    said = [] if said is None else said
    return plan_sweep(prepared.inputs, prepared.stored, prepared.run_dir, Launch(plan, nodes, {}), 0.0, said.append)


class Workers:
    """In place of Ray's: one stopwatch here."""

    def __init__(self, plan: object, many: int, make: Any, job: Any, say: object) -> None:
        self._make, self._job = make, job

    def __enter__(self) -> Workers:
        self._stopwatch = self._make(self._job)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def all(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(self._stopwatch, method)(*arguments)]


def test_a_second_plan_runs_no_step(prepared: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TrialWorkers", Workers)
    monkeypatch.setattr("trainable.train.stopwatch.TIMED_S", 0.1)
    nodes = [Node(2, here=True)]
    first = planned_on(prepared, nodes)
    assert first.times is not None
    assert first.times.steps > 4
    assert first.times.train_epoch_s.keys() == {8, 16}
    monkeypatch.setattr(measure, "TrialWorkers", None)
    monkeypatch.setattr(measure, "rehearse_for_precision", None)
    second = planned_on(prepared, nodes)
    assert second.times is not None
    assert replace(second.times, measured_at=0.0) == replace(first.times, steps=0)
    with pytest.raises(TypeError):  # on other machines it is measured
        planned_on(prepared, [Node(3, here=True)])


def test_the_text_and_the_object_say_the_same(prepared: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TrialWorkers", Workers)
    monkeypatch.setattr("trainable.train.stopwatch.TIMED_S", 0.1)
    chosen = ChosenPrecision("fp32", "as asked for")  # it would be chosen in a worker of Ray, for the GPU
    monkeypatch.setattr(measure, "rehearse_for_precision", lambda *arguments: chosen)
    planned = planned_on(prepared, [Node(4, 1.0, here=True)])
    found = json.loads(json.dumps(planned.as_json()))
    text = "\n".join(plan_lines(planned))
    for size, seconds in found["times"]["train_epoch_s"].items():
        assert f"{seconds:.3g} s at batch size {size}" in text
    assert f"an evaluation takes {found['times']['eval_s']:.3g} s" in text
    stopped = found["sweep_time"]["with_early_stopping"]
    assert stopped["cost"] == pytest.approx(2 * stopped["gpu_hours"])
    assert stopped["gpu_hours"] == pytest.approx(stopped["total_s"] / 3600)
    parts = stopped["prepare_s"] + stopped["search_s"] + stopped["confirm_s"] + stopped["final_s"]
    assert parts == pytest.approx(stopped["total_s"])
    assert f"({stopped['gpu_hours']:.3g} GPU-hours for {stopped['cost']:.2f} at 2 an hour)" in text
    assert f"{found['tokens']['cut_rows'] or 'no row'} of 48" in text
    assert found["data"]["class_rows"]["train"] == {"0": 16, "1": 32}
    assert found["data"]["rows"] == {"train": 48, "validation": 24, "test": 24}
    assert found["plan"]["slots"] == planned.launch.plan.slots == 4


def test_where_nothing_has_room_the_counts_are_told_without_times(prepared: Checked) -> None:
    planned = planned_on(prepared, [Node(0, name="head", id="a")])
    assert (planned.times, planned.sweep_time, planned.why_no_times) == (None, None, NO_ROOM)
    text = "\n".join(plan_lines(planned))
    assert f"how long it takes is not known: {NO_ROOM}" in text
    assert "tokens of a training row: median" in text
    found = planned.as_json()
    assert (found["times"], found["sweep_time"], found["why_no_times"]) == (None, None, NO_ROOM)


def test_workers_that_die_leave_the_counts(prepared: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*arguments: object) -> None:
        raise RayDied("out of memory")

    monkeypatch.setattr(measure, "TrialWorkers", die)
    planned = planned_on(prepared, [Node(2, here=True)])
    assert planned.why_no_times == "the workers that were to measure a few steps died: out of memory"


def test_the_test_split_and_the_price_count() -> None:
    spec = a_spec(confirm="2x2")
    times = Times("fp32", "", 1.0, 2.0, 5.0, 2.0, {8: 30.0, 32: 10.0}, "cpu", 2)
    plan = SimpleNamespace(slots=2, local_cores=None, threads=1)

    def final_s(**rows: int) -> float:
        found = sweep_time_of(spec, plan, times, {"train": ROWS, "validation": 100, **rows}, (), 1.0, 4.0, 10**6)  # type: ignore[arg-type]
        assert found.with_early_stopping.cost is None
        assert found.with_early_stopping.gpu_hours == pytest.approx(4 * found.with_early_stopping.total_s / 3600)
        return found.with_early_stopping.final_s

    assert final_s() < final_s(test=100) < final_s(test=1000)


def test_a_budget_is_the_most_that_a_sweep_takes() -> None:
    spec = a_spec(trials=40)
    assert budget_s(spec, 4.0) == math.inf
    assert budget_s(a_spec(time_budget="2h", gpu_hours=4.0), 4.0) == 3600
    assert budget_s(a_spec(time_budget="2h", gpu_hours=4.0), 0.0) == 7200
    assert budget_s(a_spec(max_cost=6.0, price_per_gpu_hour=3.0), 1.0) == 7200
    times = Times("fp32", "", 1.0, 2.0, 5.0, 2.0, {8: 30.0, 32: 10.0}, "cpu", 2)
    plan = SimpleNamespace(slots=2, local_cores=None, threads=1)
    rows = {"train": ROWS, "validation": 100}
    for limit, total in (("1m", 60.0), ("100h", None)):
        limited = spec.model_copy(update={"time_budget": limit})
        found = sweep_time_of(limited, plan, times, rows, (), 1.0, 4.0, 10**6).with_early_stopping  # type: ignore[arg-type]
        assert total is None or found.total_s == found.low_s == found.high_s == total


def test_json_goes_with_plan_and_mistakes_are_told_at_once(tmp_path: Path) -> None:
    done = command("tune.search", "--json", "--price-per-gpu-hour", "-1", "--dataset", "none.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for told in ("--json goes with --plan", "--price-per-gpu-hour", "--model is missing"):
        assert told in done.stderr


@pytest.mark.slow
def test_the_command_prints_one_object_and_the_second_is_from_the_cache(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    flags = ["--dataset", data, "--model", tiny_model, "--set", "num_cpus=2", "--out", "run", "--plan", "--json"]
    first, second = (command("tune.search", *flags, cwd=tmp_path, limit_s=500) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    found, again = json.loads(first.stdout), json.loads(second.stdout)
    assert found["times"]["steps"] > 0
    assert found["times"]["side_by_side"] == 2
    assert again["times"]["steps"] == 0
    assert again["times"]["train_epoch_s"] == found["times"]["train_epoch_s"]
    assert not re.search(r"precision|WARNING", first.stderr)
    assert not (tmp_path / "run").exists()
