"""A Trainable whose error tells secrets of the environment, as none should; behind the same seam as the real one."""

from __future__ import annotations

import os
from typing import Any

from trainable.trial import FineTuningTrial


class LeakyTrial(FineTuningTrial):
    """Trial 1 raises in its first epoch; everything else is real."""

    def step(self) -> dict[str, Any]:
        if self._number == 1:
            raise RuntimeError(f"401 for {os.environ['HF_TOKEN']} at https://me:{os.environ['MADE_UP_API_KEY']}@host/x")
        return super().step()


def main() -> int:
    """The command line, with the leaky Trainable."""
    import tune.sweep.run_trials
    from tune.search import main as search

    tune.sweep.run_trials.FineTuningTrial = LeakyTrial  # type: ignore[misc]
    return search()


if __name__ == "__main__":
    from tests.faults.leaky import main as importable_main  # workers import the class by this name

    raise SystemExit(importable_main())
