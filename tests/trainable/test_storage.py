"""A folder is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainable.storage.folders import MANIFEST, is_whole, write_folder, write_text


def write_two(folder: Path) -> None:
    (folder / "a").write_text("one")
    (folder / "b").write_bytes(bytes(1000))


def test_a_written_folder_is_whole_and_counts_its_bytes(tmp_path: Path) -> None:
    assert write_folder(tmp_path / "x" / "state", write_two) == 1003
    assert is_whole(tmp_path / "x" / "state")
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["state"]


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "no manifest", "manifest cut", "empty manifest"])
def test_damage_is_seen(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "state"
    write_folder(folder, write_two)
    data = (folder / "b").read_bytes()
    match damage:
        case "cut":
            (folder / "b").write_bytes(data[:-1])
        case "flip":
            (folder / "b").write_bytes(b"\x01" + data[1:])
        case "missing":
            (folder / "a").unlink()
        case "no manifest":
            (folder / MANIFEST).unlink()
        case "manifest cut":
            (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:20])
        case "empty manifest":
            (folder / MANIFEST).write_text("{}")
    assert not is_whole(folder)


def test_a_failed_write_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    write_folder(folder, write_two)

    def fail(aside: Path) -> None:
        (aside / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_folder(folder, fail)
    assert is_whole(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_failed_replace_keeps_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
