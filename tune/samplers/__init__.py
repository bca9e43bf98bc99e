"""The samplers: one file each. A new file with a `SAMPLER` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import Optuna inside functions only.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from tune.samplers.base import SamplerEntry


def find_samplers() -> dict[str, SamplerEntry]:
    """The sampler of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "SAMPLER")


SAMPLERS = find_samplers()
