"""A run directory is taken for what it is, whenever its driver was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainable.storage.object_store import ObjectStore
from tune.run_dir.integrity import _what_the_study_lacks
from tune.run_dir.layout import RunDir


@pytest.mark.parametrize("left", [[".lock"], [".lock", ".spec.yaml.0123abcd"]])
def test_a_driver_killed_before_its_first_file_left_nothing_to_be_refused(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    assert RunDir(tmp_path).problems() == []


@pytest.mark.parametrize("name", ["notes.txt", ".env", ".spec.yaml"])
def test_a_folder_with_files_of_others_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / name).touch()
    assert RunDir(tmp_path).problems() == [f"--out {tmp_path}: holds files but no sweep; give a new folder"]


def test_a_stores_study_may_be_a_little_older_than_its_trials(tmp_path: Path) -> None:
    (tmp_path / "trials" / "0" / "model").mkdir(parents=True)
    (said,) = _what_the_study_lacks(RunDir(tmp_path), ())
    assert "has 0 trials and none of number 0" in said
    assert _what_the_study_lacks(RunDir(tmp_path, ObjectStore(tmp_path, "s3://bucket/run")), ()) == []
