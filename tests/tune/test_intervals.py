"""Intervals of scores: as often as they say, they hold the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tune.statistics import bootstrap
from tune.statistics.bootstrap import accuracy_and_f1_intervals

SIMULATIONS = 500


def joint(frequency: list[float], right: float) -> npt.NDArray[np.float64]:
    """The probability of each class and answer; wrong answers are spread over the other classes."""
    classes = len(frequency)
    answers = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(answers, right)
    return np.array(frequency)[:, None] / sum(frequency) * answers


def truth(cells: npt.NDArray[np.float64], binary: bool) -> dict[str, float]:
    by_class = 2 * np.diag(cells) / (cells.sum(0) + cells.sum(1))
    return {"accuracy": float(np.trace(cells)), "f1": float(by_class[1] if binary else by_class.mean())}


CASES: dict[str, tuple[int, list[float], float]] = {
    "50 rows": (50, [0.35, 0.65], 0.85),
    "few of the positive class": (200, [0.9, 0.1], 0.95),
    "nearly all right": (400, [0.35, 0.65], 0.98),
    "as MRPC": (1725, [0.33, 0.67], 0.85),
    "6 unequal classes": (300, [0.05, 0.1, 0.15, 0.2, 0.2, 0.3], 0.72),
    "77 classes": (770, [1.0] * 77, 0.8),
}


@pytest.mark.parametrize("case", CASES)
def test_the_intervals_hold_the_truth_as_often_as_they_say(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS", 500)
    rows, frequency, right = CASES[case]
    cells, classes = joint(frequency, right), len(frequency)
    true, generator = truth(cells, classes == 2), np.random.default_rng(5)
    held = dict.fromkeys(true, 0)
    for number in range(SIMULATIONS):
        drawn = generator.choice(classes**2, size=rows, p=cells.ravel())
        labels, answers = (drawn // classes).tolist(), (drawn % classes).tolist()
        positive = 1 if classes == 2 else None
        found = accuracy_and_f1_intervals(labels, answers, range(rows), positive, seed=number)
        for name, (low, high) in found.items():
            held[name] += low <= true[name] <= high
    for name, count in held.items():
        # Of 2,000 simulations 94.7 to 96.4 % hold it; 97.5 % where 400 rows have 8 mistakes, whose number is discrete.
        assert 0.92 <= count / SIMULATIONS <= 0.985, name


def test_without_the_correction_the_interval_of_many_classes_is_too_low() -> None:
    """The control: plain quantiles of what is drawn."""
    rows, frequency, right = CASES["77 classes"]
    cells, generator, held = joint(frequency, right), np.random.default_rng(5), 0
    for _ in range(100):
        drawn = generator.choice(77**2, size=rows, p=cells.ravel())
        counts, of_kind, _ = bootstrap._count_kinds((drawn // 77).tolist(), (drawn % 77).tolist(), range(rows), None)
        weights = generator.multinomial(rows, of_kind / rows, size=300).astype(np.float64)
        low, high = np.quantile(bootstrap._f1(counts.weighted(weights), None), [0.025, 0.975])
        held += low <= truth(cells, binary=False)["f1"] <= high
    assert held < 90


def test_texts_that_stand_several_times_count_once() -> None:
    """Each row stands four times. The control takes them for different rows, and is far too sure."""
    generator, rows, held = np.random.default_rng(1), 100, {"together": 0, "apart": 0}
    for number in range(200):
        labels = generator.integers(0, 2, rows).repeat(4)
        wrong = (generator.random(rows) < 0.2).repeat(4)
        answers = np.where(wrong, 1 - labels, labels)
        groups = {"together": np.arange(rows).repeat(4).tolist(), "apart": range(4 * rows)}
        for name, group in groups.items():
            found = accuracy_and_f1_intervals(labels.tolist(), answers.tolist(), group, 1, seed=number)
            held[name] += found["accuracy"][0] <= 0.8 <= found["accuracy"][1]
    assert held["together"] >= 180
    assert held["apart"] <= 150


@pytest.mark.parametrize("positive", [1, None])
def test_the_scores_in_the_middle_are_scikit_learns(positive: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    corrected = bootstrap._corrected

    def noted(score: float, *others: Any) -> Any:
        seen.append(score)
        return corrected(score, *others)

    monkeypatch.setattr(bootstrap, "_corrected", noted)
    generator = np.random.default_rng(2)
    classes = 2 if positive == 1 else 5
    labels, answers = (generator.integers(0, classes, 60).tolist() for _ in range(2))
    found = accuracy_and_f1_intervals(labels, answers, range(60), positive)
    average = "binary" if positive == 1 else "macro"
    assert seen == pytest.approx([accuracy_score(labels, answers), f1_score(labels, answers, average=average)])
    for score, (low, high) in zip(seen, found.values(), strict=True):
        assert 0 <= low < score < high <= 1


@pytest.mark.parametrize("rows", [1, 2, 20, 1000])
def test_a_split_without_a_mistake_is_no_proof_of_a_model_without_one(rows: int) -> None:
    labels = [i % 2 for i in range(rows)]
    found = accuracy_and_f1_intervals(labels, labels, range(rows), None)
    assert found["accuracy"][1] == 1
    assert found["accuracy"][0] == pytest.approx(rows / (rows + 3.84), abs=1e-3)  # Wilson's
    wrong = accuracy_and_f1_intervals(labels, [1 - label for label in labels], range(rows), None)
    assert wrong["accuracy"] == pytest.approx((0.0, 3.84 / (rows + 3.84)), abs=1e-3)


def test_a_higher_level_is_wider_and_the_same_seed_gives_the_same() -> None:
    labels, answers = [0, 1] * 50, [0, 1, 1, 1] * 25
    narrow, wide = (accuracy_and_f1_intervals(labels, answers, range(100), 1, level=level) for level in (0.8, 0.99))
    for name in narrow:
        assert wide[name][0] < narrow[name][0] < narrow[name][1] < wide[name][1]
    assert narrow == accuracy_and_f1_intervals(labels, answers, range(100), 1, level=0.8)
    with pytest.raises(ValueError, match="at least one row"):
        accuracy_and_f1_intervals([], [], [], 1)


def test_thousands_of_classes_take_seconds() -> None:
    labels = list(range(3000)) * 2
    answers = [label if i % 5 else (label + 1) % 3000 for i, label in enumerate(labels)]
    found = accuracy_and_f1_intervals(labels, answers, range(6000), None)
    assert found["accuracy"][0] < 0.8 < found["accuracy"][1]
