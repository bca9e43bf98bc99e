"""What a sampler's file offers, so that the table of samplers can hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.search_space import IntersectionSearchSpace


@dataclass(frozen=True)
class SamplerEntry:
    """A way to propose configurations, as `--sampler` names it.

    The sweep makes a new Optuna sampler for every hyperparameter of every trial, with a seed of its own. A sampler
    therefore keeps nothing between proposals: all that it learns from stands in the study. This is what makes a sweep
    that was killed go on without repeating a proposal.
    """

    name: str
    """The word that `--sampler` takes; no other sampler has it."""
    description: str
    """One line for `--help`."""
    make: Callable[[int, IntersectionSearchSpace], BaseSampler]
    """Makes the Optuna sampler from a seed (31 bits) and the search space that the study's trials have in common.

    Optuna's samplers find that common space anew at every proposal. The one that is passed in remembers which trials
    it has seen, so a sampler that needs it should ask `searched.calculate(study, use_cache=True)`.
    """
