"""Tables of alternatives, found by walking a folder: one file for each entry, and no list to keep beside them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any


def find_entries(package: str, folders: Iterable[str], variable: str) -> dict[str, Any]:
    """Collect the entry of each module in a package.

    Args:
        package: The package's name, like "tune.samplers".
        folders: Its `__path__`.
        variable: What a module calls its entry, like "SAMPLER". Modules without it, such as `base`, are left out.

    Returns:
        The entries by their `name`, in the order of the modules' names.

    Raises:
        ValueError: Two modules have entries of one name.
    """
    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(folders):
        entry = getattr(importlib.import_module(f"{package}.{info.name}"), variable, None)
        if entry is None:
            continue
        if entry.name in found:
            raise ValueError(f"two modules of {package} have a {variable} called {entry.name!r}")
        found[entry.name] = entry
    return found
