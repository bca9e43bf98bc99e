"""How many finalists a sweep trains again, and how often: `--confirm` as numbers."""

from __future__ import annotations

from tune.spec.sweep_spec import SweepSpec

SHARE_OF_SEARCH = 1 / 3  # of the search's training time, which `auto` may take
LEAST_SEEDS = 2  # of the winner of the search and of the default; a mean of fewer says nothing of the spread
MOST_SEEDS = 5  # of each finalist with `auto`
MOST_FINALISTS = 4  # of the best by validation, with `auto`


def finalists_and_seeds(spec: SweepSpec) -> tuple[int, int] | None:
    """The finalists and the seeds of each that were asked for by numbers; None with `auto` and `none`."""
    if spec.confirm in ("auto", "none"):
        return None
    finalists, _, seeds = spec.confirm.partition("x")
    return int(finalists), int(seeds)


def most_fresh_runs(spec: SweepSpec) -> int:
    """The most fresh runs that a sweep makes; each leaves a model until the winner is known.

    The default is trained beside the finalists. With `auto`, time bounds the runs: each takes at least as long as the
    mean trial of the search, of which some are stopped early.
    """
    if spec.confirm == "none":
        return 0
    asked_for = finalists_and_seeds(spec)
    finalists, seeds = asked_for or (MOST_FINALISTS, MOST_SEEDS)
    most = (finalists + 1) * seeds
    return most if asked_for else min(most, max(2 * LEAST_SEEDS, int(SHARE_OF_SEARCH * spec.num_trials) + 1))
