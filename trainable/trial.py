"""The Ray adapter: a class Trainable around FineTuningRun, one epoch per step, warm from trial to trial."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from trainable.config import Job, make_config
from trainable.errors import TrialFailed
from trainable.run import FineTuningRun


class FineTuningTrial(Trainable):
    """Trains the trial that Tune's config names.

    config: {"number": Optuna's trial number, "seed": int, "values": TrialConfig fields, "folder": the trial's folder}
    Tune's own checkpoints are off: the folder holds the newest whole state, and the model while it may still win.
    """

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """Load model and data (once per worker), then begin the first trial."""
        if job is None:
            raise ValueError("FineTuningTrial needs its job: tune.with_parameters(FineTuningTrial, job=...)")
        self.fine_tuning = FineTuningRun(job)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        began = time.perf_counter()
        self._number = int(config["number"])
        self._folder = Path(config["folder"])
        run = self.fine_tuning
        run.reset(make_config(config["values"]), config["seed"])
        for state in reversed(self._states()):
            if run.load_state(state):
                break
        self._state_written = time.monotonic()
        self._bytes_written = 0
        self._start_s = time.perf_counter() - began

    def step(self) -> dict[str, Any]:
        """One epoch. A trial that fails by its nature reports `failure`, so that its worker stays warm."""
        run = self.fine_tuning
        try:
            run.next_epoch()
        except TrialFailed as error:
            return {"failure": str(error), "done": True}
        if run.done:
            if self._can_win():
                self._bytes_written += run.write_best(self._folder / "model")
        elif time.monotonic() - self._state_written >= run.job.state_interval_s:
            self._write_state()
        # The whole history: a driver that died may have missed epochs that a state holds.
        return {
            **asdict(run.history[-1]),
            "history": [asdict(result) for result in run.history],
            "start_s": self._start_s,
            "bytes_written": self._bytes_written,
            "done": run.done,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the whole state into a folder of Tune's."""
        self.fine_tuning.save_state(Path(checkpoint_dir) / "state")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what `save_checkpoint` wrote. Raises ValueError where it is damaged or another trial's."""
        if not self.fine_tuning.load_state(Path(str(checkpoint)) / "state"):
            raise ValueError(f"{checkpoint} holds no valid state of this trial")

    def _states(self) -> list[Path]:
        """State folders, oldest first; what else lies there is not ours."""
        ours = [path for path in self._folder.glob("state/epoch-*") if path.name[6:].isdecimal() and path.is_dir()]
        return sorted(ours, key=lambda path: int(path.name[6:]))

    def _write_state(self) -> None:
        import shutil

        run = self.fine_tuning
        new, older = self._folder / "state" / f"epoch-{len(run.history)}", self._states()
        self._bytes_written += run.save_state(new)
        for folder in older:
            if folder != new:  # a damaged one of that name was replaced
                shutil.rmtree(folder)
        self._state_written = time.monotonic()

    def _can_win(self) -> bool:
        """Whether this trial beats the best one that the driver has seen finish; of equals the smaller number wins.

        The same order as tune.selection.rank, or the winner's model would be missing.
        """
        run = self.fine_tuning
        if run.best is None:
            return False
        if run.job.incumbent_file is None:
            return True
        try:
            incumbent = json.loads(Path(run.job.incumbent_file).read_text(encoding="utf-8"))
            return (*run.merit(run.best), -self._number) > (*incumbent["merit"], -incumbent["trial"])
        except (OSError, ValueError, TypeError, KeyError):
            return True  # not there yet, or damaged: the driver decides, and removes the model that lost
