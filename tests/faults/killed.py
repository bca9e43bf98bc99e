"""The real command line that is killed by SIGKILL at a named point, and a ledger of every epoch begun and trained.

KILL_AT: a point; the first process of the sweep that comes there kills the driver, its Ray and itself
REACHED: a file that gets the point's name just before
LEDGER: a file that gets a line "trial epoch begun" or "trial epoch trained" for every epoch
SLOW_S: seconds that every epoch takes longer
WITHOUT: a protection that is taken away, for the tests to notice

    python -m tests.faults.killed FLAGS
    python -m tests.faults.killed --serve      imports everything once, then forks a driver for every line of JSON
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainable.storage import folders as storage
from trainable.trial import FineTuningTrial

DRIVER = "KILLED_DRIVER"

# Every point, in an order in which one sweep of one slot comes to them: whoever died at one comes to the next.
# Its trials: 0 learns slowly, 1 beats it, 2 diverges, 3 is the first that the sampler proposes.
BEGINNING = (
    "before spec.yaml", "written spec.yaml", "after spec.yaml",
    "before study", "after study",
    "before enqueue", "after enqueue", "after take",
)  # fmt: skip
EPOCHS = (
    "before state", "written state", "after state",
    "before removing older state", "halfway removing older state", "after removing older state",
    "before value", "after value", "after attribute epoch",
)  # fmt: skip
FIRST_TRIALS_END = (
    "before model", "written model", "after model", "exchanged model",
    "before tell", "after tell",
    "before removing state", "halfway removing state", "after removing state",
    "before incumbent.json", "written incumbent.json", "after incumbent.json",
)  # fmt: skip
NEW_LEADER = ("before removing model", "halfway removing model", "after removing model")
FAILURE = ("before failure.txt", "written failure.txt", "after failure.txt", "after attribute failure")
PROPOSAL = (
    "before ask", "after ask",
    "after parameter learning_rate", "after parameter batch_size", "after parameter epochs",
    "after attribute config", "after attribute seed",
)  # fmt: skip
REPORT = (
    "before best", "written best", "after best", "exchanged best",
    "before removing winner", "halfway removing winner", "after removing winner",
    "before report.html", "written report.html", "after report.html",
    "before report.json", "written report.json", "after report.json",
)  # fmt: skip
POINTS = (*BEGINNING, *EPOCHS, *FIRST_TRIALS_END, *NEW_LEADER, *FAILURE, *PROPOSAL, *REPORT)


def point(name: str) -> None:
    """Die here, if this is where to."""
    if name != os.environ.get("KILL_AT"):
        return
    Path(os.environ["REACHED"]).write_text(name)
    kill_tree(int(os.environ[DRIVER]))


def kill_tree(driver: int) -> None:
    """Kill a driver and all that it started, this process last if it is one of them."""
    doomed = [driver, *descendants(driver)]
    for pid in sorted(doomed, key=lambda pid: pid == os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def descendants(ancestor: int) -> list[int]:
    """Processes below a process, as /proc has them now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, ahead = [], [ancestor]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


# Where the points are


def kind_of(path: Path) -> str:
    """What a file or folder of a run directory is called in a point's name."""
    return "state" if path.parent.name == "state" else path.name


def around(owner: Any, name: str, called: Callable[..., str | None]) -> None:
    """Put a point before and one after a function; `called` gives their name from its arguments, or None."""
    function = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        what = called(*arguments, **options)
        if what is None:
            return function(*arguments, **options)
        point(f"before {what}")
        result = function(*arguments, **options)
        point(f"after {what}")
        return result

    setattr(owner, name, wrapped)


class SlowRenames:
    """`os` for the storage module, with points before its renames."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def replace(self, source: Path, target: Path) -> None:
        point(f"written {kind_of(target)}")
        os.replace(source, target)

    def rename(self, source: Path, target: Path) -> None:
        point(f"written {kind_of(target)}")
        os.rename(source, target)


def watch_files(modules: list[str], removed: Callable[[Path], str | None]) -> None:
    """Put points around every folder and small file that these modules write, and every folder that is removed."""
    storage.os = SlowRenames()  # type: ignore[attr-defined]
    exchange = storage._exchange

    def exchanged(aside: Path, folder: Path) -> bool:
        point(f"written {kind_of(folder)}")
        assert exchange(aside, folder), "this test needs a file system that can exchange two folders"
        point(f"exchanged {kind_of(folder)}")
        return True

    storage._exchange = exchanged
    for module in map(importlib.import_module, modules):
        for name in ("write_folder", "write_text"):
            if hasattr(module, name):
                around(module, name, lambda path, *_: kind_of(path))
    remove = shutil.rmtree

    def rmtree(path: Any, *arguments: Any, **options: Any) -> None:
        what = removed(Path(path)) if Path(path).is_dir() else None
        if what is not None:
            point(f"before removing {what}")
            if os.environ.get("KILL_AT") == f"halfway removing {what}":
                next(file for file in sorted(Path(path).rglob("*")) if file.is_file()).unlink()
                point(f"halfway removing {what}")
        remove(path, *arguments, **options)
        if what is not None:
            point(f"after removing {what}")

    shutil.rmtree = rmtree  # type: ignore[assignment]


def watch_driver() -> None:
    """The driver's points: all that Optuna's storage is told, and the run directory's files."""
    from optuna.storages._cached_storage import _CachedStorage

    import tune.sweep.trial_book
    from tune.sweep.models import ModelKeeper

    around(tune.sweep.trial_book, "open_study", lambda *_: "study")
    around(
        _CachedStorage,
        "create_new_trial",
        lambda _, study, waiting=None, **options: "enqueue" if waiting or options.get("template_trial") else "ask",
    )
    around(_CachedStorage, "set_trial_param", lambda _, trial, name, *rest: f"parameter {name}")
    around(_CachedStorage, "set_trial_user_attr", lambda _, trial, key, value: f"attribute {key.split()[0]}")
    around(_CachedStorage, "set_trial_intermediate_value", lambda *_: "value")
    around(
        _CachedStorage, "set_trial_state_values",
        lambda _, trial, state, values=None: "tell" if state.is_finished() else "take",
    )  # fmt: skip
    last = False
    keep_only = ModelKeeper.keep_only_what_was_asked_for

    def keep_only_what_was_asked_for(keeper: ModelKeeper) -> None:
        nonlocal last
        last = True
        keep_only(keeper)

    ModelKeeper.keep_only_what_was_asked_for = keep_only_what_was_asked_for  # type: ignore[method-assign]

    def removed(path: Path) -> str | None:
        if path.parent.parent.name != "trials":
            return None
        return "winner" if last and path.name == "model" else path.name

    watch_files(["tune.report.files", "tune.run_dir.documents", "tune.sweep.models", "tune.sweep.failures"], removed)


class KilledTrial(FineTuningTrial):
    """The real one with a ledger, and the worker's points."""

    def setup(self, config: dict[str, Any], job: Any = None) -> None:
        if not isinstance(storage.os, SlowRenames):  # type: ignore[attr-defined]
            watch_files(
                ["trainable.train.run", "trainable.train.state"],
                lambda path: "older state" if path.parent.name == "state" else None,
            )
        super().setup(config, job)

    def _states(self) -> list[Path]:
        return [] if os.environ.get("WITHOUT") == "states" else super()._states()

    def step(self) -> dict[str, Any]:
        self._note("begun", len(self.fine_tuning.history) + 1)
        time.sleep(float(os.environ.get("SLOW_S", "0")))
        return super().step()

    def _keep(self) -> None:
        self._note("trained", len(self.fine_tuning.history))
        super()._keep()

    def _note(self, what: str, epoch: int) -> None:
        with Path(os.environ["LEDGER"]).open("a") as ledger:
            ledger.write(f"{self._number} {epoch} {what}\n")


# Controls


def take_away(protection: str) -> None:
    """Break what makes a killed sweep go on as if nothing had happened."""
    import tune.sweep.proposals
    from tune.sweep.queue import NextTrial
    from tune.sweep.trial_book import TrialBook

    if protection == "history":  # only the last epoch is recorded, as most tools do
        record = TrialBook.record_epochs

        def last_only(book: TrialBook, number: int, history: Any) -> None:
            record(book, number, history[-1:])

        TrialBook.record_epochs = last_only  # type: ignore[method-assign]
    if protection == "reissue":  # what was left open is asked for anew
        begin = TrialBook.__init__

        def without(book: TrialBook, *arguments: Any) -> None:
            begin(book, *arguments)
            queue, forgotten = book._queue, len(book._queue._again)
            queue._begun -= forgotten
            queue._again = []
            following = queue._next

            def numbered() -> NextTrial | None:
                trial = following()  # the study still counts those that were forgotten
                return replace(trial, number=trial.number + forgotten) if trial and trial.is_new else trial

            queue._next = numbered  # type: ignore[method-assign]

        TrialBook.__init__ = without  # type: ignore[method-assign]
    if protection == "seeds":  # a sampler seeded by each start
        derived = tune.sweep.proposals.derived_seed

        def by_process(seed: int, number: int, what: str) -> int:
            return derived(os.getpid() if what.startswith("sampler") else seed, number, what)

        tune.sweep.proposals.derived_seed = by_process


def main() -> int:
    """The command line, with the points."""
    import tune.sweep.run_trials
    from tune.search import main as search

    os.environ[DRIVER] = str(os.getpid())
    watch_driver()
    take_away(os.environ.get("WITHOUT", ""))
    tune.sweep.run_trials.FineTuningTrial = KilledTrial  # type: ignore[misc]
    return search()


def serve() -> None:
    """Start a driver for every line of input: writes its process id, and how it ended once it has."""
    for module in (
        "ray.tune",
        "torch",
        "transformers",
        "datasets",
        "tune.prepare.check",
        "tune.sweep.run_trials",
        "tune.report.files",
    ):
        importlib.import_module(module)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            run_driver(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def run_driver(request: dict[str, Any]) -> None:
    """Become a driver: its own session, working directory, environment and output."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, stream)
    sys.argv = ["tune.search", *request["argv"]]
    code = 1
    try:
        code = main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    from tests.faults import killed  # workers import the class by this name

    if sys.argv[1:] == ["--serve"]:
        killed.serve()
    else:
        raise SystemExit(killed.main())
