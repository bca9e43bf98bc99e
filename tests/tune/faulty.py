"""A Trainable that breaks where the test wants, behind the same seam as the real one."""

from __future__ import annotations

from typing import Any

from trainable.trial import FineTuningTrial


class FaultyTrial(FineTuningTrial):
    """Trial 1 raises in its second epoch; everything else is real."""

    def step(self) -> dict[str, Any]:
        if self._number == 1 and len(self.fine_tuning.history) == 1:
            raise RuntimeError("the disk spoke in tongues")
        return super().step()


def main() -> int:
    """The command line, with the faulty Trainable."""
    import tune.sweep.run_trials
    from tune.search import main as search

    tune.sweep.run_trials.FineTuningTrial = FaultyTrial  # type: ignore[misc]
    return search()


if __name__ == "__main__":
    from tests.tune.faulty import main as importable_main  # workers import the class by this name

    raise SystemExit(importable_main())
