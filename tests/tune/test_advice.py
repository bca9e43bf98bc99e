"""Advice is given where the numbers call for it, and nowhere else."""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any

import pytest

from tests.tune.test_progress import record
from tune.report.advice import advice, validation_note
from tune.spec.space import Choice, Float, Int

SPACE = {"learning_rate": Float(1e-5, 1e-3, True), "batch_size": Choice((8, 16)), "epochs": Int(2, 4)}


def inputs(max_length: int = 128, longest: int | None = 512, rows: int = 100) -> Any:
    return types.SimpleNamespace(
        spec=types.SimpleNamespace(space=SPACE), max_length=max_length, longest_row=longest,
        data=types.SimpleNamespace(splits={"train": range(rows)}, label_names=("ABBR", "DESC", "LOC", "NUM")),
    )  # fmt: skip


def given(
    best: int, rate: float = 1e-4, count: int = 4, truncated: int = 0, never: tuple[str, ...] = (), **more: Any
) -> list[str]:
    records = [record(i, 0.9, best=best, learning_rate=rate) for i in range(count)]
    return advice(inputs(**more), records, records[0], truncated, never)


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert given(best=2) == []
    assert given(best=3, count=2) == [], "of two trials nothing follows"


def test_trials_that_were_all_best_at_their_end() -> None:
    told = (
        "each of the 4 trials of two epochs or more that ran to their end was best in its last epoch: widen epochs, as "
        "in --space epochs=3..6"
    )
    assert given(best=3) == [told]
    single = [record(i, 0.9, best=1, epochs=1) for i in range(4)]
    assert advice(inputs(), single, single[0], 0, []) == [], "of a single epoch the last is always the best"
    records = [record(i, 0.9, best=3 - (i == 2)) for i in range(4)]
    assert advice(inputs(), records, records[0], 0, []) == [], "one was not"
    stopped = [replace(each, state="PRUNED") for each in records]
    assert advice(inputs(), stopped, records[0], 0, []) == []


@pytest.mark.parametrize(("rate", "end"), [(1.1e-5, "lower"), (9.5e-4, "upper"), (1e-4, None)])
def test_a_winner_at_the_end_of_its_range(rate: float, end: str | None) -> None:
    told = f"the winner's learning_rate {rate:.3g} lies at the {end} end of log:1e-05..0.001: widen the range there"
    assert given(best=2, rate=rate) == ([told] if end else [])


@pytest.mark.parametrize(
    ("truncated", "max_length", "longest", "told"),
    [
        (12, 128, 512, ["12 % of the training rows were cut to 128 tokens: try --max-length 256"]),
        (12, 300, 512, ["12 % of the training rows were cut to 300 tokens: try --max-length 512"]),
        (12, 512, 512, ["12 % of the training rows were cut to 512 tokens, the most that the model has"]),
        (12, 512, None, ["12 % of the training rows were cut to 512 tokens: try --max-length 1024"]),
        (4, 128, 512, []),
    ],
)
def test_rows_that_were_cut(truncated: int, max_length: int, longest: int | None, told: list[str]) -> None:
    assert given(best=2, truncated=truncated, max_length=max_length, longest=longest) == told


def test_a_class_that_is_never_answered() -> None:
    (told,) = given(best=2, never=("ABBR",))
    assert told.startswith("the winner never answers class ABBR on the test split, where rows have it")


def test_a_validation_split_that_takes_more_than_a_third() -> None:
    assert validation_note(800, 200, 200) == ""
    assert validation_note(800, 1200, 1200) == "", "a third is not more than a third"
    note = validation_note(800 * 20, 1499 * 20, 1499)
    assert (
        note
        == "note: validation takes about 38 % of each epoch's time (1499 rows): --validation-rows 600 makes it a fifth"
    )
    rows = int(note.split("--validation-rows ")[1].split()[0])
    assert validation_note(800 * 20, rows * 20, rows) == ""
    assert rows / (rows + 3 * 800) == pytest.approx(0.2, abs=0.01)


def test_a_winner_of_one_class_is_warned_of_elsewhere() -> None:
    assert given(best=2, never=("ABBR", "DESC", "LOC")) == []
