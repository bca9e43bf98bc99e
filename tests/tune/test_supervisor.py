"""What ends a sweep before its time is told from what is our own mistake."""

from __future__ import annotations

import errno
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainable.errors import RayDied, StorageFailed
from trainable.storage.trouble import storage_told, storage_trouble
from tune.process import restart as restart_module
from tune.process import signals as signals_module
from tune.process import watch as watch_module
from tune.process.restart import continuing_command
from tune.process.signals import Signals, heed_signals, own_handlers
from tune.process.watch import Watch
from tune.sweep.callback import SweepCallback
from tune.sweep.halt import Halt


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_fails_is_known_by_its_error(number: int) -> None:
    error = OSError(number, os.strerror(number), "run/study.db")
    assert storage_trouble(error) == f"run/study.db: {os.strerror(number)}"


def test_it_is_known_below_other_errors_too() -> None:
    error = RuntimeError("an exception of the storage")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert storage_trouble(error) == "database or disk is full"


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(2, "no such file"), ConnectionResetError()])
def test_other_errors_are_not_the_disks(error: Exception) -> None:
    assert storage_trouble(error) is None
    with pytest.raises(type(error)), storage_told("run"):
        raise error


def test_what_is_told_already_is_not_told_again() -> None:
    with pytest.raises(StorageFailed, match=r"^trial 3: No space left$"), storage_told("run"):
        raise StorageFailed("trial 3: No space left")


def test_a_disk_that_fails_is_told_with_its_path() -> None:
    with (
        pytest.raises(StorageFailed, match=r"can't write to run \(run/x: No space left on device\)"),
        storage_told("run"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "run/x")


def test_the_first_reason_to_halt_stands() -> None:
    halt = Halt()
    for text in ("first", "second"):
        with halt.on_error():
            raise ValueError(text)
    assert str(halt.error) == "first"


def test_the_first_signal_raises_and_handlers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(signals_module, "end_at_once", exits.append)
    monkeypatch.setattr(signals_module, "STOP_LIMIT_S", 600.0)
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        assert exits == []
        with pytest.raises(KeyboardInterrupt):  # only since the exit above is none
            signal.raise_signal(signal.SIGINT)
        assert exits == [130]
    assert signal.getsignal(signal.SIGTERM) == before
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def test_a_signal_whose_interrupt_was_lost_is_heeded_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a finalizer of a library's: Python prints what one raises, and goes on."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_type))
    monkeypatch.setattr(signals_module, "STOP_LIMIT_S", 600.0)
    with Signals() as signals:
        heed_signals()
        Finalized()
        assert (signals.received, lost) == (signal.SIGINT, [KeyboardInterrupt])
        with pytest.raises(KeyboardInterrupt):
            heed_signals()
        with pytest.raises(KeyboardInterrupt):
            SweepCallback.on_step_end(object.__new__(SweepCallback), 0, [])
    heed_signals()
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def test_what_does_not_stop_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(signals_module, "end_at_once", exits.append)
    monkeypatch.setattr(signals_module, "STOP_LIMIT_S", 0.05)
    with Signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert exits == [143]


def test_handlers_that_somebody_sets_meanwhile_go() -> None:
    with Signals():
        mine = signal.getsignal(signal.SIGTERM)
        with own_handlers():
            signal.signal(signal.SIGTERM, lambda *_: None)
        assert signal.getsignal(signal.SIGTERM) == mine


def test_a_death_interrupts_the_main_thread_and_what_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WATCH_EVERY_S", 0.05)
    monkeypatch.setattr(watch_module, "GIVE_UP_S", 0.05)
    given_up: queue.Queue[str] = queue.Queue()
    deaths = iter([None, None, "Ray's raylet died"])
    watch = Watch(lambda: next(deaths), given_up.put)
    with pytest.raises(KeyboardInterrupt), watch:
        time.sleep(30)
    assert watch.reason == "Ray's raylet died"
    assert given_up.get(timeout=10) == "Ray's raylet died"


def test_a_death_after_the_end_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that takes long must not end a process that has shut Ray down in order meanwhile."""
    monkeypatch.setattr(watch_module, "WATCH_EVERY_S", 0.01)
    asked = threading.Event()

    def slowly() -> str:
        asked.set()
        time.sleep(0.3)
        return "Ray's raylet died"

    with Watch(slowly) as watch:
        assert asked.wait(10)
    time.sleep(0.6)
    assert watch.reason is None


def test_while_all_live_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WATCH_EVERY_S", 0.01)
    asked: list[None] = []
    with Watch(lambda: asked.append(None)) as watch:
        time.sleep(0.3)
    assert asked
    assert watch.reason is None


def test_the_command_that_goes_on_does_not_start_over() -> None:
    assert continuing_command(["a b.yaml", "--fresh", "--out", "x"]) == "python -m tune.search 'a b.yaml' --out x"


def test_a_command_restarts_itself_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(restart_module, "end_descendants", lambda: None)
    monkeypatch.setattr(restart_module.os, "execv", lambda program, words: started.append(words))
    monkeypatch.setattr(restart_module.time, "sleep", lambda _: None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "tune.search", "--fresh", "--out", "x"])
    monkeypatch.setenv(restart_module.RESTARTS, "0")
    for _ in range(restart_module.MAX_RESTARTS + 3):
        restart_module.restart()
    assert started == [[sys.executable, "-m", "tune.search", "--out", "x"]] * restart_module.MAX_RESTARTS


def test_what_ends_at_once_takes_along_all_that_it_started() -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    grandchildren = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    code = (
        "import subprocess, sys; from tune.process.signals import end_at_once;"
        f"child = subprocess.Popen([sys.executable, '-c', {grandchildren!r}], stdout=subprocess.PIPE, text=True);"
        "print(child.pid, child.stdout.readline().strip(), flush=True); end_at_once(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 7
    pids = done.stdout.split()
    assert len(pids) == 2
    deadline = time.monotonic() + 5
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] not in "ZX"


def test_a_sweep_in_another_program_never_runs_that_program_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tune import search

    def ray_dies(*arguments: object, **options: object) -> None:
        raise RayDied("the head went")

    monkeypatch.setattr(search, "_run", ray_dies)
    monkeypatch.setattr(restart_module.os, "execv", lambda *_: pytest.fail("another program was run again"))
    monkeypatch.setattr(restart_module, "end_at_once", lambda *_: pytest.fail("another program was ended"))
    assert search.main(["--out", str(tmp_path / "run")]) == RayDied.exit_code
    assert capsys.readouterr().err.startswith("the head went\nGo on with: python -m tune.search --out ")
