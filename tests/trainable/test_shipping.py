"""A model's files get to a machine without its folder once, whole, and into a place of ours alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.trainable.runs import make_job
from trainable.hub.model_folder import model_fingerprint
from trainable.hub.shipping import Files, read_files, shipped_bytes
from trainable.job import Job, with_model_at_hand
from trainable.storage.private_folder import private_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's own temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


class Store:
    """What stands for Ray's object store; counts who fetches."""

    def __init__(self, files: Files) -> None:
        self.files, self.fetched = files, 0

    def get(self, reference: Any) -> Files:
        assert reference == "reference"
        self.fetched += 1
        return self.files


def shipped(job: Job, model: Path, folder: Path) -> Job:
    return dataclasses.replace(
        job, model_folder=str(folder), model_fingerprint=model_fingerprint(model), model_files="reference"
    )


def test_where_the_model_lies_nothing_is_fetched(tiny_model: Path, temporary: Path) -> None:
    store = Store(read_files(tiny_model))
    job = shipped(make_job(tiny_model), tiny_model, tiny_model)
    assert with_model_at_hand(job, store.get) == job
    assert with_model_at_hand(make_job(tiny_model), store.get).model_folder == str(tiny_model)
    assert (store.fetched, list(temporary.iterdir())) == (0, [])


@pytest.mark.parametrize("there", ["nothing", "another model"])
def test_where_it_does_not_it_is_written_once(tiny_model: Path, temporary: Path, tmp_path: Path, there: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if there == "another model":
        shutil.copytree(tiny_model, elsewhere)
        (elsewhere / "config.json").write_text((elsewhere / "config.json").read_text() + "\n")
    store = Store(read_files(tiny_model))
    assert shipped_bytes(tiny_model) == sum(len(content) for content in store.files.values())
    job = shipped(make_job(tiny_model), tiny_model, elsewhere)
    with ThreadPoolExecutor(4) as pool:  # the workers of a machine, all at once
        folders = {found.model_folder for found in pool.map(lambda _: with_model_at_hand(job, store.get), range(8))}
    (folder,) = map(Path, folders)
    assert store.fetched == 1
    assert model_fingerprint(folder) == model_fingerprint(tiny_model)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert str(os.getuid()) in folder.parent.name

    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert with_model_at_hand(job, store.get).model_folder == str(folder)
    assert store.fetched == 2
    assert model_fingerprint(folder) == model_fingerprint(tiny_model)


@pytest.mark.parametrize("how", ["open to others", "a link", "somebody else's"])
def test_a_place_that_is_not_ours_alone_is_refused(
    temporary: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = private_folder()
    assert private_folder() == folder
    if how == "open to others":
        folder.chmod(0o755)
    elif how == "a link":
        folder.rmdir()
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    else:
        uid = os.getuid() + 1
        folder.rename(folder.with_name(f"finetune-search-{uid}"))
        monkeypatch.setattr(os, "getuid", lambda: uid)
    with pytest.raises(PermissionError, match="is not a folder of ours alone"):
        private_folder()
