"""A write that fails, whichever it is, leaves old or new, never neither; the sweep tells it, and goes on later."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.faults.whole import EXCHANGE, MOST, WAYS, begin, content, new_content, old_content, one_trial
from tests.tune.test_end_to_end import ROOT, command
from trainable.storage.folders import sweep_asides, write_folder, write_text

SCENARIOS = [
    "a_new_folder", "a_replaced_folder", "a_replaced_folder_where_none_can_be_exchanged", "a_replaced_text",
]  # fmt: skip
CONTROLS = ["a_folder_without_protection", "a_text_without_protection"]
STUDIES = ["a_study_that_is_made", "a_study_in_its_second_trial"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """failing_writes.so"""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD and /proc are Linux's")
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc)")
    built = tmp_path_factory.mktemp("shim") / "failing_writes.so"
    source = Path(__file__).with_name("failing_writes.c")
    words = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(built), str(source), "-ldl"]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode != 0 and "No such file" in made.stderr:
        pytest.skip(f"the C compiler has no headers: {made.stderr.splitlines()[0]}")
    assert made.returncode == 0, made.stderr
    return built


def run_scenarios(shim: Path, folder: Path, step: int, *names: str) -> dict[str, int]:
    """How many failures were made in each scenario, every `step`-th n in every way; -1 where a control broke."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.whole", str(folder), str(step), *names],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: int(count) for name, _, count in (line.partition(" ") for line in done.stdout.splitlines())}


def test_folders_and_files_stay_whole(shim: Path, tmp_path: Path) -> None:
    made = run_scenarios(shim, tmp_path, 1, *SCENARIOS, *CONTROLS)
    assert list(made) == [*SCENARIOS, *CONTROLS]
    assert all(made[name] >= len(WAYS) * 5 for name in SCENARIOS), made
    assert all(made[name] == -1 for name in CONTROLS), "without the protection there is neither old nor new"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(25, marks=pytest.mark.slow, id="some"),
        pytest.param(1, marks=[pytest.mark.faults, pytest.mark.timeout(900)], id="every"),
    ],
)
def test_the_study_stays_whole(shim: Path, tmp_path: Path, step: int) -> None:
    made = run_scenarios(shim, tmp_path, step, *STUDIES)
    assert made == dict.fromkeys(STUDIES, len(WAYS) * MOST // step)


# Killed between two steps

KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from trainable.storage import folders as storage

last = int(sys.argv[2])

def counted(real):
    def call(*arguments):
        global last
        done = real(*arguments)
        last -= 1
        if last == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call

os.rename = counted(os.rename)
storage._exchange = counted(storage._exchange) if sys.argv[3] == "exchange" else lambda one, other: False
storage.write_folder(Path(sys.argv[1]), lambda aside: (aside / "a").write_text("newer"))
"""


@pytest.mark.parametrize(
    ("how", "after", "there", "then"),
    [
        ("exchange", 1, "newer", "newer"),
        ("rename", 1, None, "old"),
        ("rename", 2, "newer", "newer"),
    ],
)
def test_killed_between_the_renames(tmp_path: Path, how: str, after: int, there: str | None, then: str) -> None:
    write_folder(tmp_path / "x" / "best", old_content)
    words = [sys.executable, "-c", KILLED_AFTER, str(tmp_path / "x" / "best"), str(after), how]
    killed = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert content(tmp_path / "x" / "best") == there
    sweep_asides(tmp_path)
    assert content(tmp_path / "x" / "best") == then
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["best"]


def test_two_folders_change_places_here(tmp_path: Path) -> None:
    """Else the tests above have shown one way only."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    assert EXCHANGE(tmp_path / "a", tmp_path / "b") is (sys.platform == "linux")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EXCHANGE(tmp_path / "a", tmp_path / "nowhere")


# A disk that fills


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if not shutil.which("mount") or (done := subprocess.run(words, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"can't mount a small file system here: {done.stderr.strip() if shutil.which('mount') else ''}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the study's connection is open


def fill(disk: Path, but: int) -> None:
    """Leave so many bytes free."""
    (disk / "filler").unlink(missing_ok=True)
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(room - but))


def test_a_disk_that_fills_while_a_folder_is_replaced(small_disk: Path) -> None:
    write_folder(small_disk / "best", old_content)
    write_text(small_disk / "x.json", "old")
    failures: list[OSError] = []
    for room in range(0, 61_440, 4096):
        fill(small_disk, room)
        for name, write in (
            ("best", lambda: write_folder(small_disk / "best", new_content)),
            ("x.json", lambda: write_text(small_disk / "x.json", "new" * 3000)),
        ):
            try:
                write()
            except OSError as error:
                failures.append(error)
            assert name == "best" or (small_disk / "x.json").read_text() in ("old", "new" * 3000)
            assert content(small_disk / "best") in ("old", "new and longer")
    assert len(failures) > 8
    for failure in failures:
        assert failure.errno == errno.ENOSPC
        assert str(small_disk) in str(failure.filename)
        assert str(small_disk) in str(failure), "the message itself names the path"
    assert content(small_disk / "best") == "new and longer"
    assert sorted(path.name for path in small_disk.iterdir()) == ["best", "filler", "x.json"]


def test_a_disk_that_fills_under_the_study(small_disk: Path) -> None:
    run = small_disk / "run"
    run.mkdir()
    taken: dict[int, float | None] = {}
    one_trial(begin(run), 0, taken)
    book = begin(run)
    fill(small_disk, 4096)
    with pytest.raises(OSError, match="database or disk is full") as failed:
        one_trial(book, 1, taken)
    assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(run / "study.db"))
    (small_disk / "filler").unlink()
    again = begin(run)
    assert [record.state for record in again.records()][:1] == ["COMPLETE"]
    for number in (1, 2):
        one_trial(again, number, taken)
    assert [record.number for record in again.records()] == [0, 1, 2]


def test_the_study_is_synced_at_every_commit(tmp_path: Path) -> None:
    with begin(tmp_path).study._storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"


# A whole sweep


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("at", "number", "for_ever"),
    [
        (2, errno.ENOSPC, True),
        (12, errno.EIO, False),
        (40, errno.EROFS, True),
        (150, errno.ENOSPC, True),
        (400, errno.EIO, False),
    ],
)
def test_a_sweep_stops_with_a_sentence_and_goes_on(
    shim: Path, tmp_path: Path, tiny_model: Path, at: int, number: int, for_ever: bool
) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 24, "test": 24})
    points = [{"learning_rate": 3e-3, "batch_size": 8, "epochs": epochs} for epochs in (3, 2, 4)]
    (tmp_path / "points.json").write_text(json.dumps(points))
    run = tmp_path / "run"
    flags = [
        "--dataset", data, "--model", tiny_model, "--out", run, "--points", "points.json",
        "--confirm", "none", "--num-trials", 3,
        "--scheduler", "none", "--precision", "fp32", "--set", "state_interval_s=0",
    ]  # fmt: skip
    failing = {"LD_PRELOAD": shim, "FAIL_UNDER": run, "FAIL_AT": at, "FAIL_ERRNO": number, "FAIL_FOR_EVER": for_ever}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in failing.items():
            patch.setenv(name, str(int(value) if isinstance(value, bool) else value))
        stopped = command("tune.search", *flags, cwd=tmp_path)
    assert stopped.returncode == 1, stopped
    assert "Traceback" not in stopped.stderr
    first = stopped.stderr.splitlines()[0]
    assert str(run) in first
    assert any(word in first for word in (os.strerror(number), "disk I/O error", "is full", "readonly database")), first
    done = command("tune.search", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "report.json").read_text())
    assert [(row["number"], row["state"]) for row in report["trials"]] == [(n, "COMPLETE") for n in range(3)]
    assert [row["config"]["epochs"] for row in report["trials"]] == [3, 2, 4]
