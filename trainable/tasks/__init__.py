"""The task types: one file each. A new file with a `TASK` in it is found here.

A sweep's task type is `DEFAULT_TASK` so far. A second one also needs a field in the specification that names it.
"""

from __future__ import annotations

import importlib
import pkgutil

from trainable.tasks.base import Task

DEFAULT_TASK = "single_label"


def find_tasks() -> dict[str, Task]:
    """The task type of every module in this folder, by name, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    tasks: list[Task] = [module.TASK for module in modules if hasattr(module, "TASK")]
    return {task.name: task for task in tasks}


TASKS = find_tasks()
