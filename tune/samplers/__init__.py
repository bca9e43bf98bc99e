"""The samplers: one file each. A new file with a `SAMPLER` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import Optuna inside functions only.
"""

from __future__ import annotations

import importlib
import pkgutil

from tune.samplers.base import SamplerEntry


def find_samplers() -> dict[str, SamplerEntry]:
    """The sampler of every module in this folder, by name, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    entries: list[SamplerEntry] = [module.SAMPLER for module in modules if hasattr(module, "SAMPLER")]
    return {entry.name: entry for entry in entries}


SAMPLERS = find_samplers()
