"""The optimizers: one file each. A new file with an `OPTIMIZER` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import torch inside functions only.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from trainable.optimizers.base import OptimizerEntry


def find_optimizers() -> dict[str, OptimizerEntry]:
    """The optimizer of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "OPTIMIZER")


OPTIMIZERS = find_optimizers()
