"""`python -m tune.dashboard`: a study in the browser while a driver writes it, and not a byte of it changes."""

from __future__ import annotations

import hashlib
import json
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.tune.test_searcher import make_book, run_one
from trainable.errors import UserError
from tune.dashboard import INSTALL, main, make_server, only_reading
from tune.run_dir.layout import SPEC
from tune.run_dir.study import open_read_only

NASTY = ["run", "a b", "50% #1?&mode=rw", "ü"]


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", NASTY)
def test_a_study_is_read_whatever_its_folder_is_called_and_never_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    book = make_book(folder)
    run_one(book, [0.5])
    before = digest(folder)
    storage = open_read_only(book.run_dir.study_file)
    (study,) = storage.get_all_studies()
    assert len(storage.get_all_trials(study._study_id)) == 1
    with pytest.raises(optuna.exceptions.StorageInternalError) as raised:
        storage.set_study_user_attr(study._study_id, "key", 1)
    assert "readonly database" in str(raised.value.__cause__)
    run_one(book, [0.5])
    assert len(storage.get_all_trials(study._study_id)) == 2, "it sees what the driver has written since"
    storage.engine.dispose()
    assert digest(folder).keys() == before.keys()


def test_a_driver_that_was_killed_as_it_wrote_is_told(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    file = book.run_dir.study_file
    with closing(sqlite3.connect(file)) as connection:  # the journal of a transaction that nobody has ended
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO studies (study_name) VALUES (?)", [(f"{i}" * 500,) for i in range(300)])
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in (file, Path(f"{file}-journal")):
            (copy / path.name).write_bytes(path.read_bytes())
        connection.rollback()
    before = digest(copy)
    with pytest.raises(UserError, match="the sweep's own command mends that"):
        open_read_only(copy / file.name)
    assert digest(copy) == before


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for run, words in (
        (str(tmp_path), "no spec.yaml"),
        ("s3://bucket/run", "only a folder can be opened"),
    ):
        with pytest.raises(UserError) as raised:
            make_server(run, 0)
        assert words in raised.value.problems[0]
        assert INSTALL in raised.value.problems[1]
    (tmp_path / SPEC).touch()
    assert main([str(tmp_path)]) == 2


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["run", f"--port={port}"])
    assert raised.value.code == 2


@pytest.mark.parametrize(
    ("method", "host", "passes"),
    [
        ("GET", "127.0.0.1:8080", True),
        ("HEAD", "localhost:8080", True),
        ("DELETE", "127.0.0.1:8080", False),
        ("POST", "127.0.0.1:8080", False),
        ("GET", "elsewhere.example:8080", False),
        ("GET", "127.0.0.1:8081", False),
    ],
)
def test_only_what_reads_passes_and_only_by_this_address(method: str, host: str, passes: bool) -> None:
    told: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"{}"]

    answer = only_reading(app, 8080)(
        {"REQUEST_METHOD": method, "HTTP_HOST": host}, lambda status, headers, error=None: told.append(status)
    )
    assert json.loads(b"".join(answer)).keys() == (set() if passes else {"reason"})
    assert told == ["200 OK" if passes else "403 Forbidden"]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    pytest.importorskip("optuna_dashboard", reason="the extra `dashboard` is not installed")
    with make_server(str(folder), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
        return json.load(answer)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the dashboard closes its connections with its process
def test_a_connection_on_which_nothing_is_asked_holds_nobody_up(tmp_path: Path) -> None:
    run_one(make_book(tmp_path), [0.5])
    (tmp_path / SPEC).touch()
    with served(tmp_path) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))):
            assert ask(f"{url}/api/studies")["study_summaries"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the dashboard closes its connections with its process
def test_the_dashboard_shows_a_sweep_while_it_is_written(tmp_path: Path) -> None:
    book = make_book(tmp_path)
    (tmp_path / SPEC).touch()
    run_one(book, [0.5])
    with served(tmp_path) as url:
        before = digest(tmp_path)
        (study,) = ask(f"{url}/api/studies")["study_summaries"]
        of_study = f"{url}/api/studies/{study['study_id']}"
        assert [trial["state"] for trial in ask(of_study)["trials"]] == ["Complete"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(of_study, "DELETE")
        assert digest(tmp_path) == before
        run_one(book, [0.5])
        until = time.monotonic() + 20
        while len(trials := ask(of_study)["trials"]) < 2 and time.monotonic() < until:
            time.sleep(0.2)  # the dashboard asks for a study's trials every two seconds
        assert [trial["number"] for trial in trials] == [0, 1]
    with pytest.raises(UserError, match="name another one"), served(tmp_path) as url:
        make_server(str(tmp_path), int(url.rpartition(":")[2]))
