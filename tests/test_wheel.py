"""The wheel holds everything that runs: it is built, installed alone into a folder, and used from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def files_known_to_git(*folders: str) -> list[str]:
    """The files that are committed or could be: what git neither ignores nor misses."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def run(command: Sequence[str | Path], cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its standard output; the test fails with its words if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without a network from a copy of the files that git knows.

    A copy, because setuptools leaves build/ and an egg-info folder beside the sources, and would take into the next
    wheel what lies there from the last one.
    """
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in files_known_to_git("tune", "trainable", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run([*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", target, "."], source)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's packages and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    run([*PIP, "install", "--no-index", "--no-deps", "--no-compile", "--target", folder, wheel], folder)
    return folder


def run_installed(installed: Path, cwd: Path, *arguments: str) -> str:
    """Run Python in another folder with the installed packages before those of the editable installation."""
    return run([sys.executable, "-P", *arguments], cwd, {**os.environ, "PYTHONPATH": str(installed)})


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    known = set(files_known_to_git("tune", "trainable"))
    assert len(known) > 60
    assert {"tune/py.typed", "trainable/py.typed", "tune/presets/demo.yaml", "tune/presets/demo/train.jsonl"} <= known
    assert held == known


def test_the_installed_packages_are_those_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = "import tune, trainable; print(tune.__file__, trainable.__file__, sep='\\n')"
    for file in run_installed(installed, tmp_path, "-c", script).split():
        assert Path(file).is_relative_to(installed)


@pytest.mark.parametrize(
    "command",
    [
        "tune.search",
        "tune.evaluate",
        "tune.predict",
        "tune.publish",
        "tune.report",
        "tune.dashboard",
        "tune.cluster_file",
    ],
)
def test_commands_show_their_help_from_another_folder(command: str, installed: Path, tmp_path: Path) -> None:
    assert f"python -m {command}" in run_installed(installed, tmp_path, "-m", command, "--help")


def test_the_demo_is_planned_from_another_folder(
    installed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset, its corpus and the model's package are found; nothing is trained or written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
    few = ["--set", "num_cpus=1", "--space", "batch_size=32"]
    planned = run_installed(installed, tmp_path, "-m", "tune.search", "--plan", *few)
    assert "newswire" in planned
    assert list(tmp_path.iterdir()) == []
