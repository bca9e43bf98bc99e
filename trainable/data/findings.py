"""What makes a score untrustworthy before anything is trained: texts in two splits, contradictions, rare classes."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from threading import Thread

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
    """What was found in the splits of a data set that spoils a score."""

    same_text: dict[str, int]
    """By pair of splits ("train, test"): rows of the second whose text also stands in the first."""
    contradictions: dict[str, int]
    """By split, or by pair of splits: rows with the text of another row and a different label."""
    near_copies: dict[str, int]
    """By pair of splits: rows of the second that are almost the same as a row of the first."""
    leaks: tuple[str, ...]
    """Sentences that warn of what was found."""
    notes: tuple[str, ...]
    """Sentences on what was not looked for, and examples."""


NOTHING_FOUND = DataFindings({}, {}, {}, (), ())


def look_in_background(splits: Mapping[str, Split]) -> Callable[[], DataFindings]:
    """Start `look_at` in a thread, which takes seconds for 100,000 rows; returns what waits for its findings."""
    found: Future[DataFindings] = Future()

    def look() -> None:
        try:
            found.set_result(look_at(splits))
        except BaseException as error:  # it is raised where the findings are asked for
            found.set_exception(error)

    Thread(target=look, daemon=True).start()  # a daemon: nobody waits for it where the input has problems
    return found.result


def look_at(splits: Mapping[str, Split]) -> DataFindings:
    """Look for texts that stand twice, and for labels that contradict each other.

    Two texts are the same here if they differ in nothing but case, blanks and the way in which Unicode writes a
    character.

    Args:
        splits: By name; those of SPLITS are looked at.
    """
    names = [name for name in SPLITS if name in splits]
    groups = np.repeat(np.arange(len(names)), [len(splits[name]) for name in names])
    labels = [label for name in names for label in splits[name].labels]
    folded = (folded_text(row) for name in names for row in zip(*splits[name].texts, strict=True))
    texts = list(folded) if len(groups) <= MOST_ROWS else []
    digests = _digests(texts or folded)
    same, flatter = _same_text(names, groups, digests)
    against = _contradictions(names, groups, digests, labels)
    pairs = [(i, j) for i, j in near_copies(texts, groups) if digests[i] != digests[j]] if texts else []
    near = {
        (names[a], names[b]): sorted({j for i, j in pairs if (groups[i], groups[j]) == (a, b)})
        for a, b in sorted({(int(groups[i]), int(groups[j])) for i, j in pairs})
    }
    too_many = f"{len(groups)} rows are too many to look for near-copies; whole texts alone were compared"
    return DataFindings(
        same_text=same,
        contradictions=against,
        near_copies={f"{one}, {other}": len(rows) for (one, other), rows in near.items()},
        leaks=(*flatter, *_contradictions_in_words(against, splits), *_near_in_words(near, splits)),
        notes=(too_many,) if len(groups) > MOST_ROWS else tuple(_examples(near, texts)),
    )


def folded_text(texts: Sequence[str]) -> str:
    """The text of a row, its columns one after another, without differences that are none to a reader."""
    return "\x1f".join(" ".join(unicodedata.normalize("NFC", text).casefold().split()) for text in texts)


def _digests(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
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
                stand = "stands" if both == 1 else "stand"
                rows = _some_of(both, int((groups == b).sum()), names[b])
                told.append(f"{rows} also {stand} in {names[a]}: the {names[b]} score flatters")
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
        answers = {(int(groups[row]), int(of_row[row])) for row in rows}
        if len({label for _, label in answers}) == 1:
            continue
        for row in rows:
            for other in {group for group, label in answers if label != of_row[row]}:
                if other < groups[row]:
                    found[f"{names[other]}, {names[groups[row]]}"] += 1
                elif other == groups[row]:
                    found[names[other]] += 1
    return dict(sorted(found.items()))


def _contradictions_in_words(against: Mapping[str, int], splits: Mapping[str, Split]) -> list[str]:
    told = []
    for where, count in against.items():
        one, _, other = where.partition(", ")
        have = "has" if count == 1 else "have"
        rows = _some_of(count, len(splits[other or one]), other or one)
        whose = f"a row of {one}" if other else "another row there"
        told.append(f"{rows} {have} the text of {whose} and another label")
    return told


def _near_in_words(near: Mapping[tuple[str, str], Sequence[int]], splits: Mapping[str, Split]) -> list[str]:
    told = []
    for (one, other), rows in near.items():
        verb = "is" if len(rows) == 1 else "are"
        told.append(f"{_some_of(len(rows), len(splits[other]), other)} {verb} almost the same as a row of {one}")
    return told


def _examples(near: Mapping[tuple[str, str], Sequence[int]], texts: Sequence[str]) -> list[str]:
    """The first near-copy of each pair of splits. Leaks stand in the model's card, too, which nobody's texts should."""
    told = []
    for (one, other), rows in near.items():
        text = texts[rows[0]].replace("\x1f", " / ")
        cut = text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]}..."
        told.append(f"the first row of {other} that is almost the same as one of {one}: {cut!r}")
    return told


def _some_of(count: int, rows: int, split: str) -> str:
    return f"{count} of {rows} {split} row{'' if rows == 1 else 's'}"


def rows_of_classes(splits: Mapping[str, Split], label_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """By split and class name: rows."""
    found = {}
    for name in SPLITS:
        if name in splits:
            counts = Counter(i for label in splits[name].labels for i in classes_in([label]))
            found[name] = {label: counts[i] for i, label in enumerate(label_names)}
    return found


def rare_classes(rows_of: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The classes that have too few rows, of what `rows_of_classes` found."""
    found = {split: {name: n for name, n in rows.items() if n < FEW_ROWS} for split, rows in rows_of.items()}
    return {split: rows for split, rows in found.items() if rows}


def rare_classes_in_words(rows_of: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each split in which a class has too few rows."""
    told = []
    for split, rows in rare_classes(rows_of).items():
        by_rows = sorted(rows, key=lambda name: rows[name])
        named = ", ".join(f"{name} ({rows[name]})" for name in by_rows[:CLASSES_NAMED])
        more = f" and {len(rows) - CLASSES_NAMED} more" if len(rows) > CLASSES_NAMED else ""
        told.append(f"{split} has fewer than {FEW_ROWS} rows of class {named}{more}")
    return told
