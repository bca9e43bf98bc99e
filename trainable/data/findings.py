"""What makes a score untrustworthy before anything is trained: texts in two splits, contradictions, rare classes."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from trainable.data.labels import classes_in
from trainable.data.near_copies import near_copies
from trainable.data.splits import SPLITS, Split

FEW_ROWS = 8  # of a class: fewer in training teach little, fewer in validation or test say little
MOST_ROWS = 200_000  # among which near-copies are looked for
CLASSES_NAMED = 5
EXAMPLE_CHARACTERS = 60


@dataclass(frozen=True)
class DataFindings:
    """What was found in the splits of a data set."""

    class_rows: dict[str, dict[str, int]]
    """By split and class name: rows."""
    rare_classes: dict[str, dict[str, int]]
    """The classes that have too few rows, as in `class_rows`."""
    same_text: dict[str, int]
    """By pair of splits ("train, test"): rows of the second whose text also stands in the first."""
    contradictions: dict[str, int]
    """By split, or by pair of splits: rows with the text of another row and a different label."""
    near_copies: dict[str, int]
    """By pair of splits: rows of the second that are almost the same as a row of the first."""
    leaks: tuple[str, ...]
    """Sentences that warn of what flatters or spoils a score."""
    notes: tuple[str, ...]
    """Sentences on what else is worth knowing."""


NOTHING_FOUND = DataFindings({}, {}, {}, {}, {}, (), ())


def look_at(splits: Mapping[str, Split], label_names: Sequence[str]) -> DataFindings:
    """Look for texts that stand twice, for labels that contradict each other, and for classes with too few rows.

    Two texts are the same here if they differ in nothing but case, blanks and the way in which Unicode writes a
    character.

    Args:
        splits: By name; those of SPLITS are looked at.
        label_names: Class names by id.
    """
    names = [name for name in SPLITS if name in splits]
    texts = [folded_text(row) for name in names for row in zip(*splits[name].texts, strict=True)]
    groups = np.repeat(np.arange(len(names)), [len(splits[name]) for name in names])
    labels = [label for name in names for label in splits[name].labels]
    digests = _digests(texts)
    same, flatter = _same_text(names, groups, digests)
    against = _contradictions(names, groups, digests, labels)
    notes = []
    searched = np.arange(len(texts))
    if len(texts) > MOST_ROWS:  # the rows that are scored are searched whole; of train, the first ones
        searched = np.concatenate([np.flatnonzero(groups > 0), np.flatnonzero(groups == 0)])[:MOST_ROWS]
        notes.append(f"near-copies were looked for among {MOST_ROWS} of {len(texts)} rows")
    searched = np.sort(searched)
    pairs = near_copies([texts[i] for i in searched], groups[searched])
    pairs = [(int(searched[i]), int(searched[j])) for i, j in pairs]
    pairs = [pair for pair in pairs if digests[pair[0]] != digests[pair[1]]]
    near = Counter({(groups[i], groups[j]): 0 for i, j in pairs})
    for a, b in near:
        near[a, b] = len({j for i, j in pairs if (groups[i], groups[j]) == (a, b)})
    counts = {name: _class_rows(splits[name], label_names) for name in names}
    rare = _rare(counts)
    leaks = [
        *flatter,
        *_contradictions_in_words(against, names, splits),
        *(_near_in_words(names, a, b, count, splits, texts, pairs, groups) for (a, b), count in sorted(near.items())),
    ]
    return DataFindings(
        class_rows=counts,
        rare_classes=rare,
        same_text=same,
        contradictions=against,
        near_copies={f"{names[a]}, {names[b]}": count for (a, b), count in sorted(near.items())},
        leaks=tuple(leaks),
        notes=(*notes, *_rare_in_words(rare)),
    )


def folded_text(texts: Sequence[str]) -> str:
    """The text of a row, its columns one after another, without differences that are none to a reader."""
    return "\x1f".join(" ".join(unicodedata.normalize("NFC", text).casefold().split()) for text in texts)


def _digests(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    found = array("Q", [int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts])
    return np.frombuffer(found, dtype=np.uint64) if found else np.zeros(0, np.uint64)


def _same_text(
    names: Sequence[str], groups: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64]
) -> tuple[dict[str, int], list[str]]:
    same, told = {}, []
    for b in range(1, len(names)):
        for a in range(b):
            both = int(np.isin(digests[groups == b], np.unique(digests[groups == a])).sum())
            if both:
                same[f"{names[a]}, {names[b]}"] = both
                stand = "row also stands" if both == 1 else "rows also stand"
                score = "their score" if a == 0 else "the test score"
                told.append(f"{both} of {int((groups == b).sum())} {names[b]} {stand} in {names[a]}: {score} flatters")
    return same, told


def _contradictions(
    names: Sequence[str],
    groups: npt.NDArray[np.int64],
    digests: npt.NDArray[np.uint64],
    labels: Sequence[object],
) -> dict[str, int]:
    """By split and by pair of splits: the rows of which the text stands there with another label, too."""
    numbers: dict[object, int] = {}
    of_row = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)
    _, text = np.unique(digests, return_inverse=True)
    several = np.bincount(text) > 1
    candidates = np.flatnonzero(several[text])
    members: dict[int, list[int]] = {}
    for row in candidates.tolist():
        members.setdefault(int(text[row]), []).append(row)
    found: Counter[str] = Counter()
    for rows in members.values():
        if len({int(of_row[row]) for row in rows}) == 1:
            continue
        for row in rows:
            others = {int(groups[other]) for other in rows if of_row[other] != of_row[row]}
            for other in others:
                if other < groups[row]:
                    found[f"{names[other]}, {names[groups[row]]}"] += 1
                elif other == groups[row]:
                    found[names[other]] += 1
    return dict(sorted(found.items()))


def _contradictions_in_words(
    against: Mapping[str, int], names: Sequence[str], splits: Mapping[str, Split]
) -> list[str]:
    told = []
    for where, count in against.items():
        one, _, other = where.partition(", ")
        have = "row has" if count == 1 else "rows have"
        if other:
            told.append(f"{count} of {len(splits[other])} {other} {have} the text of a row of {one} and another label")
        else:
            told.append(f"{count} of {len(splits[one])} {one} {have} the text of another row there and another label")
    return told


def _near_in_words(
    names: Sequence[str],
    a: int,
    b: int,
    count: int,
    splits: Mapping[str, Split],
    texts: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    groups: npt.NDArray[np.int64],
) -> str:
    example = next(texts[j] for i, j in pairs if (groups[i], groups[j]) == (a, b)).replace("\x1f", " / ")
    cut = example if len(example) <= EXAMPLE_CHARACTERS else f"{example[:EXAMPLE_CHARACTERS]}..."
    rows = "row is" if count == 1 else "rows are"
    return (
        f"{count} of {len(splits[names[b]])} {names[b]} {rows} almost the same as a row of {names[a]} "
        f"(the first: {cut!r})"
    )


def _class_rows(split: Split, label_names: Sequence[str]) -> dict[str, int]:
    counts = Counter(i for label in split.labels for i in classes_in([label]))
    return {name: counts[i] for i, name in enumerate(label_names)}


def _rare(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    found = {split: {name: n for name, n in rows.items() if n < FEW_ROWS} for split, rows in counts.items()}
    return {split: rows for split, rows in found.items() if rows}


def _rare_in_words(rare: Mapping[str, Mapping[str, int]]) -> list[str]:
    told = []
    for split, rows in rare.items():
        by_rows = sorted(rows, key=lambda name: rows[name])
        named = ", ".join(f"{name} ({rows[name]})" for name in by_rows[:CLASSES_NAMED])
        more = f" and {len(rows) - CLASSES_NAMED} more" if len(rows) > CLASSES_NAMED else ""
        told.append(f"{split} has fewer than {FEW_ROWS} rows of class {named}{more}")
    return told
