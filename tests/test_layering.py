"""The import rules: what keeps two packages two, and --help fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Rooms in the order of what they may import: a module imports its own room and those before it.
TRAINABLE = (
    ("redaction", "errors"), ("storage", "config", "hub", "data", "train.metrics"), ("model",), ("train",), ("trial",),
)  # fmt: skip
TUNE = (
    ("process", "glue_metric"), ("spec",), ("run_dir", "cluster", "demo"), ("prepare",), ("report",), ("sweep",),
    ("search", "evaluate", "cluster_file"),
)  # fmt: skip
RAY_ROOMS = ("tune/cluster/", "tune/sweep/", "trainable/trial.py")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


MODULES = sorted([*ROOT.glob("tune/**/*.py"), *ROOT.glob("trainable/**/*.py")])


def test_trainable_knows_nothing_of_searching() -> None:
    for path in MODULES:
        if path.is_relative_to(ROOT / "trainable"):
            assert not imports(path) & {"tune", "optuna"}, path


def test_ray_appears_where_it_is_allowed() -> None:
    with_ray = {str(path.relative_to(ROOT)) for path in MODULES if "ray" in imports(path)}
    assert {path for path in with_ray if not path.startswith(RAY_ROOMS)} == set()


def test_no_pickle_is_read() -> None:
    for path in MODULES:
        assert not imports(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path.name
        text = path.read_text(encoding="utf-8")
        for name in ("Tuner.restore", "ExperimentAnalysis", "trust_remote_code=True"):
            assert name not in text, f"{path.name}: {name}"
        # In a text it may stand: pretrained.py tells the user what to run.
        called = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        assert not called & {"torch.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"}, path.name


@pytest.mark.parametrize("command", ["tune.search", "tune.evaluate", "tune.cluster_file", "tune.demo"])
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__')\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'ray', 'optuna', 'pandas', 'pyarrow'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
