"""The Ray adapter: Tune's class Trainable around a FineTuningRun. One step is one segment: an epoch, or a part.

This is the only module of `trainable` that knows Ray. Tune's configuration of a trial is {"assignment": Assignment}.
What a step returns is a flat dict, since Tune adds keys of its own to it.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.tune import Trainable
from safetensors import SafetensorError

from trainable.epoch_scores import EpochScores
from trainable.errors import OutOfMemory, TrialFailed, WeightsMissing
from trainable.heartbeat import Heartbeat
from trainable.job import Assignment, Job, with_model_at_hand
from trainable.storage.predictions import PREDICTIONS, write_array
from trainable.train.devices import device_name
from trainable.train.memory import is_out_of_memory
from trainable.train.pulse import Pulse
from trainable.train.run import FineTuningRun

# "epoch-3" holds the state after epoch 3, and "epoch-3-step-120" that after 120 steps of the next epoch.
STATE_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")


class FineTuningTrial(Trainable):
    """Trains the trial that it is assigned, and then the next one in the same warm worker.

    Tune's own checkpoints are off. The trial's folder holds its newest whole state, and its model while the trial may
    still win.

    Some failures would come again in any worker: a loss that is not finite, memory, a full disk, a model that lacks
    weights. They are reported as a result: {"failure": reason, "kind": "failed", "memory", "storage" or "model"}. If a
    trial raised, Tune would end its worker. Of what is raised while it is set up, Ray would pass on the text alone.
    """

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """Load model and data, once for each worker, then begin the first trial."""
        if job is None:
            raise ValueError("FineTuningTrial needs its job: tune.with_parameters(FineTuningTrial, job=...)")
        assignment: Assignment = config["assignment"]
        self._number = assignment.number
        self._pulse = Pulse()
        self._busy = threading.RLock()  # held while the run or its files change
        self._heartbeat = Heartbeat(self._pulse, job.heartbeats, lambda: self._number, self._stop)
        self._heartbeat.start()
        self._job, self._loaded = job, False
        self._begin(assignment)

    def _load(self, assignment: Assignment) -> None:
        job = with_model_at_hand(self._job, ray.get)
        self._trial_storage = job.storage  # Tune's class has a `_storage` of its own
        if job.incumbent_file is not None:
            job = replace(job, incumbent_file=str(job.storage.here(Path(job.incumbent_file))))
        gpus = min(1.0, job.gpus_per_trial * assignment.memory_multiplier)
        self.fine_tuning = FineTuningRun(replace(job, gpus_per_trial=gpus), self._pulse)
        self._loaded = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self._begin(new_config["assignment"])
        return True

    def cleanup(self) -> None:
        """End the worker's heartbeat with the worker."""
        self._heartbeat.end()

    def _begin(self, assignment: Assignment) -> None:
        """Start the trial anew, or go on from the newest state that is whole and this trial's."""
        with self._busy, self._pulse.doing("loading"):
            self._failure: dict[str, Any] | None = None  # is reported by the first step
            try:
                if not self._loaded:
                    self._load(assignment)
                self._begin_or_go_on(assignment)
            except Exception as error:
                self._failure = failure_to_report(error)
                if self._failure is None:
                    raise

    def _begin_or_go_on(self, assignment: Assignment) -> None:
        began = time.perf_counter()
        self._number = assignment.number
        self._heartbeat.show()  # whose worker this is now
        self._folder = self._trial_storage.here(Path(assignment.folder))
        run = self.fine_tuning
        self._confirms = assignment.confirms is not None
        run.reset(assignment.config, assignment.seed, with_rungs=not self._confirms)
        for state in reversed(self._states()):
            found = self._trial_storage.fetch(state) and run.load_state(state)
            self._trial_storage.forget(state)
            if found:
                break
        self._state_written = time.monotonic()
        self._steps_written = run.steps
        self._bytes_written = 0
        self._predictions_of: int | None = None  # the epoch
        self._start_s = time.perf_counter() - began

    def step(self) -> dict[str, Any]:
        """Run one segment, then write what must be kept of it."""
        with self._busy:
            return self._step()

    def _step(self) -> dict[str, Any]:
        if self._failure is not None:
            return self._failure
        run = self.fine_tuning
        limit_s = run.job.state_interval_s or math.inf
        started = time.monotonic()
        try:
            with self._pulse.doing("training"):
                scored = run.next_segment(lambda: self._pulse.stop_asked or time.monotonic() - started >= limit_s)
        except Exception as error:
            failure = failure_to_report(error)
            if failure is None:
                raise
            return failure
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the process and look like its death
            raise RuntimeError(f"the trial raised {error!r}") from error
        try:
            with self._pulse.doing("writing"):
                self._keep()
        except (OSError, SafetensorError) as error:
            return {"failure": f"can't write below {self._folder}: {error}", "kind": "storage", "done": True}
        curve = [point.as_json() for point in run.curve]
        if scored is None:  # nothing was scored, so there is nothing to be told of but that the trial got on
            return {"segment": run.steps, "curve": curve, "done": False}
        # All that was scored, since a driver that died may have missed what the state knows.
        rungs = [rung.as_json() for rung in run.rungs]
        reported: dict[str, Any] = {"segment": run.steps, "curve": curve, "rungs": rungs}
        if not isinstance(scored, EpochScores):
            return reported | {"done": False}
        return {
            **reported,
            **scored.as_json(),
            "f1_by_class": run.f1_by_class,
            "history": [epoch.as_json() for epoch in run.history],
            "start_s": self._start_s,
            "bytes_written": self._bytes_written,
            "device": device_name(run.device),
            "threads": run.job.threads,
            "torch": torch.__version__,
            "done": run.done,
        }

    def _keep(self) -> None:
        """Write what the best epoch predicts; the model at the trial's end, before that a state from time to time."""
        run = self.fine_tuning
        if run.best is not None and run.best_predictions is not None and run.best.epoch != self._predictions_of:
            file = self._folder / PREDICTIONS
            file.parent.mkdir(parents=True, exist_ok=True)
            self._bytes_written += write_array(file, run.best_predictions.cpu().numpy())
            self._trial_storage.publish(file)
            self._predictions_of = run.best.epoch
        if run.done:
            if self._can_win():
                self._bytes_written += run.write_best(self._folder / "model")
                self._trial_storage.publish(self._folder / "model", keep=False)
        elif time.monotonic() - self._state_written >= run.job.state_interval_s:
            self._write_state()

    def _stop(self) -> None:
        """Write the trial's state where it stands, as soon as its segment has ended: the sweep is being stopped."""
        with self._busy, self._pulse.doing("writing"):
            if self._failure is None and not self.fine_tuning.done and self.fine_tuning.steps > self._steps_written:
                self._write_state()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the whole state into a folder that Tune names."""
        self.fine_tuning.save_state(Path(checkpoint_dir) / "state")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what `save_checkpoint` wrote.

        Raises:
            ValueError: The state is damaged, or another trial's.
        """
        if not self.fine_tuning.load_state(Path(str(checkpoint)) / "state"):
            raise ValueError(f"{checkpoint} holds no valid state of this trial")

    def _states(self) -> list[Path]:
        """This trial's state folders, oldest first. Whatever else lies beside them is left alone."""
        named = map(STATE_NAME.fullmatch, self._trial_storage.folders(self._folder / "state"))
        found = sorted((int(match[1]), int(match[2] or 0), match[0]) for match in named if match is not None)
        return [self._folder / "state" / name for _, _, name in found]

    def _state(self) -> Path:
        """Where the state of now is written."""
        begun = self.fine_tuning.begun
        step = f"-step-{begun.steps}" if begun is not None else ""
        return self._folder / "state" / f"epoch-{len(self.fine_tuning.history)}{step}"

    def _write_state(self) -> None:
        """Write a new state, then remove the older ones."""
        run = self.fine_tuning
        new, older = self._state(), self._states()
        self._bytes_written += run.save_state(new)
        self._trial_storage.publish(new, keep=False)
        for folder in older:
            if folder != new:  # a damaged state of the same name was replaced
                self._trial_storage.remove(folder)  # a worker on a node that was frozen may be removing it too
        self._state_written = time.monotonic()
        self._steps_written = run.steps

    def _can_win(self) -> bool:
        """Whether this trial beats the best trial that the driver knew when it last wrote the incumbent file.

        Of equal trials the smaller number wins. This is the order of `tune.run_dir.ranking.rank`: with another order
        the winner's model could be missing.
        """
        run = self.fine_tuning
        if run.best is None:
            return False
        if self._confirms or run.job.incumbent_file is None:
            return True
        try:
            incumbent = json.loads(self._trial_storage.read_text(Path(run.job.incumbent_file)))
            return (*run.merit(run.best), -self._number) > (*incumbent["merit"], -incumbent["trial"])
        except (OSError, ValueError, TypeError, KeyError):
            return True  # the file is not there yet, or damaged; the driver decides, and removes the model that lost


def failure_to_report(error: Exception) -> dict[str, Any] | None:
    """What a worker reports of an error that would come again in any worker; None of other errors."""
    match error:
        case OutOfMemory():
            kind, reason = "memory", str(error)
        case WeightsMissing():
            kind, reason = "model", str(error)
        case TrialFailed():
            kind, reason = "failed", str(error)
        case _ if is_out_of_memory(error):
            kind, reason = "memory", f"out of memory: {error}"
        case _:
            return None
    return {"failure": reason, "kind": kind, "done": True}
