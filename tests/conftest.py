"""A tiny model and tiny data, made once; nothing is downloaded."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hub import PLACES, SHOWS, THINGS, TONES, VERBS, write_tiny_model

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


SLOW_LIMIT_S = 600  # of a test that takes minutes on a machine at rest, and much longer beside others


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the others have, unless they say how much they need."""
    for item in items:
        slow = any(item.get_closest_marker(name) is not None for name in ("slow", "cluster", "faults"))
        if slow and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT_S))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers in Hugging Face's format."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


def write_pairs(folder: Path, rows: dict[str, int], suffix: str = ".csv") -> Path:
    """A data set that a tiny model learns in seconds: the second sentence says the same, or denies it.

    No row stands there twice, and by its number none is a near-copy of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    combinations = list(itertools.product(THINGS, PLACES, SHOWS, VERBS, [*TONES[0], *TONES[1]]))
    random.Random(0).shuffle(combinations)
    at = 0
    for split, count in rows.items():
        lines = ["sentence1,sentence2,label"]
        for thing, place, show, verb, tone in combinations[at : at + count]:
            same = len(lines) % 3 > 0
            second = f"the {thing} also {verb} again" if same else f"never {verb} it sold shares instead"
            number = at + len(lines)
            lines.append(f"the {thing} in the {place} {verb} the {show} {number} is {tone},{second},{int(same)}")
        (folder / f"{split}{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        at += count
    return folder


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """96 / 48 / 48 sentence pairs as CSV."""
    return write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})


@contextmanager
def mounted_for_reading(path: Path) -> Iterator[None]:
    """A file or a folder that is mounted over itself, for reading only."""
    done = subprocess.run(["mount", "--bind", path, path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)
