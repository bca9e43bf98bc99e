"""Run the trials that remain: the only caller of ray.tune.Tuner. Ray executes, the study remembers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune import Callback, CheckpointConfig, RunConfig, TuneConfig, Tuner

from trainable.config import Job
from trainable.devices import EncoderShape, measure_precision
from trainable.plain import one_line, plain
from trainable.storage import write_text
from trainable.trial import FineTuningTrial
from tune.auth import no_keys_in_actors
from tune.cluster import temporary_folder
from tune.plan import Plan
from tune.progress import Progress, short
from tune.rundir import RunDir
from tune.scheduler import ShareHalving, ShareScheduler
from tune.searcher import StudySearcher, TrialBook
from tune.spec import SweepSpec
from tune.tensorboard import TensorBoardLog


def where_trials_run(plan: Plan, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on a machine and with a share as trials have, and wait for what it returns.

    Where trials run on this machine's cores, that is here: another process would only cost its start.
    """
    if plan.local_cores is not None:
        return function(*arguments)
    remote = ray.remote(num_cpus=plan.cpus_per_trial, num_gpus=plan.gpus_per_trial, max_retries=0)(function)
    return ray.get(remote.remote(*arguments))


def choose_precision(spec: SweepSpec, plan: Plan, shape: EncoderShape) -> tuple[str, str]:
    """bf16 or fp32, and why: as asked for, or the faster one by measurement."""
    if spec.precision != "auto":
        return spec.precision, "as asked for"
    seconds = where_trials_run(plan, measure_precision, shape, plan.threads, plan.gpus_per_trial > 0)
    chosen = "bf16" if seconds["bf16"] < 0.95 * seconds["fp32"] else "fp32"
    return chosen, f"measured a layer: bf16 {seconds['bf16'] * 1000:.1f} ms, fp32 {seconds['fp32'] * 1000:.1f} ms"


def run_trials(
    spec: SweepSpec,
    plan: Plan,
    job: Job,
    run_dir: RunDir,
    book: TrialBook,
    progress: Progress,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run every trial that the book still has to issue; returns when the last one is closed.

    meanwhile: called in a thread of its own when the last trial was handed out
    """
    if book.remaining == 0:
        return
    halving = ShareHalving(spec.mode, spec.reduction_factor) if spec.scheduler == "asha" else None
    if halving is not None:
        for record in book.records():
            for epoch in record.epochs:
                halving.report(record.number, epoch["schedule_percent"], epoch[spec.metric], epoch["loss"])
    trainable = tune.with_resources(
        tune.with_parameters(FineTuningTrial, job=job), {"cpu": plan.cpus_per_trial, "gpu": plan.gpus_per_trial}
    )
    # Tune writes pickles of its own; they live as long as this call, outside the run directory.
    with temporary_folder() as storage, no_keys_in_actors():
        Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=StudySearcher(book, meanwhile),
                scheduler=ShareScheduler(spec.metric, halving),
                num_samples=book.remaining,
                max_concurrent_trials=plan.slots,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial_{trial.config['number']}",
                trial_dirname_creator=lambda trial: f"{trial.config['number']}-{uuid.uuid4().hex[:8]}",
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=str(storage),
                verbose=0,
                callbacks=[SweepCallback(run_dir, book, progress)],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        ).fit()


class SweepCallback(Callback):
    """Every event of every trial, told in one order: study, TensorBoard, user."""

    def __init__(self, run_dir: RunDir, book: TrialBook, progress: Progress) -> None:
        self._run_dir = run_dir
        self._book = book
        self._progress = progress
        self._tensorboard = TensorBoardLog(run_dir)
        self._open: set[int] = set()
        self._closed: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into a snapshot that nobody reads

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker took the trial."""
        number = trial.config["number"]
        self._open.add(number)
        self._tensorboard.start(number, trial.config["values"])
        self._progress.started(number, trial.config["values"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch came in."""
        if "failure" in result:
            return
        number = trial.config["number"]
        where = {name: result[name] for name in ("hostname", "pid", "start_s", "bytes_written")}
        self._book.record_epochs(number, [{**metrics, **where} for metrics in result["history"]])
        self._tensorboard.epoch(number, result)
        self._progress.epoch(number, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's schedule is done, or it was stopped early, or it reported its own failure."""
        result = trial.last_result
        if "failure" in result:
            self._fail(trial, result["failure"], result["failure"])
        elif result["schedule_percent"] >= 100:
            self._close(trial, TrialState.COMPLETE)
        else:
            self._close(trial, TrialState.PRUNED)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial raised, or its worker died."""
        file = Path(trial.error_file) if trial.error_file else None
        text = file.read_text(encoding="utf-8") if file and file.is_file() else "the worker died without a word"
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # Ray colours its tracebacks
        self._fail(trial, text, text.strip().rpartition("\n")[2] or "no reason was given")

    def _fail(self, trial: Any, text: str, reason: str) -> None:
        text, reason = plain(text), one_line(reason)
        number, values = trial.config["number"], trial.config["values"]
        where = self._run_dir.failure(number)
        where.parent.mkdir(parents=True, exist_ok=True)
        write_text(where, f"{text.rstrip()}\n\nconfiguration: {short(values)}\nseed: {trial.config['seed']}\n")
        self._progress.failed(number, values, text, where)
        self._close(trial, TrialState.FAIL, reason)

    def _close(self, trial: Any, state: TrialState, failure: str | None = None) -> None:
        number = trial.config["number"]
        if number in self._closed:  # Tune reports an error in this very method as the trial's
            return
        self._closed.add(number)
        record = self._book.finish(number, state, failure)
        if number in self._open:  # a worker that dies while it starts never took the trial
            self._open.remove(number)
            self._tensorboard.finish(number)
        self._progress.finished(record, self._book.leader)
