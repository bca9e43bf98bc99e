"""The stopping rules: one file each. A new file with a `STOPPING_RULE` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import nothing heavy.
"""

from __future__ import annotations

import importlib
import pkgutil

from tune.stopping_rules.base import StoppingRuleEntry


def find_stopping_rules() -> dict[str, StoppingRuleEntry]:
    """The stopping rule of every module in this folder, by name, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    entries: list[StoppingRuleEntry] = [module.STOPPING_RULE for module in modules if hasattr(module, "STOPPING_RULE")]
    return {entry.name: entry for entry in entries}


STOPPING_RULES = find_stopping_rules()
