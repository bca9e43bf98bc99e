"""Sentences about a cluster whose versions of Ray or Python are not the driver's."""

from __future__ import annotations

import re


def version_problem(differences: str) -> str:
    """The sentence for differences like "Ray 2.59.0 (here 2.60.0)"."""
    return f"{differences}; the versions must be the same on every node and here"


def refused_versions(error: str) -> str | None:
    """What differs, where Ray's error says that it refuses to join a cluster for its versions; else None."""
    if not error.startswith("Version mismatch"):
        return None
    there, here = (dict(re.findall(r"^\s+(Ray|Python): (\S+)", part, re.M)) for part in error.split("This process", 1))
    return ", ".join(f"{name} {there[name]} (here {here.get(name)})" for name in there if there[name] != here.get(name))
