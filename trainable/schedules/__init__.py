"""The learning rate schedules: one file each.

A new file with a `SCHEDULE` in it is found here, and needs no other change. `--help` imports this package, so its
modules import nothing heavy.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from trainable.schedules.base import ScheduleEntry


def find_schedules() -> dict[str, ScheduleEntry]:
    """The schedule of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "SCHEDULE")


SCHEDULES = find_schedules()
