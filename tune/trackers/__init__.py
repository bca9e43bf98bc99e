"""The trackers of experiments that `--log-to` names: one file each. A new file with a `TRACKER` in it is found here.

This package is imported by `--help`, so its modules import the trackers' own packages inside functions only.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from tune.trackers.base import TrackerEntry


def find_trackers() -> dict[str, TrackerEntry]:
    """The tracker of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "TRACKER")


TRACKERS = find_trackers()


def missing_trackers(names: tuple[str, ...]) -> list[str]:
    """Say which of the trackers can't be logged to as things are, and what to do."""
    return [problem for name in names for problem in TRACKERS[name].problems()]
