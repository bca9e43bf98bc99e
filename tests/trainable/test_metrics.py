"""The scores from counts equal those of scikit-learn, and of `evaluate`, to the last digit."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from trainable.metrics import ClassCounts, collapsed, majority_scores, merit, scores


def random_confusion(generator: random.Random, classes: int, *, collapse: bool = False) -> list[list[int]]:
    columns = [generator.randrange(classes)] if collapse else range(classes)
    return [[generator.randrange(60) if j in columns else 0 for j in range(classes)] for _ in range(classes)]


def as_labels(confusion: list[list[int]]) -> tuple[list[int], list[int]]:
    cells = [(i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in cells], [j for _, j in cells]


def by_class(confusion: Sequence[Sequence[int]]) -> list[ClassCounts]:
    """The counts of each class, from rows by [true class][predicted class]."""
    answers = [sum(column) for column in zip(*confusion, strict=True)]
    return [ClassCounts(sum(row), answers[i], row[i]) for i, row in enumerate(confusion)]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.filterwarnings("ignore:.*single label.*:UserWarning", "ignore:A single label")
def test_scores_equal_scikit_learn_to_the_last_digit(seed: int) -> None:
    generator = random.Random(seed)
    classes = generator.choice([2, 2, 3, 5, 12])
    confusion = random_confusion(generator, classes, collapse=seed % 5 == 0)
    confusion[0][0] += 1
    references, predictions = as_labels(confusion)
    for average in ("binary", "macro") if classes == 2 else ("macro",):
        ours = scores(by_class(confusion), 1.0, average)  # type: ignore[arg-type]
        assert ours["accuracy"] == accuracy_score(references, predictions)
        assert ours["f1"] == f1_score(references, predictions, average=average, zero_division=0)
        assert ours["matthews_correlation"] == matthews_corrcoef(references, predictions)


def test_scores_equal_evaluate_through_the_offline_module() -> None:
    from tune.evaluate import glue_scores

    confusion = [[31, 8, 2], [5, 44, 1], [9, 3, 17]]
    theirs = glue_scores(*as_labels(confusion), "macro")
    ours = scores(by_class(confusion), 1.0, "macro")
    assert theirs == {name: ours[name] for name in ("accuracy", "f1", "matthews_correlation")}


def test_the_notebooks_score_is_that_of_always_answering_one_class() -> None:
    # 279 of MRPC's 408 validation pairs are paraphrases: facts about the data, not a run of ours.
    guess = majority_scores([1194, 2474], [129, 279], "binary")
    assert round(guess["accuracy"], 4) == 0.6838
    assert round(guess["f1"], 4) == 0.8122


def test_majority_answers_the_class_most_frequent_in_training() -> None:
    assert majority_scores([5, 9], [80, 20], "binary") == {"accuracy": 0.2, "f1": pytest.approx(1 / 3)}
    assert majority_scores([9, 5], [80, 20], "binary") == {"accuracy": 0.8, "f1": 0.0}


def test_collapsed_means_one_predicted_class() -> None:
    assert collapsed(by_class([[0, 7], [0, 3]]))
    assert not collapsed(by_class([[1, 6], [0, 3]]))


def test_the_objective_ranks_and_between_equals_the_loss() -> None:
    def scores_of(f1: float, loss: float) -> dict[str, float]:
        return {"f1": f1, "loss": loss}

    assert merit(scores_of(0.9, 5.0), "f1", "max") > merit(scores_of(0.8, 0.1), "f1", "max")
    assert merit(scores_of(0.9, 0.1), "f1", "max") > merit(scores_of(0.9, 0.2), "f1", "max")
    assert merit(scores_of(0.0, 0.1), "loss", "min") > merit(scores_of(1.0, 0.2), "loss", "min")
