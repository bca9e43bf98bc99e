"""The Ray adapter: a class Trainable around FineTuningRun, one epoch per step, warm from trial to trial."""

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

STUCK = "stuck.txt"  # where an epoch that took too long stood
TOO_LONG = 2.0  # times as long as earlier epochs suggest
SHORTEST_LIMIT_S = 30.0  # a busy machine holds up short epochs by more than their own length


class FineTuningTrial(Trainable):
    """Trains the trial that Tune's config names.

    Tune's config is {"assignment": Assignment}.

    Tune's own checkpoints are off: the folder holds the newest whole state, and the model while it may still win.
    A trial that fails by its nature reports {"failure": reason, "kind": "failed", "memory" or "storage"}, so that its
    worker stays warm.
    """

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """Load model and data (once per worker), then begin the first trial."""
        if job is None:
            raise ValueError("FineTuningTrial needs its job: tune.with_parameters(FineTuningTrial, job=...)")
        job = with_model_at_hand(job, ray.get)
        self._files = job.storage
        if job.incumbent_file is not None:
            job = replace(job, incumbent_file=str(job.storage.here(Path(job.incumbent_file))))
        self.fine_tuning = FineTuningRun(
            replace(job, gpus_per_trial=min(1.0, job.gpus_per_trial * config["assignment"].memory_multiplier))
        )
        self._begin(config["assignment"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self._begin(new_config["assignment"])
        return True

    def _begin(self, assignment: Assignment) -> None:
        began = time.perf_counter()
        self._number = assignment.number
        self._folder = self._files.here(Path(assignment.folder))
        self._epoch_s = assignment.epoch_s
        run = self.fine_tuning
        run.reset(assignment.config, assignment.seed)
        for state in reversed(self._states()):
            found = self._files.fetch(state) and run.load_state(state)
            self._files.forget(state)
            if found:
                break
        self._state_written = time.monotonic()
        self._bytes_written = 0
        self._start_s = time.perf_counter() - began

    def step(self) -> dict[str, Any]:
        """One epoch, and what is to be kept of it on disk."""
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
        except (SystemExit, KeyboardInterrupt) as error:  # would end the process and look like its death
            raise RuntimeError(f"the trial raised {error!r}") from error
        try:
            self._keep()
        except (OSError, SafetensorError) as error:
            return {"failure": f"can't write below {self._folder}: {error}", "kind": "storage", "done": True}
        # The whole history: a driver that died may have missed epochs that a state holds.
        return {
            **run.history[-1].as_json(),
            "history": [result.as_json() for result in run.history],
            "start_s": self._start_s,
            "bytes_written": self._bytes_written,
            "done": run.done,
        }

    def _keep(self) -> None:
        run = self.fine_tuning
        if run.done:
            if self._can_win():
                self._bytes_written += run.write_best(self._folder / "model")
                self._files.publish(self._folder / "model", keep=False)
        elif time.monotonic() - self._state_written >= run.job.state_interval_s:
            self._write_state()

    @contextlib.contextmanager
    def _ended_when_stuck(self) -> Iterator[None]:
        """End this process, with a traceback in a file, where an epoch takes much longer than others did.

        By a thread of the interpreter's own that works whatever Python or a library under it is waiting for.
        """
        known = [result.seconds for result in self.fine_tuning.history]
        expected_s = max(known) if known else self._epoch_s
        if expected_s is None:
            yield
            return
        with contextlib.ExitStack() as stack:
            file: Any = sys.__stderr__
            with contextlib.suppress(OSError):  # a full disk is told where something must be written
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
        """Write the whole state into a folder of Tune's."""
        self.fine_tuning.save_state(Path(checkpoint_dir) / "state")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what `save_checkpoint` wrote. Raises ValueError where it is damaged or another trial's."""
        if not self.fine_tuning.load_state(Path(str(checkpoint)) / "state"):
            raise ValueError(f"{checkpoint} holds no valid state of this trial")

    def _states(self) -> list[Path]:
        """State folders, oldest first; what else lies there is not ours."""
        names = self._files.folders(self._folder / "state")
        ours = [name for name in names if name.startswith("epoch-") and name[6:].isdecimal()]
        return [self._folder / "state" / name for name in sorted(ours, key=lambda name: int(name[6:]))]

    def _write_state(self) -> None:
        run = self.fine_tuning
        new, older = self._folder / "state" / f"epoch-{len(run.history)}", self._states()
        self._bytes_written += run.save_state(new)
        self._files.publish(new, keep=False)
        for folder in older:
            if folder != new:  # a damaged one of that name was replaced
                self._files.remove(folder)  # a worker on a node that was frozen may remove them too
        self._state_written = time.monotonic()

    def _can_win(self) -> bool:
        """Whether this trial beats the best one that the driver has seen finish; of equals the smaller number wins.

        The same order as tune.run_dir.ranking.rank, or the winner's model would be missing.
        """
        run = self.fine_tuning
        if run.best is None:
            return False
        if run.job.incumbent_file is None:
            return True
        try:
            incumbent = json.loads(self._files.read_text(Path(run.job.incumbent_file)))
            return (*run.merit(run.best), -self._number) > (*incumbent["merit"], -incumbent["trial"])
        except (OSError, ValueError, TypeError, KeyError):
            return True  # not there yet, or damaged: the driver decides, and removes the model that lost
