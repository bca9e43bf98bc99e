"""Folders in an object store are there whole or not at all; here a local file system plays its part."""

from __future__ import annotations

import copy
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from trainable.errors import UserError
from trainable.storage import object_store as module
from trainable.storage import request_timeout as answers
from trainable.storage.folders import MANIFEST, write_folder
from trainable.storage.object_store import DRIVER_FILE, Store, url_problem, working_folder


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Store]:
    """Two machines' views of one place."""
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    (tmp_path / "place").mkdir()
    url = f"file://{tmp_path / 'place'}"
    views = Store(tmp_path / "one", url), Store(tmp_path / "two", url)
    for view in views:
        view.root.mkdir()
    return views


def write(folder: Path, text: str) -> None:
    def content(aside: Path) -> None:
        (aside / "a.txt").write_text(text)
        (aside / "b.txt").write_text(text * 2)

    write_folder(folder, content)


def publish(store: Store, text: str) -> Path:
    """A folder of that content, which the place's file system has a directory for."""
    folder = store.root / "folder"
    place = Path(str(store.url).removeprefix("file://"), "folder")
    place.mkdir(exist_ok=True)
    write(folder, text)
    store.publish(folder)
    return place


def test_what_one_publishes_the_other_fetches(stores: tuple[Store, Store]) -> None:
    one, two = stores
    assert not two.fetch(two.root / "folder")
    assert two.sha256(two.root / "folder", "a.txt") is None
    for text in ("old", "newer"):
        publish(one, text)
        assert two.fetch(two.root / "folder")
        assert (two.root / "folder" / "b.txt").read_text() == text * 2
        assert two.sha256(two.root / "folder", "a.txt") == one.sha256(one.root / "folder", "a.txt")
    two.remove(two.root / "folder")
    assert not (two.root / "folder").exists()
    assert one.folders(one.root) == []


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest", "manifest cut", "outside"])
def test_what_is_not_whole_is_not_fetched(stores: tuple[Store, Store], damage: str, tmp_path: Path) -> None:
    one, two = stores
    place = publish(one, "text")
    if damage == "cut":
        (place / "b.txt").write_text("tex")
    elif damage == "gone":
        (place / "a.txt").unlink()
    elif damage == "no manifest":
        (place / MANIFEST).unlink()
    elif damage == "manifest cut":
        (place / MANIFEST).write_text((place / MANIFEST).read_text()[:-3])
    else:
        manifest = json.loads((place / MANIFEST).read_text())
        manifest["../../escaped"] = manifest["a.txt"]
        (place / MANIFEST).write_text(json.dumps(manifest))
    assert not two.fetch(two.root / "folder")
    assert not (two.root / "folder").exists()
    assert not (tmp_path / "escaped").exists()


def test_a_reader_never_sees_a_mixture(stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """At every request of the second publishing the other machine sees the old folder, the new one or none."""
    one, two = stores
    publish(one, "old")
    seen = []
    request = Store._try

    def looked_at(self: Store, what: Path, do: object) -> object:
        result = request(self, what, do)  # type: ignore[arg-type]
        if self is one:
            seen.append((two.root / "folder" / "a.txt").read_text() if two.fetch(two.root / "folder") else None)
            two.forget(two.root / "folder")
        return result

    monkeypatch.setattr(Store, "_try", looked_at)
    publish(one, "new")
    assert seen[-1] == "new"
    assert set(seen) == {None, "new"}
    assert len(seen) >= 4


def test_a_study_is_copied_between_two_writes(stores: tuple[Store, Store]) -> None:
    one, two = stores
    file = one.root / "study.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t (n)")
        connection.execute("insert into t values (1)")
        connection.commit()
        connection.execute("insert into t values (2)")  # under way
        one.publish_study(file)
    assert two.fetch(two.root / "study.db")
    with closing(sqlite3.connect(two.root / "study.db")) as connection:
        assert connection.execute("select n from t").fetchall() == [(1,)]


def test_a_second_driver_is_refused_until_the_first_is_silent(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other, one.lease():
        owner = {"id": "x", "host": module.socket.gethostname(), "pid": other.pid}
        one._write(one.root / DRIVER_FILE, json.dumps(owner))
        with pytest.raises(UserError, match=f"another sweep is running here .process {other.pid} on "):
            two.refuse_if_driven()
        with pytest.raises(UserError), two.lease():
            pass
        other.kill()
    with two.lease():  # the first one ended
        pass
    owner = {"id": "x", "host": "elsewhere", "pid": 1}
    (two.root / "driver").write_text(json.dumps(owner))
    two._put(two.root / DRIVER_FILE, two.root / "driver")
    with pytest.raises(UserError, match="on elsewhere, last heard of"):
        one.refuse_if_driven()
    monkeypatch.setattr(module, "DEAD_AFTER_S", -1.0)
    one.refuse_if_driven()


def test_a_dead_process_of_this_machine_holds_nothing(stores: tuple[Store, Store]) -> None:
    one, _ = stores
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    owner = {"id": "x", "host": module.socket.gethostname(), "pid": int(dead.stdout)}
    one._write(one.root / DRIVER_FILE, json.dumps(owner))
    one.refuse_if_driven()


def test_whose_lease_was_taken_publishes_nothing_more(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    with one.lease():
        two._write(two.root / DRIVER_FILE, json.dumps({"id": "other"}))
        deadline = time.monotonic() + 10
        while not one._lost:
            assert time.monotonic() < deadline
        (one.root / "log.txt").write_text("mine")
        with pytest.raises(OSError, match="another driver has taken this sweep over"):
            one.publish_changed("log.txt")
    assert json.loads(two.read_text(two.root / DRIVER_FILE)) == {"id": "other"}, "the new owner's lease was removed"


def test_whose_lease_was_taken_and_given_back_publishes_nothing_either(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    with one.lease():
        two._delete(two.root / DRIVER_FILE)  # as another driver leaves it that came and ended
        deadline = time.monotonic() + 10
        while not one._lost:
            assert time.monotonic() < deadline


def test_a_program_that_was_restarted_in_its_place_is_no_other_driver(stores: tuple[Store, Store]) -> None:
    one, _ = stores
    owner = {"id": "before execv", "host": module.socket.gethostname(), "pid": os.getpid()}
    one._write(one.root / DRIVER_FILE, json.dumps(owner))
    with one.lease():
        pass


def test_a_copy_that_is_older_than_the_store_is_not_worked_on(stores: tuple[Store, Store]) -> None:
    one, two = stores
    for view in stores:
        view.fetch_sweep()
    one.refuse_if_changed()
    with closing(sqlite3.connect(one.root / "study.db")) as connection:
        connection.execute("create table t (n)")
        connection.commit()
    one.publish_study(one.root / "study.db")
    one.refuse_if_changed()
    with pytest.raises(UserError, match="went on elsewhere meanwhile"):
        two.refuse_if_changed()


def test_a_damaged_study_is_told_as_a_file_that_fails(stores: tuple[Store, Store]) -> None:
    one, _ = stores
    (one.root / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(OSError, match="the study can't be copied"):
        one.publish_study(one.root / "study.db")


def test_each_machine_has_a_copy_of_its_own(stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores
    monkeypatch.setattr(module, "working_folder", lambda url: two.root)
    there = copy.copy(one)  # as pickling makes it anew
    assert there.here(one.root / "trials" / "3") == two.root / "trials" / "3"
    assert one.here(one.root / "trials") == one.root / "trials"


def test_a_request_is_tried_again_and_then_told(stores: tuple[Store, Store]) -> None:
    one, _ = stores
    calls: list[int] = []

    def fails(times: int) -> str:
        calls.append(1)
        if len(calls) <= times:
            raise OSError("AWS Error NETWORK_CONNECTION\nand more")
        return "done"

    assert one._try(one.root, lambda: fails(module.TRIES - 1)) == "done"
    calls.clear()
    with pytest.raises(OSError, match="NETWORK_CONNECTION") as raised:
        one._try(one.root / "x", lambda: fails(99))
    assert raised.value.filename == one.name_of(one.root / "x")
    assert len(calls) == module.TRIES


@pytest.mark.parametrize(
    "out",
    [
        "s3://key:secret@bucket/x", "abfs://account:key@host/x", "abfs://a.host/c?client_secret=x", "s3://b/x?sas=y&sig=z",
        "s3://key@bucket/x", "s3://bucket/x?endpoint_override=http://me:password@host",
    ],
)  # fmt: skip
def test_urls_that_hold_keys(out: str) -> None:
    assert "a key or a password" in str(url_problem(out))


@pytest.mark.parametrize(
    "out",
    [
        "s3://bucket/x",
        "abfs://container@account.host/x",
        "gs://bucket",
        "s3://bucket/x?endpoint_override=http://127.0.0.1:1",
    ],
)
def test_places(out: str) -> None:
    assert url_problem(out) is None


def test_a_working_folder_is_its_owners_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = working_folder("s3://bucket/x")
    assert folder != working_folder("s3://bucket/y")
    assert folder.parent.stat().st_mode & 0o077 == 0
    folder.parent.chmod(0o755)
    with pytest.raises(PermissionError):
        working_folder("s3://bucket/x")


def test_a_store_that_stops_answering_is_given_up_and_a_slow_one_is_not(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr(answers, "PIECE_BYTES", 1)
    one, _ = stores
    never = threading.Event()
    tries = []

    def deaf() -> None:
        tries.append(1)
        never.wait()

    with pytest.raises(OSError, match="no answer for 0 s") as caught:
        one._try(one.root / "a.txt", deaf)
    never.set()
    assert (caught.value.filename, len(tries)) == (f"{one.url}/a.txt", 1)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            never.clear()
            never.wait(0.05)
            return super().read(size)

    target = io.BytesIO()
    one._try(one.root / "a.txt", lambda: answers.copy_moving(Slow(b"0123456789"), target))
    assert target.getvalue() == b"0123456789"


def test_what_a_request_raises_is_raised(stores: tuple[Store, Store]) -> None:
    one, _ = stores
    with pytest.raises(FileNotFoundError):
        one.read_text(one.root / "nothing")
    with pytest.raises(ZeroDivisionError):
        one._try(one.root, lambda: 1 // 0)
