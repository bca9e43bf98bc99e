"""What every kind of storage keeps, whatever the place is.

A new kind of storage gets a line in `KINDS` here: how to make the views that two machines have of one place.
"""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from trainable.storage import lease, objects
from trainable.storage.base import Storage
from trainable.storage.folder import FolderStorage
from trainable.storage.folders import MANIFEST, is_whole, write_folder
from trainable.storage.object_store import ObjectStore
from trainable.storage.urls import KINDS as SCHEMES
from trainable.storage.urls import OTHER_KIND

Views = tuple[Storage, Storage]  # what two machines have of one place


def one_shared_folder(tmp_path: Path) -> Views:
    return FolderStorage(tmp_path / "run"), FolderStorage(tmp_path / "run")


class LocalStore:
    """A local file system that plays an object store, where no folder has to be made before an object in it."""

    def __init__(self) -> None:
        self._files = LocalFileSystem()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def open_output_stream(self, key: str) -> Any:
        Path(key).parent.mkdir(parents=True, exist_ok=True)
        return self._files.open_output_stream(key)

    def copy_file(self, key: str, target: str) -> None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self._files.copy_file(key, target)


def one_object_store(tmp_path: Path) -> Views:
    place = tmp_path / "place" / "run"
    made = ObjectStore(tmp_path / "one", f"file://{place}"), ObjectStore(tmp_path / "two", f"file://{place}")
    for view in made:
        view.objects._opened = LocalStore(), str(place)  # type: ignore[assignment]
    return made


KINDS: dict[str, Callable[[Path], Views]] = {"folder": one_shared_folder, "object store": one_object_store}


@pytest.fixture(params=KINDS)
def views(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Views:
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)
    made = KINDS[request.param](tmp_path)
    for view in made:
        view.root.mkdir(exist_ok=True)
    return made


def put(storage: Storage, name: str, text: str) -> Path:
    """Write a folder and publish it."""
    folder = storage.root / name

    def write(aside: Path) -> None:
        (aside / "a.txt").write_text(text)
        (aside / "b.txt").write_text(text * 2)

    write_folder(folder, write)
    storage.publish(folder)
    return folder


def put_text(storage: Storage, name: str, text: str) -> Path:
    file = storage.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    storage.publish(file)
    return file


def text_in(storage: Storage, name: str) -> str | None:
    """What a machine reads of a folder that it has fetched; None if it has none."""
    folder = storage.root / name
    if not storage.fetch(folder):
        return None
    assert is_whole(folder)
    one, two = ((folder / file).read_text() for file in ("a.txt", "b.txt"))
    assert two == one * 2, "a mixture"
    return one


def test_every_kind_that_a_url_can_open_is_tested_here() -> None:
    opened = {kind.open for kind in (*SCHEMES.values(), OTHER_KIND)}
    assert opened == {ObjectStore}, "a new kind of storage needs a line in KINDS above"


def test_a_folder_that_one_machine_publishes_is_whole_for_the_other(views: Views) -> None:
    one, two = views
    assert text_in(two, "state") is None
    for text in ("old", "newer"):
        put(one, "state", text)
        assert text_in(two, "state") == text


def test_a_folder_that_is_not_whole_in_the_place_is_never_read_as_whole(views: Views) -> None:
    one, two = views
    folder = put(one, "state", "text")
    place = Path(one.objects.key(folder)) if isinstance(one, ObjectStore) else folder
    (place / "b.txt").write_text("tex")
    assert not (two.fetch(two.root / "state") and is_whole(two.root / "state"))


def test_a_file_that_one_machine_publishes_is_read_by_the_other(views: Views) -> None:
    one, two = views
    assert not two.fetch(two.root / "log.txt")
    with pytest.raises(FileNotFoundError):
        two.read_text(two.root / "log.txt")
    put_text(one, "log.txt", "ü")
    assert two.read_text(two.root / "log.txt") == "ü"
    assert two.fetch(two.root / "log.txt")
    assert (two.root / "log.txt").read_text() == "ü"


def test_text_that_is_no_text_is_told(views: Views) -> None:
    one, two = views
    (one.root / "log.txt").write_bytes(b"\xff")
    one.publish(one.root / "log.txt")
    with pytest.raises(ValueError, match="utf-8"):
        two.read_text(two.root / "log.txt")


def test_both_machines_read_the_same_checksum(views: Views) -> None:
    one, two = views
    assert two.sha256(two.root / "state", "a.txt") is None
    manifest = json.loads((put(one, "state", "text") / MANIFEST).read_text())
    for view in views:
        assert view.sha256(view.root / "state", "a.txt") == manifest["a.txt"]["sha256"]
        assert view.sha256(view.root / "state", "c.txt") is None


def test_what_one_machine_removes_is_gone_for_the_other(views: Views) -> None:
    one, two = views
    put(one, "state", "text")
    put_text(one, "log.txt", "text")
    two.remove(two.root / "state")
    two.remove(two.root / "log.txt")
    two.remove(two.root / "nothing")
    assert not one.folders(one.root)
    assert text_in(two, "state") is None
    assert not two.fetch(two.root / "log.txt")


def test_forgetting_a_copy_takes_nothing_from_the_others(views: Views) -> None:
    one, two = views
    put(one, "state", "text")
    one.forget(one.root / "state")
    assert text_in(two, "state") == "text"
    assert text_in(one, "state") == "text"


def test_folders_are_listed_without_files(views: Views) -> None:
    one, two = views
    assert two.folders(two.root / "trials") == []
    put(one, "trials/0", "text")
    put(one, "trials/1", "text")
    put_text(one, "trials/x.txt", "")
    assert sorted(two.folders(two.root / "trials")) == ["0", "1"]


def test_a_copy_holds_what_fits_the_patterns(views: Views) -> None:
    one, two = views
    for name in ("best", "trials/0/model", "trials/10/model", "trials/0/state"):
        put(one, name, name)
    put_text(one, "log.txt", "text")
    put_text(one, "trials/0/failure.txt", "text")
    two.fetch_copy(["best", "log.txt", "trials/[0-9]*/model", "trials/*/failure.txt", "nothing", "nowhere/*"])
    for name in ("best", "trials/0/model", "trials/10/model"):
        assert is_whole(two.root / name)
    assert (two.root / "log.txt").read_text() == (two.root / "trials" / "0" / "failure.txt").read_text() == "text"
    assert one.is_shared_folder or not (two.root / "trials" / "0" / "state").exists()


def test_a_database_is_published_between_two_writes(views: Views) -> None:
    one, two = views
    file = one.root / "study.db"
    one.publish_database(file)  # there is none yet
    assert not two.fetch(two.root / "study.db")
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("create table t (n)")
        writer.execute("insert into t values (1)")
        writer.commit()
        writer.execute("insert into t values (2)")  # not committed
        one.publish_database(file)
        assert two.fetch(two.root / "study.db")
        with closing(sqlite3.connect(two.root / "study.db")) as reader:
            assert reader.execute("select n from t").fetchall() == [(1,)]


def test_files_that_grow_are_published_as_they_grow(views: Views) -> None:
    one, two = views
    (one.root / "trials" / "0").mkdir(parents=True)
    for text in ("one", "one two"):
        (one.root / "trials" / "0" / "events.1").write_text(text)
        one.publish_changed(["trials/*/events.*", "log.txt"])
        assert two.read_text(two.root / "trials" / "0" / "events.1") == text


def test_files_of_others_are_told_from_a_sweeps_own(views: Views) -> None:
    one, two = views
    assert not two.holds_others_files("spec.yaml")
    put_text(one, "notes.txt", "text")
    assert two.holds_others_files("spec.yaml")
    put_text(one, "spec.yaml", "text")
    assert not two.holds_others_files("spec.yaml")


def test_what_is_moved_aside_leaves_the_place_free_and_is_kept(views: Views) -> None:
    one, two = views
    for number in (1, 2):
        put(one, "state", f"sweep {number}")
        moved = two.move_aside()
        assert moved == f"{one.name_of(one.root)}.old-{number}"
        for view in views:
            view.forget(view.root / "state")
            view.root.mkdir(exist_ok=True)
        assert text_in(one, "state") is None
        kept = Path(moved.removeprefix("file://"), "state", "a.txt")
        assert kept.read_text() == f"sweep {number}"


def test_one_machine_at_a_time_drives(views: Views) -> None:
    """A shared folder leaves this to the run directory's lock; neither kind refuses when nobody drives."""
    one, two = views
    two.refuse_if_driven()
    assert two.driver() is None
    with one.lease():
        one.refuse_if_driven()  # the driver itself
        assert (two.driver() is None) == one.is_shared_folder
    assert two.driver() is None
    with two.lease():
        pass


def test_a_copy_that_is_older_than_the_place_is_refused(views: Views) -> None:
    one, two = views
    put_text(one, "study.db", "old")
    for view in views:
        view.fetch_copy(["study.db"])
        view.refuse_if_changed(view.root / "study.db")
    put_text(one, "study.db", "new")
    if not two.is_shared_folder:
        with pytest.raises(Exception, match="went on elsewhere meanwhile"):
            two.refuse_if_changed(two.root / "study.db")
    two.fetch_copy(["study.db"])
    two.refuse_if_changed(two.root / "study.db")


def test_it_travels_to_another_machine(
    views: Views, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = views
    put(one, "state", "text")
    monkeypatch.setattr("trainable.storage.object_store.working_folder", lambda url: two.root)
    arrived = copy.copy(one)  # as pickle makes it anew
    state = arrived.here(one.root / "state")
    assert state == two.root / "state"
    assert arrived.fetch(state)
    assert is_whole(state)


def test_the_user_reads_names_that_lead_there(views: Views) -> None:
    one, _ = views
    start = str(one.root) if one.url is None else one.url
    assert one.name_of(one.root) == start
    assert one.name_of(one.root / "best" / "README.md") == f"{start}/best/README.md"
