"""The real command line with a Trainable that breaks where a test wants, and a ledger of every epoch really trained.

FAULTS: a JSON list of {"what": ..., "trial": N, "epoch": N, "times": how often, "while": a file that is there} in the
    environment
LEDGER: a file that gets a line "trial epoch pid host time" for every epoch that was trained to its end
SHORTEST_LIMIT_S: instead of the shortest time, seconds, for which a worker may finish nothing
NOTICE_AFTER_S, NOTICE_EVERY_S: instead of how long, seconds, nothing may run before it is told, and told again
WATCH: "off" for a sweep that does not watch whether Ray lives

    python -m tests.faults.broken FLAGS
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import trainable.train.pulse
from trainable.job import Job
from trainable.trial import FineTuningTrial

MISSING = object()
BAD_VALUES: dict[str, Any] = {
    "nan": float("nan"), "infinity": float("inf"), "none": None, "text": "0.5", "missing": MISSING,
}  # fmt: skip


class BrokenTrial(FineTuningTrial):
    """Breaks in the middle of the epochs that FAULTS names; everything else is real."""

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        if "SHORTEST_LIMIT_S" in os.environ:
            for name in ("SHORTEST_LIMIT_S", "FIRST_LIMIT_S"):
                setattr(trainable.train.pulse, name, float(os.environ["SHORTEST_LIMIT_S"]))
        super().setup(config, job)

    def step(self) -> dict[str, Any]:
        run = self.fine_tuning
        epoch = len(run.history) + 1
        due = [fault for fault in json.loads(os.environ.get("FAULTS", "[]")) if self._is_due(fault, epoch)]
        take = run.take_training
        try:
            for fault in due:
                if fault["what"] in IN_THE_MIDDLE:
                    run.take_training = on_second_call(take, IN_THE_MIDDLE[fault["what"]])  # type: ignore[method-assign]
                if fault["what"] == "slow steps":
                    run.take_training = slowly(take, fault["seconds"])  # type: ignore[method-assign]
                if fault["what"] == "slow":
                    time.sleep(fault["seconds"])
            result = super().step()
        finally:
            run.take_training = take  # type: ignore[method-assign]
        if "epoch" in result:
            with Path(os.environ["LEDGER"]).open("a") as ledger:
                ledger.write(f"{self._number} {epoch} {os.getpid()} {os.uname().nodename} {time.time()}\n")
        for fault in due:
            if fault["what"] in BAD_VALUES:
                result[fault.get("metric", "f1")] = BAD_VALUES[fault["what"]]
        return {name: value for name, value in result.items() if value is not MISSING}

    def _is_due(self, fault: dict[str, Any], epoch: int) -> bool:
        if fault.get("trial", self._number) != self._number or fault.get("epoch", epoch) != epoch:
            return False
        if "while" in fault and not Path(fault["while"]).exists():
            return False
        happened = Path(f"{os.environ['LEDGER']}.{fault['what']}.{self._number}")
        times = len(happened.read_text()) if happened.exists() else 0
        if times >= fault.get("times", 1_000_000):
            return False
        with happened.open("a") as file:
            file.write("x")
        return True


def on_second_call(take: Callable[..., Any], break_it: Callable[[], Any]) -> Callable[..., Any]:
    calls = 0

    def taking(rows: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            break_it()
        return take(rows)

    return taking


def slowly(take: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def taking(rows: Any) -> Any:
        time.sleep(seconds)
        return take(rows)

    return taking


def hang() -> None:
    while True:
        time.sleep(3600)


def freeze() -> None:
    """Stop the whole process, as a debugger or a scheduler does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def eat() -> None:
    """Take 4 GB, and leave Ray's memory monitor the time to see it."""
    taken = b"x" * 4_000_000_000
    time.sleep(20)
    raise AssertionError(f"nobody minded {len(taken)} bytes")


def raise_(error: BaseException) -> Callable[[], None]:
    def break_it() -> None:
        raise error

    return break_it


IN_THE_MIDDLE: dict[str, Callable[[], Any]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "freeze": freeze,
    "eat": eat,
    "raise": raise_(RuntimeError("the disk spoke in tongues")),
    "exit": raise_(SystemExit(3)),
    "interrupt": raise_(KeyboardInterrupt()),
    "odd": raise_(type("OddError", (Exception,), {})("an error without a home")),
    "memory": raise_(MemoryError("no room")),
    "cuda memory": raise_(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
}


def main() -> int:
    """The command line, with the broken Trainable."""
    import tune.cluster.alive
    import tune.cluster.waiting_notice
    import tune.sweep.heartbeats
    import tune.sweep.run_trials
    from tune.search import main as search

    for name in ("NOTICE_AFTER_S", "NOTICE_EVERY_S"):
        if name in os.environ:
            setattr(tune.cluster.waiting_notice, name, float(os.environ[name]))
    if "SHORTEST_LIMIT_S" in os.environ:
        tune.sweep.heartbeats.SILENT_LIMIT_S = float(os.environ["SHORTEST_LIMIT_S"])
    if os.environ.get("WATCH") == "off":
        tune.cluster.alive.what_died = lambda: None
    tune.sweep.run_trials.FineTuningTrial = BrokenTrial  # type: ignore[misc]
    return search()


if __name__ == "__main__":
    from tests.faults.broken import main as importable_main  # workers import the class by this name

    raise SystemExit(importable_main())
