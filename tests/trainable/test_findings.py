"""What is found in splits that spoils a score."""

from __future__ import annotations

import random

import pytest

from trainable.data import findings as module
from trainable.data.findings import DataFindings, look_at, rare_classes, rare_classes_in_words, rows_of_classes
from trainable.data.splits import Split

LONG = "the quick brown fox jumps over the lazy dog and runs across the wide green field at night"


def found(**rows: list[tuple[str, int]]) -> DataFindings:
    splits = {
        name: Split((tuple(text for text, _ in of),), tuple(label for _, label in of)) for name, of in rows.items()
    }
    return look_at(splits)


def test_the_same_text_is_found_whatever_its_case_blanks_and_accents() -> None:
    findings = found(train=[("Cafe\u0301  noir", 0), ("x", 1)], validation=[("caf\u00e9 NOIR ", 0), ("y", 1)])
    assert findings.same_text == {"train, validation": 1}
    assert findings.leaks == ("1 of 2 validation rows also stands in train: the validation score flatters",)
    assert (findings.near_copies, findings.contradictions) == ({}, {})


def test_contradictions_are_found_within_a_split_and_across_splits() -> None:
    findings = found(train=[("x", 0), ("x", 1), ("y", 0)], test=[("Y", 1), ("z", 1)])
    assert findings.contradictions == {"train": 2, "train, test": 1}


def test_near_copies_are_found_across_splits_alone() -> None:
    copy = LONG.replace("wide", "big")
    findings = found(train=[(LONG, 0), (copy, 0), ("short row", 1)], test=[(LONG.replace("green", "red"), 0)])
    assert findings.near_copies == {"train, test": 1}
    assert found(train=[(LONG, 0), (copy, 0)], test=[("another text of more than six words", 1)]).near_copies == {}


def test_every_planted_near_copy_is_found_and_nothing_else() -> None:
    generator = random.Random(0)
    texts = [" ".join(f"w{generator.randrange(5000)}" for _ in range(30)) for _ in range(600)]
    planted = [f"{text} more" for text in texts[:50]]
    findings = found(train=[(text, 0) for text in texts[:300]], test=[(text, 0) for text in planted + texts[300:]])
    assert findings.near_copies == {"train, test": 50}


def test_the_words_agree_with_the_counts() -> None:
    one = found(train=[("x", 0)], validation=[("x", 1)], test=[(LONG, 0), ("x", 1), ("X", 1)])
    assert one.leaks == (
        "1 of 1 validation row also stands in train: the validation score flatters",
        "2 of 3 test rows also stand in train: the test score flatters",
        "2 of 3 test rows also stand in validation: the test score flatters",
        "2 of 3 test rows have the text of a row of train and another label",
        "1 of 1 validation row has the text of a row of train and another label",
    )


def test_a_text_that_stands_there_thousands_of_times_is_counted_at_once() -> None:
    findings = found(train=[("x", i % 2) for i in range(20_000)])
    assert findings.contradictions == {"train": 20_000}


def test_among_too_many_rows_only_whole_texts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"train": [(LONG, 0), ("x", 1)], "test": [(LONG.replace("wide", "big"), 0), ("X", 1)]}
    few = found(**rows)
    assert few.near_copies == {"train, test": 1}
    assert few.leaks[-1] == "1 of 2 test rows is almost the same as a row of train"
    start = LONG.replace("wide", "big")[:60]
    assert few.notes == (f"the first row of test that is almost the same as one of train: '{start}...'",)
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    many = found(**rows)
    assert (many.near_copies, many.same_text) == ({}, few.same_text)
    assert many.notes == ("4 rows are too many to look for near-copies; whole texts alone were compared",)


def test_what_fails_in_the_background_fails_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": Split((("x", "y"),), (0, 1))}
    assert module.look_in_background(splits)() == look_at(splits)
    monkeypatch.setattr(module, "look_at", lambda splits: 1 / 0)
    look = module.look_in_background(splits)
    with pytest.raises(ZeroDivisionError):
        look()


def test_classes_with_few_rows_are_told() -> None:
    splits = {"train": Split((tuple(f"t {i}" for i in range(10)),), (0,) * 9 + (1,))}
    rows = rows_of_classes(splits, ["a", "b"])
    assert rows == {"train": {"a": 9, "b": 1}}
    assert rare_classes(rows) == {"train": {"b": 1}}
    assert rare_classes_in_words(rows) == ["train has fewer than 8 rows of class b (1)"]
