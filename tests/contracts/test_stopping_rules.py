"""What every stopping rule must do, whichever it is: a new one in tune/stopping_rules/ is tested without a change."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import tune.stopping_rules
from tests.contracts.test_samplers import copy_of_the_project, help_text
from tune.stopping_rules import STOPPING_RULES, find_stopping_rules
from tune.stopping_rules.base import StoppingRule

Epoch = tuple[float, float, float]  # schedule percent, score, loss

every_rule = pytest.mark.parametrize("name", list(STOPPING_RULES))
both_modes = pytest.mark.parametrize("mode", ["max", "min"])


def make(name: str, mode: str = "max", reduction_factor: float = 2.0) -> StoppingRule:
    return STOPPING_RULES[name].make(mode, reduction_factor)


def epochs_of(scores: list[float], loss: float = 0.5) -> list[Epoch]:
    return [(100 * epoch / len(scores), score, loss) for epoch, score in enumerate(scores, 1)]


def play(rule: StoppingRule, number: int, epochs: list[Epoch]) -> int:
    """Report a trial's epochs until the rule stops it; returns how many epochs were run."""
    for ran, epoch in enumerate(epochs, 1):
        if not rule.report(number, *epoch):
            return ran
    return len(epochs)


def noisy(seed: int, trials: int = 40) -> list[list[Epoch]]:
    generator = random.Random(seed)
    return [
        epochs_of([generator.random() for _ in range(generator.choice([1, 2, 3, 4, 8]))], generator.random())
        for _ in range(trials)
    ]


@every_rule
def test_it_is_known_by_its_own_name_and_described_in_a_line(name: str) -> None:
    entry = STOPPING_RULES[name]
    assert entry.name == name
    assert name.isidentifier()
    assert 10 < len(entry.description) < 90
    assert "\n" not in entry.description


@every_rule
@both_modes
def test_the_only_trial_is_never_stopped(name: str, mode: str) -> None:
    for scores in ([0.9, 0.5, 0.1, 0.0], [0.0, 0.1, 0.5, 0.9], [0.5] * 8):
        rule = make(name, mode)
        assert play(rule, 0, epochs_of(scores)) == len(scores)


@every_rule
@both_modes
def test_the_first_trial_at_a_rung_goes_on(name: str, mode: str) -> None:
    """Another trial is ahead in number but behind in its schedule: there is nothing to compare with."""
    rule = make(name, mode)
    assert rule.report(0, 10.0, 0.5, 0.5)
    assert all(rule.report(1, percent, 0.5, 0.5) for percent in (20.0, 40.0, 60.0, 80.0, 100.0))


@every_rule
@both_modes
@pytest.mark.parametrize("seed", range(4))
def test_the_best_trial_so_far_is_never_stopped(name: str, mode: str, seed: int) -> None:
    generator = random.Random(seed)
    rule = make(name, mode, reduction_factor=3)
    best = -1.0
    for number in range(60):
        level = generator.random()
        scores = [level if mode == "max" else 1 - level] * generator.choice([1, 2, 3, 4, 5])
        ran = play(rule, number, epochs_of(scores))
        if level > best:
            best = level
            assert ran == len(scores)


@every_rule
def test_an_epoch_that_is_reported_again_changes_nothing(name: str) -> None:
    once, twice = make(name), make(name)
    stopped = set()
    for number, epochs in enumerate(noisy(1)):
        for at, (percent, score, loss) in enumerate(epochs):
            decision = once.report(number, percent, score, loss)
            assert twice.report(number, percent, score, loss) == decision
            for before, _, _ in epochs[: at + 1]:  # a restarted trial; another machine may round otherwise
                twice.report(number, before, 1 - score, 1 - loss)
            if not decision:
                stopped.add(number)
                break
    assert stopped or name == "none", "nothing was stopped, so nothing was tested"


@every_rule
def test_a_continued_sweep_decides_as_the_one_that_was_never_stopped(name: str) -> None:
    """A new rule is told the study's epochs, trial by trial, before it decides about new ones."""
    trials = noisy(2)
    straight = make(name)
    history = [epochs[: play(straight, number, epochs)] for number, epochs in enumerate(trials[:30])]
    continued = make(name)
    for number, epochs in enumerate(history):
        for epoch in epochs:
            continued.report(number, *epoch)
    ran = [[play(rule, number, trials[number]) for number in range(30, 40)] for rule in (straight, continued)]
    assert ran[0] == ran[1]


@every_rule
@both_modes
def test_equal_trials_all_go_on(name: str, mode: str) -> None:
    rule = make(name, mode, reduction_factor=4)
    assert [play(rule, number, epochs_of([0.8] * 4)) for number in range(8)] == [4] * 8


@every_rule
@both_modes
def test_extreme_numbers_are_decided_upon_like_any_others(name: str, mode: str) -> None:
    rule = make(name, mode)
    extremes = [0.0, -0.0, 1e308, -1e308, 5e-324, 1.0]
    for number, score in enumerate(extremes):
        for percent in (25.0, 50.0, 75.0, 100.0):
            assert rule.report(number, percent, score, abs(score)) in (True, False)


@every_rule
def test_the_same_reports_lead_to_the_same_decisions(name: str) -> None:
    lengths = [[play(rule, n, epochs) for n, epochs in enumerate(noisy(3))] for rule in (make(name), make(name))]
    assert lengths[0] == lengths[1]


TOY = """
from tune.stopping_rules.base import StoppingRuleEntry

class Impatient:
    def __init__(self, mode, reduction_factor):
        pass

    def report(self, number, schedule_percent, score, loss):
        return number == 0

STOPPING_RULE = StoppingRuleEntry("toy", "a rule that a test added", Impatient)
"""


def test_one_new_file_adds_a_stopping_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    monkeypatch.setattr(tune.stopping_rules, "__path__", [*tune.stopping_rules.__path__, str(tmp_path)])
    found = find_stopping_rules()
    assert found.keys() == {*STOPPING_RULES, "toy"}
    rule = found["toy"].make("max", 2.0)
    assert [play(rule, number, epochs_of([0.5] * 4)) for number in range(2)] == [4, 1]


def test_the_table_is_light() -> None:
    """`--help` reads it."""
    script = "import sys, tune.stopping_rules; assert not {'optuna', 'ray', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_command_line_knows_the_new_file_at_once(tmp_path: Path) -> None:
    copy = copy_of_the_project(tmp_path)
    (copy / "tune" / "stopping_rules" / "toy.py").write_text(TOY)
    assert "a rule that a test added" in help_text(copy)
