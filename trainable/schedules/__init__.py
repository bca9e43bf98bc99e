"""The learning rate schedules: one file each.

A new file with a `SCHEDULE` in it is found here, and needs no other change. `--help` imports this package, so its
modules import nothing heavy.
"""

from __future__ import annotations

import importlib
import pkgutil

from trainable.schedules.base import ScheduleEntry


def find_schedules() -> dict[str, ScheduleEntry]:
    """The schedule of every module in this folder, by name, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    entries: list[ScheduleEntry] = [module.SCHEDULE for module in modules if hasattr(module, "SCHEDULE")]
    return {entry.name: entry for entry in entries}


SCHEDULES = find_schedules()
