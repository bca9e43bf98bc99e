"""The splits of a data set, and how a missing one is cut from train."""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.data.columns import Column

SPLITS = ("train", "validation", "test")

Label = int | tuple[int, ...]  # a class id; or, where a row has several classes, 1 or 0 for each class


@dataclass(frozen=True)
class Split:
    """The rows of one split."""

    texts: tuple[Sequence[str], ...]
    """By column: `texts[c][i]` is the text of row i in column c."""
    labels: tuple[Label, ...]
    """By row."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)

    def rows(self, chosen: Sequence[int] | npt.NDArray[np.int64]) -> Split:
        """The rows with these numbers, in this order."""
        texts = (c.take(chosen) if isinstance(c, Column) else tuple(c[i] for i in chosen) for c in self.texts)
        return Split(tuple(texts), tuple(self.labels[i] for i in chosen))


def cut_missing(
    splits: Mapping[str, Split], fractions: Mapping[str, float], seed: int, notes: list[str]
) -> dict[str, Split]:
    """Complete the three splits: cut a missing test split from train first, then a missing validation split.

    Args:
        splits: Those that the data set has; train is among them.
        fractions: For validation and test, the fraction of the rows to cut off that train has at that time. A split
            without a fraction is not cut.
        seed: Of the cuts.
        notes: A sentence is appended for each cut.

    Raises:
        ValueError: Train has too few rows to be cut.
    """
    splits = dict(splits)
    for name in ("test", "validation"):
        if name in splits or name not in fractions:
            continue
        train = splits["train"]
        cut = stratified_cut(train, fractions[name], seed)
        if len(cut) == 0 or len(cut) == len(train):
            texts = len(np.unique(_digests(train)))
            of = f" with {texts} different text{'' if texts == 1 else 's'}" if texts < len(train) else ""
            raise ValueError(f"{len(train)} training rows{of} are too few to cut a {name} split from")
        splits[name] = train.rows(cut)
        splits["train"] = train.rows(np.delete(np.arange(len(train)), cut))
        notes.append(f"no {name} split to use: {len(cut)} rows were cut from train, stratified, seed {seed}")
    return {name: splits[name] for name in SPLITS if name in splits}


def rows_needed(labels: Sequence[Label], fractions: Sequence[float], batch: int) -> int:
    """About how many labelled rows are needed so that `batch` of them are left for training.

    Args:
        labels: The rows that there are; more rows are thought to have their proportions.
        fractions: Of the cuts that are made one after the other.
        batch: Rows that must be left.
    """
    sizes = Counter(labels)
    for rows in range(max(batch, len(sizes)), 100 * batch + 1000):
        left = [max(1, size) for size in _apportioned(sizes, rows).values()]
        is_cut = True
        for fraction in fractions:
            cut = [min(size - 1, max(1, math.floor(size * fraction + 0.5))) for size in left]
            left = [size - gone for size, gone in zip(left, cut, strict=True)]
            is_cut = is_cut and any(cut)
        if is_cut and sum(left) >= batch:
            return rows
    return 100 * batch


def first_rows(train: Split, rows: int, seed: int) -> Split:
    """The first rows of a split after a seeded shuffle."""
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    return train.rows(order[:rows])


def stratified_rows(split: Split, rows: int, seed: int) -> Split:
    """So many rows of a split, in which each class has its share (largest remainder), in a seeded order."""
    order = list(range(len(split)))
    random.Random(seed).shuffle(order)
    wanted = _apportioned(Counter(split.labels), rows)
    chosen = []
    for row in order:
        if wanted[split.labels[row]]:
            wanted[split.labels[row]] -= 1
            chosen.append(row)
    return split.rows(chosen)


def _apportioned(sizes: Mapping[Label, int], rows: int) -> dict[Label, int]:
    """So many rows divided among classes in proportion to their sizes, by largest remainder."""
    shares = {label: size * rows / sum(sizes.values()) for label, size in sizes.items()}
    wanted = {label: int(share) for label, share in shares.items()}
    by_remainder = sorted(shares, key=lambda label: (int(shares[label]) - shares[label], label))
    for label in by_remainder[: rows - sum(wanted.values())]:
        wanted[label] += 1
    return wanted


def stratified_cut(split: Split, fraction: float, seed: int) -> list[int]:
    """Choose rows to cut off, about the same fraction of each class.

    Rows with the same texts stay together, so that no text is on both sides. Each class keeps at least one row.

    Returns:
        Row numbers in ascending order.
    """
    generator = random.Random(seed)
    _, first, group = np.unique(_digests(split), return_index=True, return_inverse=True)
    members = np.argsort(group, kind="stable")  # row numbers, group by group; ascending in each
    ends = np.append(np.searchsorted(group[members], np.arange(len(first))), len(group))
    shuffled = array("q", np.argsort(first))  # the groups in the order of their first rows
    generator.shuffle(shuffled)
    sizes = Counter(split.labels)
    wanted = {label: min(size - 1, max(1, math.floor(size * fraction + 0.5))) for label, size in sizes.items()}
    cut: list[int] = []
    for number in shuffled:
        rows = members[ends[number] : ends[number + 1]].tolist()
        counts = Counter(split.labels[i] for i in rows)
        if all(wanted[label] >= count for label, count in counts.items()):
            cut += rows
            wanted = {label: left - counts[label] for label, left in wanted.items()}
            if not any(wanted.values()):
                break
    return sorted(cut)


def _digests(split: Split) -> npt.NDArray[np.uint64]:
    """Eight bytes for each row; rows with equal texts have equal digests.

    Comparing rows as Python tuples would take far more memory.
    """
    digests = array("Q")
    for texts in zip(*split.texts, strict=True):
        digest = hashlib.blake2b(digest_size=8)
        for text in texts:
            raw = text.encode()
            digest.update(len(raw).to_bytes(8, "little") + raw)
        digests.append(int.from_bytes(digest.digest(), "little"))
    return np.frombuffer(digests, dtype=np.uint64)
