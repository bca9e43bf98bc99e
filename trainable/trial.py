"""The Ray adapter: Tune's class Trainable around a FineTuningRun. One step is one epoch.

This is the only module of `trainable` that knows Ray. Tune's configuration of a trial is {"assignment": Assignment}.
What a step returns is a flat dict, since Tune adds keys of its own to it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.tune import Trainable
from safetensors import SafetensorError

from trainable.errors import OutOfMemory, TrialFailed
from trainable.job import Assignment, Job, with_model_at_hand
from trainable.train.memory import is_out_of_memory
from trainable.train.run import FineTuningRun

STUCK = "stuck.txt"  # in a trial's folder: the traceback of an epoch that took too long
TOO_LONG = 2.0  # an epoch is stuck after this many times the time that earlier epochs took
SHORTEST_LIMIT_S = 30.0  # no epoch is stuck before: on a busy machine a short epoch may take many times its usual time
STATE_PREFIX = "epoch-"  # "epoch-3" holds the state after epoch 3


class FineTuningTrial(Trainable):
    """Trains the trial that it is assigned, and then the next one in the same warm worker.

    Tune's own checkpoints are off. The trial's folder holds its newest whole state, and its model while the trial may
    still win.

    A failure that would come again in any worker (a loss that is not finite, memory, a full disk) is reported as a
    result: {"failure": reason, "kind": "failed", "memory" or "storage"}. If a trial raised, Tune would end its worker.
    """

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """Load model and data, once for each worker, then begin the first trial."""
        if job is None:
            raise ValueError("FineTuningTrial needs its job: tune.with_parameters(FineTuningTrial, job=...)")
        assignment: Assignment = config["assignment"]
        job = with_model_at_hand(job, ray.get)
        self._trial_storage = job.storage  # Tune's class has a `_storage` of its own
        if job.incumbent_file is not None:
            job = replace(job, incumbent_file=str(job.storage.here(Path(job.incumbent_file))))
        gpus = min(1.0, job.gpus_per_trial * assignment.memory_multiplier)
        self.fine_tuning = FineTuningRun(replace(job, gpus_per_trial=gpus))
        self._begin(assignment)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self._begin(new_config["assignment"])
        return True

    def _begin(self, assignment: Assignment) -> None:
        """Start the trial anew, or go on from the newest state that is whole and this trial's."""
        began = time.perf_counter()
        self._number = assignment.number
        self._folder = self._trial_storage.here(Path(assignment.folder))
        self._epoch_s = assignment.epoch_s
        run = self.fine_tuning
        run.reset(assignment.config, assignment.seed)
        for state in reversed(self._states()):
            found = self._trial_storage.fetch(state) and run.load_state(state)
            self._trial_storage.forget(state)
            if found:
                break
        self._state_written = time.monotonic()
        self._bytes_written = 0
        self._start_s = time.perf_counter() - began

    def step(self) -> dict[str, Any]:
        """Run one epoch, then write what must be kept of it."""
        run = self.fine_tuning
        try:
            with self._ended_when_stuck():
                run.next_epoch()
        except OutOfMemory as error:
            return {"failure": str(error), "kind": "memory", "done": True}
        except TrialFailed as error:
            return {"failure": str(error), "kind": "failed", "done": True}
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return {"failure": f"out of memory: {error}", "kind": "memory", "done": True}
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the process and look like its death
            raise RuntimeError(f"the trial raised {error!r}") from error
        try:
            self._keep()
        except (OSError, SafetensorError) as error:
            return {"failure": f"can't write below {self._folder}: {error}", "kind": "storage", "done": True}
        # The whole history, since a driver that died may have missed epochs that the state knows.
        return {
            **run.history[-1].as_json(),
            "history": [epoch.as_json() for epoch in run.history],
            "start_s": self._start_s,
            "bytes_written": self._bytes_written,
            "done": run.done,
        }

    def _keep(self) -> None:
        """Write the model at the trial's end, before that a state from time to time."""
        run = self.fine_tuning
        if run.done:
            if self._can_win():
                self._bytes_written += run.write_best(self._folder / "model")
                self._trial_storage.publish(self._folder / "model", keep=False)
        elif time.monotonic() - self._state_written >= run.job.state_interval_s:
            self._write_state()

    @contextlib.contextmanager
    def _ended_when_stuck(self) -> Iterator[None]:
        """End this process where an epoch takes much longer than earlier ones; a file then holds its traceback.

        faulthandler does it in a C thread, which works even while Python or a library waits for ever.
        """
        known = [epoch.seconds for epoch in self.fine_tuning.history]
        expected_s = max(known) if known else self._epoch_s
        if expected_s is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            file: Any = sys.__stderr__
            with contextlib.suppress(OSError):  # whether the disk is full shows where something must be written
                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((self._folder / STUCK).open("w"))
            faulthandler.dump_traceback_later(max(SHORTEST_LIMIT_S, TOO_LONG * expected_s), exit=True, file=file)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                with contextlib.suppress(OSError):
                    (self._folder / STUCK).unlink(missing_ok=True)

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
        folders = self._trial_storage.folders(self._folder / "state")
        epochs = [name.removeprefix(STATE_PREFIX) for name in folders if name.startswith(STATE_PREFIX)]
        return [self._state(epoch) for epoch in sorted((e for e in epochs if e.isdecimal()), key=int)]

    def _state(self, epoch: object) -> Path:
        return self._folder / "state" / f"{STATE_PREFIX}{epoch}"

    def _write_state(self) -> None:
        """Write a new state, then remove the older ones."""
        run = self.fine_tuning
        new, older = self._state(len(run.history)), self._states()
        self._bytes_written += run.save_state(new)
        self._trial_storage.publish(new, keep=False)
        for folder in older:
            if folder != new:  # a damaged state of the same name was replaced
                self._trial_storage.remove(folder)  # a worker on a node that was frozen may be removing it too
        self._state_written = time.monotonic()

    def _can_win(self) -> bool:
        """Whether this trial beats the best trial that the driver knew when it last wrote the incumbent file.

        Of equal trials the smaller number wins. This is the order of `tune.run_dir.ranking.rank`: with another order
        the winner's model could be missing.
        """
        run = self.fine_tuning
        if run.best is None:
            return False
        if run.job.incumbent_file is None:
            return True
        try:
            incumbent = json.loads(self._trial_storage.read_text(Path(run.job.incumbent_file)))
            return (*run.merit(run.best), -self._number) > (*incumbent["merit"], -incumbent["trial"])
        except (OSError, ValueError, TypeError, KeyError):
            return True  # the file is not there yet, or damaged; the driver decides, and removes the model that lost
