"""The stopping rules: one file each. A new file with a `STOPPING_RULE` in it is found here, and needs no other change.

This package is imported by `--help`, so its modules import nothing heavy.
"""

from __future__ import annotations

from trainable.discovery import find_entries
from tune.stopping_rules.base import StoppingRuleEntry


def find_stopping_rules() -> dict[str, StoppingRuleEntry]:
    """The stopping rule of every module in this folder, by name, in the order of the modules' names."""
    return find_entries(__name__, __path__, "STOPPING_RULE")


STOPPING_RULES = find_stopping_rules()
