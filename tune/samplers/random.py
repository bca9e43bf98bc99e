"""Random search (Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", 2012)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tune.samplers.base import SamplerEntry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.search_space import IntersectionSearchSpace


def make(seed: int, searched: IntersectionSearchSpace) -> BaseSampler:
    """Optuna's random sampler, which looks at no earlier trial."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLER = SamplerEntry("random", "draws every configuration at random, whatever earlier trials scored", make)
