"""The optimizers: one file each. A new file with an `OPTIMIZER` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import torch inside functions only.
"""

from __future__ import annotations

import importlib
import pkgutil

from trainable.optimizers.base import OptimizerEntry


def find_optimizers() -> dict[str, OptimizerEntry]:
    """The optimizer of every module in this folder, by name, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    entries: list[OptimizerEntry] = [module.OPTIMIZER for module in modules if hasattr(module, "OPTIMIZER")]
    return {entry.name: entry for entry in entries}


OPTIMIZERS = find_optimizers()
