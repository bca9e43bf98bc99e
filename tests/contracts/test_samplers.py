"""What every sampler must do, whichever it is: a new one in tune/samplers/ is tested here without a change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import TrialState

import tune.samplers
from tests.tune.test_end_to_end import ROOT
from tests.tune.test_searcher import issue, make_book, run_one
from tune.samplers import SAMPLERS, find_samplers
from tune.spec.space import Choice, Fixed, Float, Int
from tune.spec.sweep_spec import SweepSpec

SPACE = {
    "learning_rate": Float(1e-5, 1e-3, log=True),
    "dropout": Float(0.0, 0.3),
    "epochs": Int(2, 5),
    "micro_batch_size": Int(1, 64, log=True),
    "batch_size": Choice((8, 16, 32)),
    "max_grad_norm": Choice((None, 0.5, 1.0)),
    "weight_decay": Fixed(0.05),
}
MORE_THAN_STARTUP = 8  # samplers that learn begin with random trials

every_sampler = pytest.mark.parametrize("sampler", list(SAMPLERS))


def propose(folder: Path, sampler: str, count: int, drivers: int = 1, seed: int = 7) -> list[dict[str, Any]]:
    """The configurations of `count` trials, each finished before the next is asked for, by one driver or several."""
    found: list[dict[str, Any]] = []
    for driver in range(drivers):
        book = make_book(folder, space=SPACE, sampler=sampler, num_trials=count, seed=seed)
        while len(found) < count * (driver + 1) // drivers:
            found.append(run_one(book, [0.5, 0.4 + 0.01 * len(found)]).config.named())
    return found


@every_sampler
def test_it_is_known_by_its_own_name_and_described_in_a_line(sampler: str) -> None:
    entry = SAMPLERS[sampler]
    assert entry.name == sampler
    assert sampler.isidentifier()
    assert 10 < len(entry.description) < 90
    assert "\n" not in entry.description


@every_sampler
def test_it_makes_a_sampler_of_optunas(sampler: str) -> None:
    assert isinstance(SAMPLERS[sampler].make(1, IntersectionSearchSpace(include_pruned=True)), BaseSampler)


@pytest.fixture(scope="module", params=list(SAMPLERS))
def proposed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Any]]:
    """A sampler, and what it proposes to a sweep of seed 7 that nothing disturbs."""
    return request.param, propose(tmp_path_factory.mktemp("undisturbed"), request.param, MORE_THAN_STARTUP)


def test_the_same_seed_gives_the_same_proposals(tmp_path: Path, proposed: tuple[str, list[Any]]) -> None:
    sampler, once = proposed
    assert propose(tmp_path / "again", sampler, MORE_THAN_STARTUP) == once
    assert propose(tmp_path / "other", sampler, 2, seed=8) != once[:2]


def test_every_proposal_lies_in_the_space(proposed: tuple[str, list[Any]]) -> None:
    _, configs = proposed
    for config in configs:
        assert config.keys() == SPACE.keys()
        for name, domain in SPACE.items():
            value = config[name]
            match domain:
                case Float(low, high):
                    assert isinstance(value, float)
                    assert low <= value <= high
                case Int(low, high):
                    assert isinstance(value, int)
                    assert low <= value <= high
                case Choice(values):
                    assert value in values
                case Fixed(fixed):
                    assert value == fixed


def test_a_restart_after_every_trial_changes_nothing(tmp_path: Path, proposed: tuple[str, list[Any]]) -> None:
    sampler, never = proposed
    always = propose(tmp_path, sampler, MORE_THAN_STARTUP, drivers=MORE_THAN_STARTUP)
    assert always == never
    rates = [config["learning_rate"] for config in always]
    assert len(set(rates)) == len(rates), "a configuration was proposed twice"


@every_sampler
def test_open_failed_and_stopped_trials_do_not_trouble_it(tmp_path: Path, sampler: str) -> None:
    book = make_book(tmp_path, space=SPACE, sampler=sampler, num_trials=MORE_THAN_STARTUP)
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]
    for number in range(MORE_THAN_STARTUP - 2):
        state = states[number % 3]
        run_one(book, [] if state == TrialState.FAIL else [0.1 * (number % 7)], state)
    open_now = [issue(book).config.named(), issue(book).config.named()]
    assert open_now[0]["learning_rate"] != open_now[1]["learning_rate"], "two workers would train the same"


@every_sampler
@pytest.mark.parametrize("name", ["learning_rate", "epochs", "batch_size", "weight_decay"])
def test_a_space_of_one_field_is_enough(tmp_path: Path, sampler: str, name: str) -> None:
    book = make_book(tmp_path, space={name: SPACE[name]}, sampler=sampler, num_trials=MORE_THAN_STARTUP)
    for _ in range(MORE_THAN_STARTUP):
        assert run_one(book, [0.5]).config.named().keys() == {name}


TOY = """
from tune.samplers.base import SamplerEntry

def make(seed, searched):
    from optuna.samplers import RandomSampler

    class LastChoice(RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            return distribution.choices[-1]

    return LastChoice(seed=seed)

SAMPLER = SamplerEntry("toy", "a sampler that a test added", make)
"""


def test_one_new_file_adds_a_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    monkeypatch.setattr(tune.samplers, "__path__", [*tune.samplers.__path__, str(tmp_path)])
    found = find_samplers()
    assert found.keys() == {*SAMPLERS, "toy"}
    monkeypatch.setitem(SAMPLERS, "toy", found["toy"])
    SweepSpec.model_rebuild(force=True)  # the names of a table are read when the model is made
    try:
        book = make_book(tmp_path / "run", sampler="toy", space={"batch_size": Choice((8, 16))})
        assert [run_one(book, [0.5]).config.batch_size for _ in range(4)] == [16] * 4
    finally:
        monkeypatch.undo()
        SweepSpec.model_rebuild(force=True)


def test_the_table_is_light() -> None:
    """`--help` reads it."""
    script = "import sys, tune.samplers; assert not {'optuna', 'ray', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_command_line_knows_the_new_file_at_once(tmp_path: Path) -> None:
    copy = copy_of_the_project(tmp_path)
    (copy / "tune" / "samplers" / "toy.py").write_text(TOY)
    assert "a sampler that a test added" in help_text(copy)


def copy_of_the_project(folder: Path) -> Path:
    for package in ("tune", "trainable"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def help_text(project: Path) -> str:
    command = [sys.executable, "-m", "tune.search", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(project), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split())
