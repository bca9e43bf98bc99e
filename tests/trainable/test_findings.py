"""What is found in splits that spoils a score."""

from __future__ import annotations

import random

from trainable.data.findings import DataFindings, look_at
from trainable.data.splits import Split

LONG = "the quick brown fox jumps over the lazy dog and runs across the wide green field at night"


def found(**rows: list[tuple[str, int]]) -> DataFindings:
    splits = {
        name: Split((tuple(text for text, _ in of),), tuple(label for _, label in of)) for name, of in rows.items()
    }
    return look_at(splits, ["a", "b"])


def test_the_same_text_is_found_whatever_its_case_blanks_and_accents() -> None:
    findings = found(train=[("Cafe\u0301  noir", 0), ("x", 1)], validation=[("caf\u00e9 NOIR ", 0), ("y", 1)])
    assert findings.same_text == {"train, validation": 1}
    assert findings.leaks == ("1 of 2 validation row also stands in train: their score flatters",)
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


def test_classes_with_few_rows_are_told() -> None:
    findings = found(train=[(f"t {i}", 0) for i in range(9)] + [("u", 1)])
    assert findings.rare_classes == {"train": {"b": 1}}
    assert findings.notes == ("train has fewer than 8 rows of class b (1)",)
    assert findings.class_rows == {"train": {"a": 9, "b": 1}}
