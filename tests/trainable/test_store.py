"""Folders in an object store are there whole or not at all; here a local file system plays its part."""

from __future__ import annotations

import ast
import copy
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from trainable.errors import UserError
from trainable.storage import lease, object_store, objects, private_folder
from trainable.storage import request_timeout as answers
from trainable.storage.folders import MANIFEST, write_folder
from trainable.storage.lease import LEASE_FILE
from trainable.storage.object_store import ObjectStore
from trainable.storage.objects import Objects
from trainable.storage.private_folder import working_folder
from trainable.storage.urls import is_url, open_storage, url_problem

Stores = tuple[ObjectStore, ObjectStore]  # two machines' views of one place


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Two machines' views of one place."""
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)
    (tmp_path / "place").mkdir()
    url = f"file://{tmp_path / 'place'}"
    views = ObjectStore(tmp_path / "one", url), ObjectStore(tmp_path / "two", url)
    for view in views:
        view.root.mkdir()
    return views


def write(folder: Path, text: str) -> None:
    def content(aside: Path) -> None:
        (aside / "a.txt").write_text(text)
        (aside / "b.txt").write_text(text * 2)

    write_folder(folder, content)


def publish(store: ObjectStore, text: str) -> Path:
    """A folder of that content, which the place's file system has a directory for."""
    folder = store.root / "folder"
    place = Path(str(store.url).removeprefix("file://"), "folder")
    place.mkdir(exist_ok=True)
    write(folder, text)
    store.publish(folder)
    return place


def test_what_one_publishes_the_other_fetches(stores: Stores) -> None:
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
def test_what_is_not_whole_is_not_fetched(stores: Stores, damage: str, tmp_path: Path) -> None:
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


def test_a_reader_never_sees_a_mixture(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every request of the second publishing the other machine sees the old folder, the new one or none."""
    one, two = stores
    publish(one, "old")
    seen = []
    request = Objects.attempt

    def looked_at(self: Objects, what: Path, do: object) -> object:
        result = request(self, what, do)  # type: ignore[arg-type]
        if self is one.objects:
            seen.append((two.root / "folder" / "a.txt").read_text() if two.fetch(two.root / "folder") else None)
            two.forget(two.root / "folder")
        return result

    monkeypatch.setattr(Objects, "attempt", looked_at)
    publish(one, "new")
    assert seen[-1] == "new"
    assert set(seen) == {None, "new"}
    assert len(seen) >= 4


def test_a_study_is_copied_between_two_writes(stores: Stores) -> None:
    one, two = stores
    file = one.root / "study.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t (n)")
        connection.execute("insert into t values (1)")
        connection.commit()
        connection.execute("insert into t values (2)")  # under way
        one.publish_database(file)
    assert two.fetch(two.root / "study.db")
    with closing(sqlite3.connect(two.root / "study.db")) as connection:
        assert connection.execute("select n from t").fetchall() == [(1,)]


def test_a_second_driver_is_refused_until_the_first_is_silent(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other, one.lease():
        owner = {"id": "x", "host": lease.socket.gethostname(), "pid": other.pid}
        one.objects.write(one.root / LEASE_FILE, json.dumps(owner))
        with pytest.raises(UserError, match=f"another sweep is running here .process {other.pid} on "):
            two.refuse_if_driven()
        with pytest.raises(UserError), two.lease():
            pass
        other.kill()
    with two.lease():  # the first one ended
        pass
    owner = {"id": "x", "host": "elsewhere", "pid": 1}
    (two.root / "driver").write_text(json.dumps(owner))
    two.objects.upload(two.root / LEASE_FILE, two.root / "driver")
    with pytest.raises(UserError, match="on elsewhere, last heard of"):
        one.refuse_if_driven()
    monkeypatch.setattr(lease, "DEAD_AFTER_S", -1.0)
    one.refuse_if_driven()


def test_a_dead_process_of_this_machine_holds_nothing(stores: Stores) -> None:
    one, _ = stores
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    owner = {"id": "x", "host": lease.socket.gethostname(), "pid": int(dead.stdout)}
    one.objects.write(one.root / LEASE_FILE, json.dumps(owner))
    with one.lease():
        assert json.loads(one.read_text(one.root / LEASE_FILE))["pid"] == os.getpid(), "the lease was not taken over"
    # What tells the two apart is that process alone: the same lease of one that lives is respected.
    one.objects.write(one.root / LEASE_FILE, json.dumps({**owner, "pid": os.getppid()}))
    with pytest.raises(UserError, match=f"process {os.getppid()} on"):
        one.refuse_if_driven()


def test_whose_lease_was_taken_publishes_nothing_more(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores
    monkeypatch.setattr(lease, "SIGN_EVERY_S", 0.01)
    with one.lease():
        two.objects.write(two.root / LEASE_FILE, json.dumps({"id": "other"}))
        deadline = time.monotonic() + 10
        while not one._lease.lost:
            assert time.monotonic() < deadline
        (one.root / "log.txt").write_text("mine")
        with pytest.raises(OSError, match="another driver has taken this sweep over"):
            one.publish_changed(["log.txt"])
    assert json.loads(two.read_text(two.root / LEASE_FILE)) == {"id": "other"}, "the new owner's lease was removed"


def test_whose_lease_was_taken_and_given_back_publishes_nothing_either(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    monkeypatch.setattr(lease, "SIGN_EVERY_S", 0.01)
    with one.lease():
        two.objects.delete(two.root / LEASE_FILE)  # as another driver leaves it that came and ended
        deadline = time.monotonic() + 10
        while not one._lease.lost:
            assert time.monotonic() < deadline


def test_a_program_that_was_restarted_in_its_place_is_no_other_driver(stores: Stores) -> None:
    one, _ = stores
    owner = {"id": "before execv", "host": lease.socket.gethostname(), "pid": os.getpid()}
    one.objects.write(one.root / LEASE_FILE, json.dumps(owner))
    with one.lease():
        taken = json.loads(one.read_text(one.root / LEASE_FILE))
        assert taken["pid"] == os.getpid()
        assert taken["id"] != "before execv"


def test_a_copy_that_is_older_than_the_store_is_not_worked_on(stores: Stores) -> None:
    one, two = stores
    for view in stores:
        view.fetch_copy(["study.db"])
    one.refuse_if_changed(one.root / "study.db")
    with closing(sqlite3.connect(one.root / "study.db")) as connection:
        connection.execute("create table t (n)")
        connection.commit()
    one.publish_database(one.root / "study.db")
    one.refuse_if_changed(one.root / "study.db")
    with pytest.raises(UserError, match="went on elsewhere meanwhile"):
        two.refuse_if_changed(two.root / "study.db")


def test_a_damaged_study_is_told_as_a_file_that_fails(stores: Stores) -> None:
    one, _ = stores
    (one.root / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(OSError, match="the study can't be copied"):
        one.publish_database(one.root / "study.db")


def test_each_machine_has_a_copy_of_its_own(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores
    monkeypatch.setattr(object_store, "working_folder", lambda url: two.root)
    there = copy.copy(one)  # as pickling makes it anew
    assert there.here(one.root / "trials" / "3") == two.root / "trials" / "3"
    assert one.here(one.root / "trials") == one.root / "trials"


def test_a_request_is_tried_again_and_then_told(stores: Stores) -> None:
    one, _ = stores
    calls: list[int] = []

    def fails(times: int) -> str:
        calls.append(1)
        if len(calls) <= times:
            raise OSError("AWS Error NETWORK_CONNECTION\nand more")
        return "done"

    assert one.objects.attempt(one.root, lambda: fails(objects.MAX_ATTEMPTS - 1)) == "done"
    calls.clear()
    with pytest.raises(OSError, match="NETWORK_CONNECTION") as raised:
        one.objects.attempt(one.root / "x", lambda: fails(99))
    assert raised.value.filename == one.name_of(one.root / "x")
    assert len(calls) == objects.MAX_ATTEMPTS


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
    monkeypatch.setattr(private_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = working_folder("s3://bucket/x")
    assert folder != working_folder("s3://bucket/y")
    assert folder.parent.stat().st_mode & 0o077 == 0
    folder.parent.chmod(0o755)
    with pytest.raises(PermissionError):
        working_folder("s3://bucket/x")


def test_a_store_that_stops_answering_is_given_up_and_a_slow_one_is_not(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
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
        one.objects.attempt(one.root / "a.txt", deaf)
    never.set()
    assert (caught.value.filename, len(tries)) == (f"{one.url}/a.txt", 1)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            never.clear()
            never.wait(0.05)
            return super().read(size)

    target = io.BytesIO()
    one.objects.attempt(one.root / "a.txt", lambda: answers.copy_moving(Slow(b"0123456789"), target))
    assert target.getvalue() == b"0123456789"


def test_what_a_request_raises_is_raised(stores: Stores) -> None:
    one, _ = stores
    with pytest.raises(FileNotFoundError):
        one.read_text(one.root / "nothing")
    with pytest.raises(ZeroDivisionError):
        one.objects.attempt(one.root, lambda: 1 // 0)


def test_a_place_is_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    assert not is_url("runs/demo")
    assert url_problem("runs/demo") is None
    assert open_storage("runs/demo").root == Path("runs/demo").absolute()
    store = open_storage("s3://bucket/x?region=eu-central-1")
    assert is_url("s3://bucket/x")
    assert isinstance(store, ObjectStore)
    assert (store.root, store.name_of(store.root)) == (working_folder(str(store.url)), "s3://bucket/x")
    assert open_storage("s3://bucket/x?region=eu-central-1", reading=True).root != store.root


def test_one_module_knows_what_a_url_of_a_place_looks_like() -> None:
    """Addresses of job servers and users in URLs are other things."""
    root = Path(__file__).parent.parent.parent
    bare = re.compile(r"(?<![a-zA-Z0-9])://")  # "://" without a scheme before it: code that takes a URL apart
    found = {
        str(path.relative_to(root))
        for package in ("tune", "trainable")
        for path in (root / package).rglob("*.py")
        if bare.search(path.read_text(encoding="utf-8"))
    }
    others = {"tune/cluster/job_server.py", "tune/spec/flags.py", "trainable/redaction.py"}
    assert found - others == {"trainable/storage/urls.py"}
    for other in others:
        assert (root / other).read_text(encoding="utf-8").count("://") - len(
            re.findall(r"[a-z0-9]://", (root / other).read_text(encoding="utf-8"))
        ) == 1, other


def test_storage_spells_no_name_of_a_sweeps_files() -> None:
    folder = Path(object_store.__file__).parent
    names = (
        "spec.yaml",
        "study",
        "log.txt",
        "incumbent",
        "report.",
        "trials",
        "best",
        ".lock",
        "failure.txt",
        "events",
    )
    for path in folder.glob("*.py"):
        strings = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        ]
        assert not [text for text in strings if text.startswith(names)], path.name
