"""SIGKILL at any moment: the same command again, and the sweep ends as if nothing had happened.

The ledger that the workers keep is the ground truth of what was trained. KILLS_SEED=N repeats the random moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.conftest import write_pairs
from tests.faults.killed import POINTS, descendants, kill_tree
from tests.tune.test_end_to_end import ROOT
from tune.run_dir.attributes import MODEL_SHA256, STUDY_NAME

SLOW_TRIAL = {"learning_rate": 1e-4, "batch_size": 16, "epochs": 8}
FAST_TRIAL = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4}
DIVERGES = {"learning_rate": 1e30, "batch_size": 16, "epochs": 2}
START_LIMIT_S = 200.0  # on a busy machine; seconds else
DEATH_LIMIT_S = 20.0  # for the processes of a Ray whose driver was killed
SAME_IN_REPORTS = ("best", "test", "majority", "warnings", "metric", "precision", "f1_average", "rows")
MEASURED = {
    "train_s", "eval_s", "start_s", "began_at", "examples_per_second", "peak_memory_mib", "pid", "bytes_written",
}  # fmt: skip


class Server:
    """Forks drivers from a process that has imported everything; one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.killed", "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        self._text = b""

    def start(self, **request: Any) -> int:
        """Fork a driver; returns its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        pid = self._line(60)
        assert pid is not None, "no driver was forked"
        return pid

    def exit_code(self, within_s: float) -> int | None:
        """How the driver ended, minus the signal's number where one killed it; None while it runs."""
        return self._line(within_s)

    def _line(self, within_s: float) -> int | None:
        assert self._process.stdout is not None
        end = time.monotonic() + within_s
        while b"\n" not in self._text:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            read = os.read(self._process.stdout.fileno(), 1000)
            assert read, "the server died"
            self._text += read
        line, _, self._text = self._text.partition(b"\n")
        return int(line)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    with contextlib.closing(server):
        yield server


class Sweep:
    """One run directory, the ledger of what was trained for it, and what every kill left behind."""

    def __init__(
        self, server: Server, folder: Path, model: Path, points: Sequence[Any], slots: int = 1, confirm: str = "none"
    ) -> None:
        folder.mkdir()
        self.server, self.folder, self.run = server, folder, folder / "run"
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.kills = 0
        self.log_before = 0  # bytes of the log that earlier lives wrote
        self.finished: dict[int, Any] = {}  # trials that were finished at a kill, as they were then
        self.broken: list[str] = []  # laws that did not hold at a kill
        (folder / "points.json").write_text(json.dumps(points))
        data = write_pairs(folder / "pairs", {"train": 96, "validation": 48, "test": 48})
        self._flags = [
            "--dataset", str(data), "--model", str(model), "--out", "run", "--seed", "5", "--points", "points.json",
            "--space", "learning_rate=log:1e-4..5e-3", "--space", "batch_size=8,16", "--space", "epochs=2..4",
            "--sampler", "random", "--scheduler", "none", "--precision", "fp32", "--metric", "loss", "--mode", "min",
            "--set", "state_interval_s=0", "--set", f"num_cpus={slots}", "--confirm", confirm,
        ]  # fmt: skip

    def start(self, num_trials: int, **environment: str) -> int:
        """Start the same command once more."""
        log = self.run / "log.txt"
        self.log_before = log.stat().st_size if log.exists() else 0
        everything = {"LEDGER": str(self.ledger), "REACHED": str(self.folder / "reached"), **environment}
        return self.server.start(
            argv=[*self._flags, "--num-trials", str(num_trials)],
            cwd=str(self.folder), env=everything, output=str(self.folder / "output"),
        )  # fmt: skip

    def finish(self, num_trials: int, **environment: str) -> None:
        """Let it run to its end."""
        self.start(num_trials, **environment)
        code = self.server.exit_code(START_LIMIT_S)
        assert code == 0, f"ended with {code}\n{self.output()}"

    def die_at(self, point: str, num_trials: int, **environment: str) -> None:
        """Start it, and see that it was killed at that point."""
        (self.folder / "reached").unlink(missing_ok=True)
        self.start(num_trials, KILL_AT=point, **environment)
        code = self.server.exit_code(START_LIMIT_S)
        assert code == -signal.SIGKILL, f"did not die at {point!r} but ended with {code}\n{self.output()}"
        assert (self.folder / "reached").read_text() == point
        print(time.strftime("%X"), point, flush=True)
        self.after_kill()

    def output(self) -> str:
        """The end of what the drivers printed."""
        return (self.folder / "output").read_text()[-3000:]

    def trials_are_over(self) -> bool:
        """Whether this life's driver has closed its last trial, or found none to run."""
        log = self.run / "log.txt"
        text = log.read_bytes()[self.log_before :].decode() if log.exists() else ""
        ends = re.findall(r"(\d+) running, (\d+) done, (\d+) stopped early, (\d+) failed of (\d+)", text)
        counts = [int(count) for count in ends[-1]] if ends else []
        return " trials are finished, 0 are left" in text or (bool(counts) and sum(counts[1:4]) == counts[4])

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """The study as it is on disk now, read from a copy: opening a torn database mends it."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.run.glob("study.db*"):
            shutil.copy(file, copy)
        try:
            return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{copy / 'study.db'}").trials
        except Exception:  # killed before the study was there
            assert not self.finished
            return []

    def begun(self) -> list[list[tuple[int, int]]]:
        """(trial, epoch) in the order they were begun, for every life of the driver."""
        lives: list[list[tuple[int, int]]] = [[]]
        for line in self.ledger.read_text().splitlines():
            if line == "killed":
                lives.append([])
            elif line.endswith("begun"):
                lives[-1].append((int(line.split()[0]), int(line.split()[1])))
        return lives

    def after_kill(self) -> None:
        """Note what the kill left, and look whether what the one before left was respected."""
        self.kills += 1
        self.look_at_finished()
        with self.ledger.open("a") as file:
            file.write("killed\n")

    def look_at_finished(self) -> None:
        """Whether trials that were finished at the last kill are as they were, and were not run since."""
        trials = {trial.number: trial for trial in self.trials()}
        for number, before in self.finished.items():
            if trials.get(number) != before:
                self.broken.append(f"trial {number} was finished before kill {self.kills}, and then changed")
            if any(trial == number for trial, _ in self.begun()[-1]):
                self.broken.append(f"trial {number} was finished before kill {self.kills}, and then run again")
        self.finished = {number: trial for number, trial in trials.items() if trial.state.is_finished()}

    def repeated(self) -> int:
        """How many epochs were begun more than once."""
        begun = [epoch for life in self.begun() for epoch in life]
        return len(begun) - len(set(begun))


def broken_laws(reference: Sweep, killed: Sweep) -> list[str]:
    """In what a sweep that was killed differs from one that never was; nothing may."""
    killed.look_at_finished()
    broken = [*killed.broken, *epochs_repeated_too_often(killed)]
    ours, theirs = killed.trials(), reference.trials()
    reports = [json.loads((sweep.run / "report.json").read_text()) for sweep in (killed, reference)]
    winner = reports[1]["best"]["trial"]
    told = [[as_told(trial, trial.number == winner) for trial in trials] for trials in (ours, theirs)]
    if told[0] != told[1]:
        differences = [f"trial {a['number']}: {difference(a, b)}" for a, b in zip(*told, strict=False) if a != b]
        broken.append(f"the studies differ: {len(ours)} trials for {len(theirs)}; {'; '.join(differences)}")
    broken += [f"trial {trial.number} is {trial.state.name}" for trial in ours if not trial.state.is_finished()]
    for trial in ours:
        trained = {epoch for life in killed.begun() for number, epoch in life if number == trial.number}
        recorded = set(trial.intermediate_values)
        if recorded - trained or (trial.state.name == "COMPLETE" and trained != recorded):
            broken.append(f"trial {trial.number}: trained epochs {sorted(trained)}, the study has {sorted(recorded)}")
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in report["trials"]] for report in reports]
    if rows[0] != rows[1]:
        broken.append("the reports' trials differ")
    broken += [f"the reports differ in {name}" for name in SAME_IN_REPORTS if reports[0][name] != reports[1][name]]
    weights = [(sweep.run / "best" / "model.safetensors").read_bytes() for sweep in (killed, reference)]
    if weights[0] != weights[1]:
        broken.append("the winners' weights differ")
    files = [files_of(sweep.run) for sweep in (killed, reference)]
    if files[0] != files[1]:
        broken.append(f"the files differ: {sorted(files[0] ^ files[1])}")
    return broken


def epochs_repeated_too_often(sweep: Sweep) -> list[str]:
    """A trial goes on, after each kill, with the epoch that it had begun last or with the one after it."""
    broken, last = [], dict[int, int]()
    for life in sweep.begun():
        seen: set[int] = set()
        for trial, epoch in life:
            before = last.get(trial, 0)
            if epoch != before + 1 and (trial in seen or epoch != before):
                broken.append(f"trial {trial} began epoch {epoch} after epoch {before}")
            seen.add(trial)
            last[trial] = epoch
    return broken


def as_told(trial: optuna.trial.FrozenTrial, won: bool) -> dict[str, Any]:
    """All that the study says of a trial but times.

    Whether a trial that did not win left a model hangs on which one of two that ran side by side ended first.
    """
    attributes = {
        key: {k: v for k, v in value.items() if k not in MEASURED} if key.startswith("epoch ") else value
        for key, value in trial.user_attrs.items()
        if won or key != MODEL_SHA256
    }
    told = {"number": trial.number, "state": trial.state.name, "params": trial.params, "attributes": attributes}
    return {**told, "values": trial.values, "intermediate": trial.intermediate_values}


def difference(one: Any, other: Any) -> Any:
    """What differs, (one, other), below the keys that lead there."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return (one, other)
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return {key: difference(one.get(key), other.get(key)) for key in keys}


def files_of(run: Path) -> set[str]:
    """What lies in a run directory, but events: every life writes a file of its own."""
    names = {str(path.relative_to(run)) for path in run.rglob("*") if not path.name.startswith("events.")}
    return {name for name in names if not name.endswith(("-wal", "-shm", "-journal"))}


# The tests


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_killed_at_every_point_a_sweep_ends_as_if_never_killed(
    tmp_path: Path, tiny_model: Path, server: Server
) -> None:
    points = [SLOW_TRIAL, FAST_TRIAL, DIVERGES]
    killed = Sweep(server, tmp_path / "killed", tiny_model, points, confirm="1x2")
    num_trials, began = 5, time.monotonic()
    for point in POINTS:
        killed.die_at(point, num_trials)
    killed.finish(num_trials)
    reference = Sweep(server, tmp_path / "never", tiny_model, points, confirm="1x2")
    reference.finish(num_trials)
    tell(killed, began)
    broken = broken_laws(reference, killed)
    assert not broken, "\n".join(broken)


def tell(sweep: Sweep, began: float) -> None:
    lives = sweep.begun()
    print(
        f"\n{sweep.kills} kills, {len(sweep.trials())} trials, {sum(map(len, lives))} epochs begun, "
        f"{sweep.repeated()} of them again, {time.monotonic() - began:.0f} s"
    )


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_killed_thirty_times_at_random_a_sweep_ends_as_if_never_killed(
    tmp_path: Path, tiny_model: Path, server: Server
) -> None:
    seed = int(os.environ.get("KILLS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"\nKILLS_SEED={seed}")
    rng, began = random.Random(seed), time.monotonic()
    killed = Sweep(server, tmp_path / "killed", tiny_model, [SLOW_TRIAL, SLOW_TRIAL, FAST_TRIAL, DIVERGES], slots=2)
    num_trials = 8
    while killed.kills < 30:
        phase = rng.choices(list(PHASES), weights=[2, 2, 1])[0]
        pid = killed.start(num_trials, SLOW_S="0.3")
        if kill_within(killed, pid, phase, rng):
            killed.after_kill()
            states = [trial.state.name for trial in killed.trials()]
            print(f"{killed.kills} {phase}: {states.count('RUNNING')} of {len(states)} trials open", flush=True)
        else:
            num_trials += 1  # it came to its end: extend it, that there is something to kill
    killed.finish(num_trials)
    reference = Sweep(server, tmp_path / "never", tiny_model, [SLOW_TRIAL, SLOW_TRIAL, FAST_TRIAL, DIVERGES], slots=2)
    reference.finish(num_trials)
    tell(killed, began)
    broken = broken_laws(reference, killed)
    assert not broken, "\n".join(broken)


# The phase, what a driver has done when it begins, and how long kills are spread over it
PHASES = {
    "starting": (lambda sweep: True, 5.0),
    "training": (lambda sweep: bool(sweep.begun()[-1]), 2.5),
    "reporting": (lambda sweep: sweep.trials_are_over(), 2.0),
}


def kill_within(sweep: Sweep, pid: int, phase: str, rng: random.Random) -> bool:
    """Kill a driver, alone or with its Ray, at a random moment of a phase; False where it ended before that."""
    has_begun, length_s = PHASES[phase]
    alone, wait_s = rng.random() < 0.5, rng.uniform(0, length_s)
    deadline = time.monotonic() + START_LIMIT_S
    while not has_begun(sweep):
        assert time.monotonic() < deadline, f"never came to {phase}\n{sweep.output()}"
        code = sweep.server.exit_code(0.05)
        if code is not None:
            assert code == 0, f"ended with {code}\n{sweep.output()}"
            return False
    code = sweep.server.exit_code(wait_s)
    if code is not None:
        assert code == 0, f"ended with {code}\n{sweep.output()}"
        return False
    below = descendants(pid)
    if alone:
        os.kill(pid, signal.SIGKILL)
    else:
        kill_tree(pid)
    code = sweep.server.exit_code(DEATH_LIMIT_S)
    assert code in (0, -signal.SIGKILL), code
    wait_until_gone(below)
    return code != 0


def wait_until_gone(pids: Sequence[int]) -> None:
    """A Ray whose driver was killed ends by itself.

    Its agents and a worker that was only starting, which have seen nothing of the sweep, ask a control service that is
    gone for up to a minute first.
    """
    deadline = time.monotonic() + DEATH_LIMIT_S
    while left := [(pid, name) for pid in pids if (name := name_if_alive(pid))]:
        if all(name in ("ray::DashboardA", "ray::RuntimeEnv", "python") for _, name in left):
            for pid, _ in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        assert time.monotonic() < deadline, f"processes {left} outlived their driver"
        time.sleep(0.05)


def name_if_alive(pid: int) -> str:
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(" (")[2].rpartition(") ")
    except OSError:
        return ""
    return "" if rest[0] in "ZX" else name


# A short sweep, for what is tested with few kills


SHORT_TRIALS = 2  # the second one is proposed by the sampler, and better
SHORT_POINTS = [{**SLOW_TRIAL, "learning_rate": 1e-6, "epochs": 3}]


@pytest.fixture(scope="module")
def short_reference(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, server: Server) -> Sweep:
    sweep = Sweep(server, tmp_path_factory.mktemp("short") / "never", tiny_model, SHORT_POINTS)
    sweep.finish(SHORT_TRIALS)
    return sweep


# (protection, where to kill, the laws that must be broken without it)
CONTROLS = [
    ("history", "before value", "the studies differ"),
    ("reissue", "after value", "trial 0 is RUNNING"),
    ("seeds", "after parameter learning_rate", "the studies differ"),
    ("states", "after attribute epoch", "began epoch 1 after epoch 2"),
]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("protection", "point", "law"), CONTROLS, ids=[name for name, *_ in CONTROLS])
def test_without_a_protection_a_kill_shows(
    protection: str, point: str, law: str, tmp_path: Path, tiny_model: Path, short_reference: Sweep, server: Server
) -> None:
    killed = Sweep(server, tmp_path / "killed", tiny_model, SHORT_POINTS)
    killed.die_at("after attribute epoch", SHORT_TRIALS, WITHOUT=protection)
    killed.die_at(point, SHORT_TRIALS, WITHOUT=protection)
    killed.finish(SHORT_TRIALS, WITHOUT=protection)
    broken = broken_laws(short_reference, killed)
    assert any(law in told for told in broken), broken
