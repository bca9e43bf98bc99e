"""The import rules: what keeps two packages two, their rooms in order, and --help fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The rooms of each package from the ground up. A module imports from its own room and from the rooms of lower floors.
FLOORS = {
    "trainable": [
        {"redaction", "discovery"},
        {"errors"},
        {"optimizers", "schedules", "metrics", "fields"},
        {"epoch_scores", "config"},
        {"storage"},
        {"hub"},
        {"data"},
        {"tasks"},
        {"job"},
        {"model"},
        {"train"},
        {"heartbeat"},
        {"trial"},
    ],
    "tune": [
        {"process", "samplers", "stopping_rules", "glue_metric", "statistics", "trackers"},
        {"spec"},
        {"run_dir", "cluster", "demo"},
        {"prepare"},
        {"report"},
        {"sweep"},
        {"estimate"},
        {"search", "evaluate", "predict", "publish", "runs", "dashboard", "cluster_file", "convert", "__main__"},
    ],
}
RAY_ROOMS = ("tune/cluster/", "tune/sweep/", "trainable/trial.py", "trainable/heartbeat.py")


def imports(path: Path) -> set[str]:
    """The modules that a file imports, whole names: "tune.spec.space"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def room(parts: tuple[str, ...]) -> str:
    if parts[-1] == "__main__.py":  # a folder's command; nothing imports it
        return "__main__"
    return parts[1].removesuffix(".py") if len(parts) > 1 else "__init__"


MODULES = sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))
FLOOR_OF = {
    (package, name): number
    for package, floors in FLOORS.items()
    for number, floor in enumerate(floors)
    for name in floor
}


def wrong_imports(path: Path) -> list[str]:
    """The imports of a module that lead to a higher floor, or to another room of the same floor."""
    package, *_ = parts = path.relative_to(ROOT).parts
    own = (package, room(parts))
    wrong = []
    for name in imports(path):
        target = tuple(name.split("."))
        if target[0] != package or len(target) < 2:
            continue
        other = (package, target[1])
        if other in FLOOR_OF and other != own and FLOOR_OF[other] >= FLOOR_OF.get(own, -1):
            wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    return wrong


def test_every_module_is_seen() -> None:
    """Walking must not stop at the packages' own folders: a rule that sees no module checks nothing."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "tune", "trainable"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    sources = {name for name in listed if name.endswith(".py") and (ROOT / name).exists()}
    assert {str(path.relative_to(ROOT)) for path in MODULES} == sources
    assert sum(len(path.relative_to(ROOT).parts) > 2 for path in MODULES) > 50


def test_every_room_has_its_floor() -> None:
    rooms = {(path.relative_to(ROOT).parts[0], room(path.relative_to(ROOT).parts)) for path in MODULES}
    assert {name for name in rooms if name[1] != "__init__"} - FLOOR_OF.keys() == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_lead_down(path: Path) -> None:
    assert wrong_imports(path) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Wherever the imports stand, in functions too."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    graph = {name: imports(path) & names.keys() - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        circle = [*above[above.index(name) :], name] if name in above else []
        assert not circle, " -> ".join(circle)
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_rule_sees_an_import_that_leads_up(tmp_path: Path) -> None:
    for below, above in pairwise(FLOORS["tune"]):
        module = ROOT / "tune" / sorted(below)[0] / "x.py"
        source = f"def f():\n    from tune.{sorted(above)[0]} import y\n"
        assert _wrong_in(module, source, tmp_path)


def _wrong_in(module: Path, source: str, tmp_path: Path) -> list[str]:
    """What the rule says of a module that is not there."""
    (tmp_path / "x.py").write_text(source)
    own = (module.relative_to(ROOT).parts[0], room(module.relative_to(ROOT).parts))
    return [
        name
        for name in imports(tmp_path / "x.py")
        if (own[0], name.split(".")[1]) in FLOOR_OF and FLOOR_OF[own[0], name.split(".")[1]] >= FLOOR_OF[own]
    ]


def test_trainable_knows_nothing_of_searching() -> None:
    below = [path for path in MODULES if path.is_relative_to(ROOT / "trainable")]
    assert len(below) > 20
    for path in below:
        assert not packages(path) & {"tune", "optuna"}, path


def test_ray_appears_where_it_is_allowed() -> None:
    with_ray = {str(path.relative_to(ROOT)) for path in MODULES if "ray" in packages(path)}
    assert "trainable/trial.py" in with_ray
    assert {path for path in with_ray if not path.startswith(RAY_ROOMS)} == set()


def test_no_pickle_is_read() -> None:
    for path in MODULES:
        assert not packages(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path.name
        text = path.read_text(encoding="utf-8")
        for name in ("Tuner.restore", "ExperimentAnalysis", "trust_remote_code=True"):
            assert name not in text, f"{path.name}: {name}"
        if path.name == "convert.py":  # the one command whose work it is; it reads tensors alone
            text = text.replace('torch.load(folder / name, map_location="cpu", weights_only=True)', "None")
        called = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        assert not called & {"torch.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"}, path.name


@pytest.mark.parametrize(
    "command",
    [
        "tune.search",
        "tune.evaluate",
        "tune.predict",
        "tune.publish",
        "tune.runs",
        "tune.report",
        "tune.cluster_file",
        "tune.convert",
        "tune.dashboard",
        "tune.demo",
    ],
)
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__')\nexcept SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'ray', 'optuna', 'pandas', 'pyarrow'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
