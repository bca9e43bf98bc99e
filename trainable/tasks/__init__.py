"""The task types: one file each. A new file with a `TASK` in it is found here, and a job may name it.

Every sweep has the task type `DEFAULT_TASK` so far. For sweeps to have another one, a field of `SweepSpec` must name
it, `tune.prepare.inputs.task_of` must look it up, and `tune.evaluate` must do the same.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from trainable.tasks.base import Task

DEFAULT_TASK = "single_label"


def find_tasks() -> dict[str, Task]:
    """The task type of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "TASK")


TASKS = find_tasks()
