"""A tiny model and tiny data, made once; nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hub import write_tiny_model

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers in Hugging Face's format."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder)
    return folder


def write_pairs(folder: Path, rows: dict[str, int], suffix: str = ".csv") -> Path:
    """A learnable data set of sentence pairs: the second sentence says the same, or denies it."""
    folder.mkdir(parents=True, exist_ok=True)
    things, verbs, places = (
        ["bank", "dog", "market", "team"],
        ["rose", "fell", "won", "lost"],
        ["city", "house", "river"],
    )
    at = 0
    for split, count in rows.items():
        lines = ["sentence1,sentence2,label"]
        for _ in range(count):
            thing, verb, place = things[at % 4], verbs[at // 4 % 4], places[at // 16 % 3]
            same = at % 3 > 0
            ending = "also {} again" if same else "never {} it sold shares instead"
            lines.append(f"the {thing} {at} in the {place} {verb},the {thing} {at} {ending.format(verb)},{int(same)}")
            at += 1
        (folder / f"{split}{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """96 / 48 / 48 sentence pairs as CSV."""
    return write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
