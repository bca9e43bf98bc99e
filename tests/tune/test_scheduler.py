"""Early stopping by the share of the schedule."""

from __future__ import annotations

import random

import pytest

from tune.stopping_rules.asha import MIN_TRIALS_AT_RUNG, RUNGS_PERCENT, STOPPING_RULE, SuccessiveHalving


def play(halving: SuccessiveHalving, number: int, scores: list[float]) -> int:
    """Report a trial's epochs until it is stopped; returns the epochs run."""
    for epoch, score in enumerate(scores, 1):
        if not halving.report(number, 100 * epoch / len(scores), score, 0.5):
            return epoch
    return len(scores)


def test_trials_are_compared_at_the_same_share_whatever_their_length() -> None:
    halving = SuccessiveHalving("max", 2)
    for number, at_half in enumerate([0.5, 0.6]):
        for percent, score in [(12.5, 0.1), (25, 0.2), (50, at_half), (75, 0.8), (100, 0.9)]:
            assert halving.report(number, percent, score, 0.5)
    assert halving.report(2, 12.5, 0.1, 0.5)
    assert halving.report(2, 33.3, 0.99, 0.5), "a rung takes the first score at or behind it"
    assert not halving.report(2, 50, 0.4, 0.5), "0.4 at half is the worst of three, though 0.99 came before"


def test_every_rung_decides_once_on_a_score_of_its_own() -> None:
    assert STOPPING_RULE.rungs_percent == RUNGS_PERCENT == (12.5, 25, 50, 75)
    for at in RUNGS_PERCENT:
        halving = SuccessiveHalving("max", 2)
        for number in range(3):
            scores = [0.9 - number / 10 if percent == at else 0.5 for percent in RUNGS_PERCENT]
            told = [halving.report(number, p, score, 1 - score) for p, score in zip(RUNGS_PERCENT, scores, strict=True)]
            assert told == [number < 2 or percent != at for percent in RUNGS_PERCENT]


def test_the_mode_turns_the_order_round() -> None:
    scores = [[0.5, 0.4], [0.6, 0.4], [0.7, 0.4], [0.3, 0.2]]
    low = SuccessiveHalving("min", 2)
    assert [play(low, i, s) for i, s in enumerate(scores)] == [2, 2, 1, 2]
    high = SuccessiveHalving("max", 2)
    assert [play(high, i, [-x for x in s]) for i, s in enumerate(scores)] == [2, 2, 1, 2]


def test_equals_go_on_and_the_first_at_a_rung_are_never_stopped() -> None:
    halving = SuccessiveHalving("max", 4)
    assert [play(halving, i, [0.8, 0.8]) for i in range(6)] == [2] * 6
    halving = SuccessiveHalving("max", 4)
    falling = [play(halving, i, [1 - i / 10, 1]) for i in range(MIN_TRIALS_AT_RUNG)]
    assert falling[: MIN_TRIALS_AT_RUNG - 1] == [2] * (MIN_TRIALS_AT_RUNG - 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_trial_so_far_is_never_stopped(seed: int) -> None:
    generator = random.Random(seed)
    halving = SuccessiveHalving("max", 3)
    best = 0.0
    for number in range(60):
        level = generator.random()
        epochs = generator.choice([2, 3, 4, 5])
        ran = play(halving, number, [level] * epochs)
        if level > best:
            best = level
            assert ran == epochs
    assert best > 0.9


def test_about_one_in_reduction_factor_survives_one_rung() -> None:
    generator = random.Random(0)
    halving = SuccessiveHalving("max", 4)
    survived = sum(play(halving, n, [generator.random()] * 2) == 2 for n in range(400))
    assert 80 < survived < 150


def test_one_epoch_trials_and_epochs_run_again_are_left_alone() -> None:
    halving = SuccessiveHalving("max", 2)
    assert [play(halving, n, [n / 10]) for n in reversed(range(8))] == [1] * 8
    assert halving.report(20, 50, 0.9, 0.5)
    assert halving.report(20, 50, 0.0, 0.5)


def test_the_loss_decides_between_trials_that_all_predict_one_class() -> None:
    halving = SuccessiveHalving("max", 2)
    go_on = [halving.report(n, 50, 0.8, loss) for n, loss in enumerate([0.60, 0.61, 0.70, 0.59, 0.65])]
    assert go_on == [True, True, False, True, False]
    assert halving.report(9, 50, 0.81, 0.99), "the objective comes first"


def test_the_first_rung_compares_losses_since_one_class_alone_beats_a_beginning() -> None:
    halving = SuccessiveHalving("max", 2)
    one_class, learning = (0.8122, 0.66), (0.7, 0.60)
    reports = [one_class, one_class, learning, one_class]
    assert [halving.report(n, 12.5, *report) for n, report in enumerate(reports)] == [True, True, True, True]
    assert halving.report(4, 12.5, 0.75, 0.61)
    assert not halving.report(5, 12.5, 0.8122, 0.67)
    at_25 = [halving.report(n, 25, *report) for n, report in enumerate([(0.8, 0.6), (0.81, 0.9), (0.7, 0.1)])]
    assert at_25 == [True, True, False], "from 25 % on the score counts"
