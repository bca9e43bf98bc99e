"""Jobs over the tiny model, for the tests of what runs in a worker."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from trainable.data.tokens import load_tokenizer, tokenize
from trainable.job import Job


def pairs(count: int, start: int = 0) -> tuple[list[list[str]], list[int]]:
    """Sentence pairs whose label a small model can learn."""
    things, verbs = ["bank", "dog", "market", "team"], ["rose", "fell", "won", "lost"]
    first, second, labels = [], [], []
    for at in range(start, start + count):
        thing, verb, same = things[at % 4], verbs[at // 4 % 4], at % 3 > 0
        first.append(f"the {thing} {at} in the city {verb}" + " today" * (at % 5))
        second.append(f"the {thing} {at} " + (f"also {verb} again" if same else f"never {verb} it sold shares instead"))
        labels.append(int(same))
    return [first, second], labels


def make_job(model: Path, train_rows: int = 96, **changes: Any) -> Job:
    """A job over tiny data; `changes` replace its fields."""
    tokenizer = load_tokenizer(str(model))
    train, validation = pairs(train_rows), pairs(48, start=1000)
    job = Job(
        model_folder=str(model),
        label_names=("different", "same"),
        train=tokenize(*train, tokenizer, 64),
        validation=tokenize(*validation, tokenizer, 64),
        pad_id=0,
    )
    return dataclasses.replace(job, **changes)
