"""A name of a class or a constant means one thing in the whole project."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What each file of a table of alternatives calls its entry, and type variables.
THE_SAME_EVERYWHERE = {"SAMPLER", "STOPPING_RULE", "OPTIMIZER", "SCHEDULE", "TASK", "TRACKER", "T"}


def names(path: Path) -> set[str]:
    """The public classes and constants that a module defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_no_two_classes_or_constants_have_one_name() -> None:
    modules = defaultdict(list)
    for package in ("tune", "trainable"):
        for path in (ROOT / package).rglob("*.py"):
            for name in names(path) - THE_SAME_EVERYWHERE:
                modules[name].append(str(path.relative_to(ROOT)))
    assert len(modules) > 200
    assert {name: where for name, where in modules.items() if len(where) > 1} == {}
