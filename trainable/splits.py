"""Rows of a data set, and how train is cut where a split is missing."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Rows of one split: texts[c][i] is column c of row i, labels[i] its class id."""

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Sequence[int]) -> Split:
        """The chosen rows, in that order."""
        return Split(
            tuple(tuple(column[i] for i in chosen) for column in self.texts), tuple(self.labels[i] for i in chosen)
        )


def cut_missing(
    splits: Mapping[str, Split], fractions: Mapping[str, float], seed: int, notes: list[str]
) -> dict[str, Split]:
    """All three splits: test and validation, in this order, are cut from train where they are missing, and noted.

    fractions: by split, the share of the rows that train then has
    Raises ValueError where train is too small to be cut.
    """
    splits = dict(splits)
    for name in ("test", "validation"):
        if name in splits:
            continue
        train = splits["train"]
        cut = stratified_cut(train, fractions[name], seed)
        if len(cut) == 0 or len(cut) == len(train):
            raise ValueError(f"{len(train)} training rows are too few to cut a {name} split from")
        chosen = set(cut)
        splits[name] = train.rows(cut)
        splits["train"] = train.rows([i for i in range(len(train)) if i not in chosen])
        notes.append(f"no {name} split to use: {len(cut)} rows were cut from train, stratified, seed {seed}")
    return {name: splits[name] for name in SPLITS}


def first_rows(train: Split, rows: int, seed: int) -> Split:
    """The first rows of a split after a seeded shuffle."""
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    return train.rows(order[:rows])


def stratified_cut(split: Split, fraction: float, seed: int) -> list[int]:
    """Row numbers of a stratified share of a split, in ascending order.

    Rows with the same texts stay together, so that no text stands on both sides; a class's last row is never cut.
    """
    generator = random.Random(seed)
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, texts in enumerate(zip(*split.texts, strict=True)):
        groups.setdefault(texts, []).append(i)
    shuffled = list(groups.values())
    generator.shuffle(shuffled)
    sizes = Counter(split.labels)
    wanted = {label: min(size - 1, max(1, math.floor(size * fraction + 0.5))) for label, size in sizes.items()}
    cut: list[int] = []
    for rows in shuffled:
        counts = Counter(split.labels[i] for i in rows)
        if all(wanted[label] >= count for label, count in counts.items()):
            cut += rows
            wanted = {label: left - counts[label] for label, left in wanted.items()}
    return sorted(cut)


def note_leaks(splits: Mapping[str, Split], notes: list[str]) -> None:
    """Note how many rows of validation and test stand in train as well."""
    train = set(zip(*splits["train"].texts, strict=True))
    for name in ("validation", "test"):
        both = sum(texts in train for texts in zip(*splits[name].texts, strict=True))
        if both:
            notes.append(f"{both} of {len(splits[name])} {name} rows also stand in train: their score flatters")
