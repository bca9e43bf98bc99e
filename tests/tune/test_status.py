"""`--status` tells the truth from a run directory's files, writes none, and takes nothing there on trust."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

import tune.runs
from tests.conftest import mounted_for_reading
from tests.faults.run_directories import LEADER, OPEN, POINTS, Sweeps, make_sweeps
from tests.tune.checked import checked
from tests.tune.test_end_to_end import ROOT, command
from trainable.errors import UserError
from tune.report.status import status
from tune.report.status_words import as_lines
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.layout import RunDir
from tune.search import main


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Sweeps:
    return make_sweeps(tmp_path_factory.mktemp("a folder with spaces"), tiny_model)


@pytest.fixture
def killed(sweeps: Sweeps, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweeps.killed, tmp_path / "run"))


@pytest.fixture
def finished(sweeps: Sweeps, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweeps.finished, tmp_path / "run"))


def everything(folder: Path) -> dict[str, object]:
    """Names, contents and times of all that lies in a folder."""
    return {
        str(path): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns, path.stat().st_mode)
        for path in (folder, *sorted(folder.rglob("*")))
    }


def refusal(run: Path) -> str:
    before = everything(run) if run.is_dir() else None
    with pytest.raises(UserError) as caught:
        status(run)
    assert before is None or everything(run) == before
    return str(caught.value)


def test_a_killed_sweep_is_stopped_and_its_command_goes_on_from_anywhere(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(killed)
    assert main(["--status", str(killed)]) == 4
    assert everything(killed) == before
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"sweep pairs in {killed}: stopped"
    assert out[1] == f"trials      1 of {len(POINTS)} ended: 1 done, 0 stopped early, 0 failed; 1 begun"
    assert out[2].startswith("best        f1 0.")
    assert f"on validation: trial {LEADER}, epoch " in out[2]
    assert out[2].endswith(": learning_rate=0.003 batch_size=8 epochs=3")
    assert out[-1] == f"go on with  python -m tune.search --out {killed}"

    prepared = checked(shlex.split(out[-1])[6:])
    assert [record.state for record in prepared.stored.records] == ["COMPLETE", "RUNNING"]
    found = status(killed)
    assert [record.number for record in found.records] == [LEADER, OPEN]
    assert found.records == prepared.stored.records, "the same as Optuna reads"
    last = found.records[OPEN].epochs[-1]
    assert found.last_epoch_at == last.began_at + last.train_s + last.eval_s
    assert "ended 1:02:05 ago" in "\n".join(as_lines(found, found.last_epoch_at + 3725))


def test_a_finished_sweep_has_scores_and_a_model(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(finished)
    report = json.loads((finished / "report.json").read_text())
    assert main(["--status", str(finished)]) == 0
    assert everything(finished) == before
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"sweep pairs in {finished}: finished"
    assert f"test        accuracy {report['test']['accuracy']:.4f}, f1 {report['test']['f1']:.4f}" in out
    assert out[-1] == f"best model  {finished / 'best'}"
    found = status(finished)
    assert found.best is not None
    assert found.best.number == report["best"]["trial"]
    (finished / "report.json").unlink()
    assert status(finished).state == "stopped", "its command makes the report"


def test_a_larger_number_of_trials_makes_a_finished_sweep_an_unfinished_one(finished: Path) -> None:
    spec = (finished / "spec.yaml").read_text()
    (finished / "spec.yaml").write_text(spec.replace("num_trials: 3", "num_trials: 5"))
    found = status(finished)
    assert (found.state, found.test) == ("stopped", None)


HOLDER = """
import sys
from pathlib import Path
from tune.run_dir.layout import RunDir
with RunDir(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def driver(killed: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock as a driver does."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(killed)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_driver_at_work_is_named_until_it_is_killed(
    killed: Path, driver: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(killed)
    assert main(["--status", str(killed)]) == 3
    out = capsys.readouterr().out
    assert f"{killed}: running (process {driver.pid} on {socket.gethostname()})" in out
    assert "0 failed; 1 running" in out
    assert "go on with" not in out, "it would be refused"
    assert everything(killed) == before
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert status(killed).state == "stopped"
    assert everything(killed) == before


def test_asking_all_the_time_keeps_no_driver_out(killed: Path) -> None:
    run_dir = RunDir(killed)
    (killed / ".lock").touch()
    with (killed / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # --status, in the moment that it asks

        def let_go(seconds: float) -> None:
            fcntl.flock(file, fcntl.LOCK_UN)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", let_go)
            with run_dir.locked():
                assert run_dir.owner() == f"{os.getpid()} on {socket.gethostname()}"


TORN_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
connection.execute("PRAGMA cache_size = 1")
if sys.argv[2] == "WAL":
    connection.execute("UPDATE trials SET state = 'FAIL' WHERE number = 1")
connection.execute("BEGIN")
connection.execute("UPDATE trials SET state = 'FAIL'")
connection.execute("UPDATE trial_user_attributes SET value_json = '1'")
connection.execute("CREATE TABLE filler AS SELECT a.value_json FROM trial_user_attributes a, trial_user_attributes b")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("mode", "states"), [("DELETE", ["COMPLETE", "RUNNING"]), ("WAL", ["COMPLETE", "FAIL"])])
def test_what_a_killed_writer_left_open_is_read_from_a_copy(killed: Path, mode: str, states: list[str]) -> None:
    subprocess.run([sys.executable, "-c", TORN_WRITER, killed / "study.db", mode], check=False)
    left = killed / ("study.db-journal" if mode == "DELETE" else "study.db-wal")
    assert left.stat().st_size > 0
    before = everything(killed)
    found = status(killed)
    assert everything(killed) == before
    assert [record.state for record in found.records] == states
    assert found.records[LEADER].epochs


def test_a_driver_that_writes_for_long_is_waited_for(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.run_dir.study_file.READ_BUSY_LIMIT_S", 0.1)
    with closing(sqlite3.connect(killed / "study.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert refusal(killed) == f"{killed / 'study.db'} is being written; ask again"
        writer.execute("ROLLBACK")
    assert status(killed).state == "stopped"


@pytest.fixture
def read_only(killed: Path) -> Iterator[Path]:
    """A run directory on a file system that is mounted for reading."""
    with mounted_for_reading(killed):
        yield killed


def test_a_file_system_that_is_mounted_for_reading_will_do(read_only: Path) -> None:
    assert status(read_only).state == "stopped"


def test_an_object_store_is_read_as_well(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{finished}"
    for given, said in {"s3://": "must be a folder or a URL like", url: f"{url}: is a folder; give its path"}.items():
        assert main(["--status", given]) == 2
        assert capsys.readouterr().err.startswith(f"--status {said}")
    monkeypatch.setattr("tune.report.status.url_problem", lambda run: None)  # a folder as the store
    before = everything(finished)
    assert main(["--status", url]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"best model  {url}/best"
    assert everything(finished) == before
    driver = finished / "driver.json"
    driver.write_text(json.dumps({"id": "x", "host": "node-1", "pid": 4711}))
    assert (status(url).state, status(url).driver) == ("running", "4711 on node-1")
    os.utime(driver, (time.time() - 120,) * 2)
    assert status(url).state == "finished"
    (finished / "spec.yaml").unlink()
    assert main(["--status", url]) == 2
    assert capsys.readouterr().err.startswith(f"--status {url}: holds no sweep (no spec.yaml)")


def test_what_is_no_run_directory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "none") == f"--status {tmp_path}/none: no such folder"
    assert refusal(tmp_path / "file") == f"--status {tmp_path}/file: is a file, not a folder"
    assert refusal(tmp_path) == f"--status {tmp_path}: holds no sweep (no spec.yaml)"
    assert main(["--status", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"--status {tmp_path}: holds no sweep (no spec.yaml)\n"
    assert main(["--status", str(tmp_path), "--seed", "3", "s.yaml"]) == 2
    assert "--status stands alone; leave out 's.yaml', --seed" in capsys.readouterr().err


def test_a_sweep_that_has_just_begun_has_no_trials(killed: Path) -> None:
    (killed / "study.db").unlink()
    assert refusal(killed) == f"{killed / 'study.db'} is gone, and with it what every trial gave; {WHAT_TO_DO}"
    spec = (killed / "spec.yaml").read_text()
    (killed / "spec.yaml").write_text(spec.replace("  precision: fp32\n", "  precision: null\n"))
    found = status(killed)
    assert (found.state, found.records, found.best, found.last_epoch_at) == ("stopped", (), None, None)
    assert "best        none yet: no trial has run its whole schedule" in as_lines(found, 0.0)
    (killed / "study.db").touch()
    assert status(killed).records == ()


def changed(*statements: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with closing(sqlite3.connect(run / "study.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return change


def replaced(old: str, new: str, key: str) -> Callable[[Path], None]:
    """Another text in a trial's attribute."""
    return changed(
        f"UPDATE trial_user_attributes SET value_json = replace(value_json, '{old}', '{new}') WHERE key LIKE '{key}'"
    )


def cut(run: Path) -> None:
    data = (run / "study.db").read_bytes()
    (run / "study.db").write_bytes(data[: len(data) // 2])


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n FROM c) SELECT n, 'sweep' FROM c"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "is damaged ("),
    "no data base": (lambda run: (run / "study.db").write_text("x" * 5000), "is damaged (file is not a database)"),
    "empty": (lambda run: (run / "study.db").write_bytes(b""), "is damaged (it is empty)"),
    "another's tables": (
        lambda run: [(run / "study.db").unlink(), changed("CREATE TABLE notes (text)")(run)],
        "is damaged (it holds no study of Optuna's)",
    ),
    "another study": (changed("UPDATE studies SET study_name = 'mine'"), "is damaged (it holds no sweep's study)"),
    "a view in a table's place": (
        changed("DROP TABLE studies", f"CREATE VIEW studies AS {ENDLESS}"),
        "is damaged (it holds no study of Optuna's)",
    ),
    "another sweep's": (
        changed("UPDATE study_user_attributes SET value_json = '\"0123\"' WHERE key = 'sweep'"),
        "belongs to another sweep than",
    ),
    "text for a metric": (
        replaced('"f1": ', '"f1": [], "g": ', "epoch %"),
        "is damaged (",
    ),
    "no JSON": (changed("UPDATE trial_user_attributes SET value_json = '{'"), "is damaged ("),
    "deep JSON": (changed(f"UPDATE trial_user_attributes SET value_json = '{'[' * 100_000}'"), "is damaged ("),
    "epochs of another kind": (
        changed("UPDATE trial_user_attributes SET value_json = '[1]' WHERE key LIKE 'epoch %'"), "is damaged (",
    ),
    "an epoch of no time": (
        replaced('"began_at": ', '"began_at": 1e300, "g": ', "epoch %"),
        "is damaged (",
    ),
    "no numbers": (changed("UPDATE trials SET number = 'one'"), "is damaged (its trials are not numbered)"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_is_refused_and_left_as_it_is(killed: Path, damage: str) -> None:
    break_it, said = DAMAGES[damage]
    break_it(killed)
    told = refusal(killed)
    assert told.startswith(f"{killed / 'study.db'} {said}"), told
    assert told.endswith(WHAT_TO_DO)


def test_a_spec_that_is_damaged_is_refused(killed: Path) -> None:
    spec = (killed / "spec.yaml").read_text()
    for text in ("", "name: [", spec.replace("num_trials: 3", "num_trials: many"), spec.partition("resolved")[0]):
        (killed / "spec.yaml").write_text(text)
        assert refusal(killed).endswith(WHAT_TO_DO)
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in pairwise("abcdefghijklmnopq"))
    (killed / "spec.yaml").write_text(spec + bomb)
    assert "holds more than" in refusal(killed)


@pytest.mark.parametrize("name", ["spec.yaml", "study.db", "log.txt", ".lock", "study.db-journal"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_not_opened(killed: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = killed / name
    path.rename(tmp_path / "elsewhere") if path.exists() else (tmp_path / "elsewhere").touch()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"--status {killed}: {name}: a run directory holds plain files and folders"):
        status(killed)


def test_text_of_others_is_shown_as_text(killed: Path) -> None:
    evil = "\x1b[31mred\x9b2J\u202e\r"
    (killed / "log.txt").write_text(f"a\n{evil}\n{'x' * 1000}\n")
    (killed / ".lock").write_text(evil)
    with RunDir(killed).lock_file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = status(killed)
    assert found.driver == "unknown"
    text = "\n".join(as_lines(found, time.time()))
    assert "\\x1b[31mred\\x9b2J\\u202e\\r" in text
    assert "x" * 201 not in text
    replaced("0.003", '"\\u001b[31m"', "config")(killed)
    refused = refusal(killed)
    assert "is damaged (trial 0: `learning_rate` must be a number > 0, but got '\\x1b[31m')" in refused
    for shown in (text, refused):
        assert not set(shown) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))


def test_it_is_quick_and_imports_neither_torch_nor_ray_nor_optuna(killed: Path) -> None:
    script = (
        "import sys\nfrom tune.search import main\nassert main(['--status', sys.argv[1]]) == 4\n"
        "heavy = {'torch', 'transformers', 'datasets', 'ray', 'optuna', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script, killed], check=True, capture_output=True, cwd=ROOT)
    assert time.monotonic() - began < 2
    assert command("tune.search", "--status", killed, cwd=killed.parent).returncode == 4


# python -m tune.runs


def test_the_sweeps_below_a_folder_are_listed_the_newest_first(
    sweeps: Sweeps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = Path(shutil.copytree(sweeps.finished, tmp_path / "team" / "finished"))
    killed = Path(shutil.copytree(sweeps.killed, tmp_path / "killed"))
    damaged = Path(shutil.copytree(sweeps.killed, tmp_path / "damaged"))
    (damaged / "spec.yaml").write_text("}{")
    (tmp_path / "no sweep").mkdir()
    (tmp_path / "link").symlink_to(killed)
    before = everything(tmp_path)
    assert tune.runs.main([str(tmp_path)]) == 0
    assert everything(tmp_path) == before
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "state", "trials", "best", "test", "last", "epoch", "size"]
    by_run = {line.split()[0]: line for line in lines if not line.startswith(" ")}
    assert by_run.keys() == {"team/finished", "killed", "damaged"}
    report = json.loads((finished / "report.json").read_text())
    value = report["trials"][report["best"]["trial"]]["value"]
    assert f" f1 {value:.4f}  f1 {report['test']['f1']:.4f}  " in by_run["team/finished"]
    assert " finished  3/3 " in by_run["team/finished"]
    assert f" stopped   1/{len(POINTS)} " in by_run["killed"]
    reason = next(line for line in lines if line.startswith("  "))
    assert "damaged/spec.yaml, line 1: is not YAML" in reason
    times = [status(tmp_path / name).last_epoch_at or 0 for name in by_run if name != "damaged"]
    assert times == sorted(times, reverse=True)


def test_one_run_directory_is_listed_itself_and_its_size_is_that_of_its_files(finished: Path) -> None:
    (run,) = tune.runs.list_runs(finished)
    assert run.folder == finished
    assert run.size_bytes == sum(path.stat().st_size for path in finished.rglob("*") if path.is_file())
    assert run.cells(finished, (run.status.last_epoch_at if run.status else 0) + 3 * 86400 + 5)[5] == "3 days ago"


def test_folders_without_sweeps_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune.runs.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no sweep lies below {tmp_path}\n"
    assert tune.runs.main([str(tmp_path / "nope")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'nope'}: no such folder\n"
