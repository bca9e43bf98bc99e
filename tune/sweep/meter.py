"""What a sweep has used so far: time and GPUs. The study remembers it from one driver to the next."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from optuna import Study

from tune.run_dir.attributes import GPU_S, WALL_S
from tune.sweep.budget import Usage

NOTE_EVERY_S = 10.0  # a driver that is killed forgets so much of what the sweep has used


def noted_usage(study: Study) -> Usage:
    """What the drivers so far have used, as the study notes it."""
    noted = study.user_attrs
    return Usage(float(noted.get(WALL_S, 0.0)), float(noted.get(GPU_S, 0.0)))


class Meter:
    """Counts the sweep's time and GPUs. The times between its drivers do not count."""

    def __init__(self, study: Study, began: float | None = None) -> None:
        """Go on counting.

        Args:
            study: The sweep's.
            began: When this driver began its work, monotonic seconds; None means now.
        """
        self.gpus: Callable[[], float] = lambda: 0.0
        """How many GPUs the sweep has now."""
        self._study = study
        self._began = self._noted = self._counted = time.monotonic() if began is None else began
        before = noted_usage(study)
        self._wall_s_before, self._gpu_s = before.wall_s, before.gpu_s

    @property
    def driver_s(self) -> float:
        """How long this driver has been at work, seconds."""
        return time.monotonic() - self._began

    @property
    def usage(self) -> Usage:
        """What the sweep has used so far."""
        now, gpus = time.monotonic(), self.gpus()
        self._gpu_s += gpus * (now - self._counted)
        self._counted = now
        return Usage(self._wall_s_before + now - self._began, self._gpu_s, gpus)

    def tick(self) -> None:
        """Note what is used, if the last note is old."""
        if time.monotonic() - self._noted > NOTE_EVERY_S:
            self.note()

    def note(self) -> None:
        """Note in the study what is used."""
        usage = self.usage
        self._study.set_user_attr(WALL_S, round(usage.wall_s, 1))
        if usage.gpu_s:
            self._study.set_user_attr(GPU_S, round(usage.gpu_s, 1))
        self._noted = time.monotonic()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is used, however what is done inside the context ends."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # where the study can't be written, that is what is being told
                self.note()
            raise
        self.note()
