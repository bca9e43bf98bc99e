"""What a trial costs the driver: many trials on two slots, of a trainable that computes its score from a formula.

    python -m benchmarks.many_trials OUT [TRIALS [bare]]

With `bare`, the same trainable runs under Ray Tune alone: random search and reused actors, without study, table, curves
or report.

It prints one line of JSON: milliseconds a trial over all trials, over the first 200 and over the last 200; the driver's
memory and open files after the first 200 and at the end; and which processes and threads still run after the sweep.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from trainable.config import TrialConfig
from trainable.data.tokens import TokenizedSplit
from trainable.job import Assignment, Job
from trainable.trial import FineTuningTrial


class FormulaTrial(FineTuningTrial):
    """A trial that does everything except train."""

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """Load neither a model nor data."""
        self.reset_config(config)

    def _begin(self, assignment: Assignment) -> None:
        self._config = assignment.config

    def step(self) -> dict[str, Any]:
        """Report the only epoch."""
        f1 = 1.0 / (1.0 + abs(np.log(self._config.learning_rate / 3e-5)))
        metrics = {
            "epoch": 1, "schedule_percent": 100.0, "train_loss": 1 - f1, "loss": 1 - f1, "accuracy": f1, "f1": f1,
            "matthews_correlation": f1, "collapsed": False, "learning_rate": 0.0, "examples_per_second": 0.0,
            "began_at": 0.0, "train_s": 0.0, "eval_s": 0.0, "peak_memory_mib": 0.0,
        }  # fmt: skip
        return {**metrics, "history": [metrics], "start_s": 0.0, "bytes_written": 0, "done": True}


class BareTrial(FormulaTrial):
    """The same for Ray Tune alone, which hands over the hyperparameters without an assignment."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self._config = TrialConfig.from_values(new_config)
        return True


def run_bare(out: Path, trials: int) -> None:
    """Measure what a trial costs under Ray Tune alone."""
    from ray import tune

    from tune.cluster.connect import connected
    from tune.spec.sweep_spec import SweepSpec

    ended: list[float] = []

    class Clock(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ended.append(time.time())

    with connected(SweepSpec(name="bare", model="none", dataset="none", num_cpus=2)):
        tune.Tuner(
            tune.with_resources(BareTrial, {"cpu": 1}),
            param_space={"learning_rate": tune.loguniform(1e-6, 1e-3), "epochs": 1},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(
                name="bare",
                storage_path=str(out.absolute()),
                verbose=0,
                callbacks=[Clock()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    print(json.dumps({"trials": trials, "ms_a_trial": 1000 * (ended[-1] - ended[0]) / (len(ended) - 1)}))


def resident_mib() -> float:
    """Return the resident memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def child_processes() -> list[str]:
    """Return the names of the child processes that still run."""
    names = []
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            with contextlib.suppress(OSError):
                name, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rsplit(")", 1)
                names += [name] if state.split()[0] != "Z" else []
    return names


def main(out: Path, trials: int) -> None:
    """Run a sweep of such trials and print the figures."""
    import tune.sweep.run_trials
    from tune.cluster.connect import connected
    from tune.cluster.plan import make_plan
    from tune.report.progress import Progress
    from tune.report.score_logs import ScoreLogs
    from tune.report.tensorboard import TensorBoardLog
    from tune.run_dir.layout import RunDir
    from tune.run_dir.records import TrialRecord
    from tune.spec.space import parse_domain
    from tune.spec.sweep_spec import SweepSpec
    from tune.sweep.trial_book import TrialBook

    space = {"learning_rate": parse_domain("learning_rate", "log:1e-6..1e-3"), "epochs": parse_domain("epochs", "1")}
    spec = SweepSpec(
        name="formula", model="none", dataset="none", space=space, num_trials=trials, num_cpus=2, scheduler="none"
    )
    empty = TokenizedSplit(np.zeros(0, np.int32), np.zeros(1, np.int64), None, np.zeros(0, np.int64))
    run_dir = RunDir(out)
    tune.sweep.run_trials.FineTuningTrial = FormulaTrial  # type: ignore[attr-defined]
    memory: list[float] = []
    files: list[int] = []
    threads_before = threading.active_count()

    class Watched(Progress):
        def finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
            super().finished(record, best)
            memory.append(resident_mib())
            files.append(open_files())

    with connected(spec) as nodes, run_dir.locked():
        plan = make_plan(spec, nodes, [])
        book = TrialBook(spec, run_dir)
        with Watched(spec, run_dir.log_file, out=StringIO()) as progress:
            job = Job("none", ("a", "b"), empty, empty, 0)
            tune.sweep.run_trials.run_trials(
                spec, plan, job, run_dir, book, progress, ScoreLogs([TensorBoardLog(run_dir)])
            )
    ended = sorted(t.datetime_complete.timestamp() for t in book.study.trials if t.datetime_complete)
    edge = min(200, trials // 3)

    def milliseconds(first: int, last: int) -> float:
        return 1000 * (ended[last] - ended[first]) / (last - first)

    print(json.dumps({
        "trials": trials,
        "ms_a_trial": milliseconds(0, trials - 1),
        "ms_first": milliseconds(0, edge - 1),
        "ms_last": milliseconds(trials - edge, trials - 1),
        "memory_mib_early": memory[edge - 1],
        "memory_mib_end": memory[-1],
        "files_early": files[edge - 1],
        "files_end": files[-1],
        "threads_before": threads_before,
        "threads_after": threading.active_count(),
        "processes_after": child_processes(),
    }))  # fmt: skip


if __name__ == "__main__":
    from benchmarks import many_trials  # workers import the classes by this name

    count = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    (many_trials.run_bare if sys.argv[3:] == ["bare"] else many_trials.main)(Path(sys.argv[1]), count)
