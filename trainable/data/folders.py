"""Which file of a folder is which split: decided from names, as people write them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainable.data.formats import KNOWN, suffix_of
from trainable.data.splits import SPLITS
from trainable.errors import listed, nearest, shown

ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "validate", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing"),
}
NO_SPLIT = "none"  # what --test-split says where no test split is wanted
FLAGS = {"train": "--train FILE", "validation": "--validation FILE", "test": "--test FILE"}
_SHARD = re.compile(r"(?P<name>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{8,})?")
_IGNORED = re.compile(r"\.|readme|license|licence|dataset_infos?\.json|state\.json|.*\.md$", re.IGNORECASE)


@dataclass
class Found:
    """Which files are which split."""

    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """By split: one file, or the shards of one table in order."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def match_splits(
    names: Collection[str], split_names: Sequence[str], notes: list[str], problems: list[str], where: str
) -> dict[str, str]:
    """Find train, validation and test among the names of splits.

    Args:
        names: The names that are there.
        split_names: What the user calls train, validation and test. Where that is not the split's usual name, only it
            counts; else its aliases in any case do.
        notes: Get a sentence for each name that was understood as another.
        problems: Get a sentence for each split with several candidates.
        where: What sentences begin with.

    Returns:
        Names by split. Splits that are not there have none.
    """
    found = {}
    for split, wanted in zip(SPLITS, split_names, strict=True):
        candidates = _candidates(names, split, wanted)
        if len(candidates) > 1:
            problems.append(
                f"{where}: {' and '.join(map(shown, candidates))} may both be the {split} split; "
                f"say which with --set {split}_split=NAME"
            )
        elif candidates:
            found[split] = candidates[0]
            if wanted == split and candidates[0] != split:
                notes.append(f"{where}: {shown(candidates[0])} is the {split} split")
    return found


def _candidates(names: Iterable[str], split: str, wanted: str) -> list[str]:
    if split == "test" and wanted == NO_SPLIT:
        return []
    names = sorted(names)
    if wanted in names:
        others = [name for name in names if name != wanted and wanted == split and name.lower() in ALIASES[split]]
        return [wanted, *others]
    if wanted != split:
        return [name for name in names if name.lower() == wanted.lower()]
    return [name for name in names if name.lower() in ALIASES[split]]


def find_files(folder: Path, split_names: Sequence[str], named: Collection[str] = ()) -> Found:
    """Decide which data files of a folder are train, validation and test.

    Args:
        folder: The folder; its subfolders are not looked at.
        split_names: What the user calls the three splits.
        named: The splits whose files the user names; none is looked for.
    """
    found = Found()
    groups = _groups(folder, found)
    unread = {_bare(name): name for name in sorted(os.listdir(folder)) if _is_other_file(folder, name)}
    taken: set[str] = set()
    for split, wanted in zip(SPLITS, split_names, strict=True):
        if split in named or (split == "test" and wanted == NO_SPLIT):
            continue
        by_word = _by_word(groups, split) if wanted == split else []
        keys = [key for key in groups if _candidates([key[0]], split, wanted)] or by_word
        if len(keys) > 1:
            found.problems.append(_several(folder, split, [_name(groups[key]) for key in keys]))
            taken.update(_name(groups[key]) for key in keys)
        elif keys:
            files = groups[keys[0]]
            found.files[split] = files
            taken.add(_name(files))
            if keys[0][0] != wanted and (wanted == split or keys[0][0].lower() != wanted.lower()):
                found.notes.append(f"{folder}: {_name(files)} is the {split} split")
        elif other := _candidates(unread, split, wanted):
            found.files[split] = (folder / unread[other[0]],)  # its reader says why it can't be read
        elif wanted != split:
            hint = nearest(wanted, [key[0] for key in groups]) if groups else "it holds no data file"
            found.problems.append(f"{folder}: no file for --set {split}_split={wanted}; {hint}")
    _take_the_only_one(folder, groups, taken, split_names, named, found)
    unused = [_name(files) for files in groups.values() if _name(files) not in taken]
    if unused and not found.problems:
        them = "is" if len(unused) == 1 else "are"
        found.notes.append(f"{folder}: {listed(unused)} {them} not used")
    return found


Groups = Mapping[tuple[str, str], tuple[Path, ...]]


def _take_the_only_one(
    folder: Path, groups: Groups, taken: set[str], split_names: Sequence[str], named: Collection[str], found: Found
) -> None:
    """Take the one file that is no other split for train, whatever its name is; else tell that train is missing."""
    if "train" in found.files or "train" in named or split_names[0] != "train" or found.problems:
        return
    rest = [files for files in groups.values() if _name(files) not in taken]
    if len(rest) == 1:
        found.files["train"] = rest[0]
        taken.add(_name(rest[0]))
        found.notes.append(f"{folder}: {_name(rest[0])} is read as train")
        return
    here = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    several = f"{listed([_name(files) for files in rest])} could be train; say which" if rest else ""
    holds = several or f"no file train ({KNOWN}); it holds {listed(here[:8]) or 'nothing'}; name one"
    found.problems.append(f"{folder}: {holds} with {FLAGS['train']}")


def _groups(folder: Path, found: Found) -> Groups:
    """The data files of a folder by bare name and ending; the shards of one table are one group."""
    groups: dict[tuple[str, str], list[Path]] = {}
    counts: dict[tuple[str, str], int] = {}
    for name in sorted(os.listdir(folder)):
        suffix = suffix_of(name)
        # A link to nothing counts as a file: otherwise we would cut the split from train, as if it were missing.
        if not suffix or _IGNORED.match(name):
            continue
        bare = name.removesuffix(suffix)
        shard = _SHARD.fullmatch(bare)
        key = (shard["name"] if shard else bare, suffix)
        groups.setdefault(key, []).append(folder / name)
        if shard:
            counts[key] = max(counts.get(key, 0), int(shard["count"]))
    for key, count in counts.items():
        if len(groups[key]) != count:
            shards = f"{len(groups[key])} of {count} shards are there"
            found.problems.append(f"{folder}: {key[0]}-*{key[1]}: {shards}; fetch all of them, or delete old ones")
    return {key: tuple(paths) for key, paths in groups.items()}


def _by_word(groups: Groups, split: str) -> list[tuple[str, str]]:
    """Groups whose name holds a split's name as a word, and no other split's: imdb_train, train-clean."""
    keys = []
    for key in groups:
        words = set(re.split(r"[^a-z]+", key[0].lower()))
        meant = [name for name, aliases in ALIASES.items() if words & set(aliases)]
        if meant == [split]:
            keys.append(key)
    return keys


def _is_other_file(folder: Path, name: str) -> bool:
    return not suffix_of(name) and not name.startswith(".") and not (folder / name).is_dir()


def _bare(name: str) -> str:
    return name.partition(".")[0]


def _name(files: Sequence[Path]) -> str:
    """A group as messages show it."""
    if len(files) == 1:
        return files[0].name
    shard = _SHARD.fullmatch(files[0].name.removesuffix(suffix_of(files[0].name)))
    return f"{shard['name'] if shard else 'shard'}-*{suffix_of(files[0].name)} ({len(files)} files)"


def _several(folder: Path, split: str, names: Sequence[str]) -> str:
    return f"{folder}: {' and '.join(names)} may both be the {split} split; say which with {FLAGS[split]}, or keep one"
