"""What contributors meet is true: the hooks, the workflow, the templates, and the examples of CONTRIBUTING.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_docs import rooms

ROOT = Path(__file__).parent.parent
YAML_FILES = sorted(
    path for pattern in ("*.yml", "*.yaml") for path in [*ROOT.glob(f".github/**/{pattern}"), *ROOT.glob(f".{pattern}")]
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of_ci() -> list[dict[str, Any]]:
    (job,) = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].values()
    steps: list[dict[str, Any]] = job["steps"]
    return steps


def test_yaml_files_are_seen() -> None:
    names = {path.name for path in YAML_FILES}
    assert {"ci.yml", "bug.yml", "idea.yml", ".pre-commit-config.yaml"} <= names


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_files_parse(path: Path) -> None:
    assert isinstance(read(path), dict)


def test_the_workflow_runs_what_ci_runs() -> None:
    commands = [step["run"] for step in steps_of_ci() if "run" in step]
    assert shlex.split(commands[-1])[-1] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_ci_runs_the_checks_and_the_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {"make check", "make docs"} <= set(script.splitlines())
    assert "for tests in test slow-test conformance browser-test cluster-test; do" in script


@pytest.mark.parametrize(
    ("last_line", "made", "passes"),
    [
        ("===== 3 passed, 1 skipped in 2.00s =====", 0, True),
        ("3 passed in 2.00s", 0, True),
        ("===== 4 skipped in 1.00s =====", 0, False),
        ("no tests ran in 0.01s", 0, False),
        ("1 failed, 3 passed in 2.00s", 2, False),
    ],
)
def test_ci_fails_where_no_test_ran(last_line: str, made: int, passes: bool, tmp_path: Path) -> None:
    """A make that only prints stands in for the real one."""
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "make").write_text(
        f'#!/bin/sh\ncase $1 in *test | conformance) echo "{last_line}"; exit {made};; esac\n'
    )
    (tmp_path / "make").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci" / "run"], env={**os.environ, "PATH": path}, capture_output=True)
    assert (done.returncode == 0) == passes


def test_the_workflow_uses_the_oldest_python_that_is_promised() -> None:
    (version,) = [step["with"]["python-version"] for step in steps_of_ci() if "python-version" in step.get("with", {})]
    assert f'requires-python = ">={version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_hooks_run_the_checks_of_make_check() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # a pinned copy would drift from the project's own
    checks = re.findall(r"\$\(BIN\)/(ruff \w+|mypy)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert len(checks) == 3
    assert [next((hook for hook in hooks if hook.startswith(check)), None) for check in checks] == hooks


@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_issues_ask_for_what_can_be_checked(name: str) -> None:
    form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / name)
    fields = [field for field in form["body"] if field["type"] == "textarea"]
    assert len({field["id"] for field in fields}) == len(fields) >= 3
    assert any(field.get("validations", {}).get("required") for field in fields)


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL)


def test_contributing_says_how_to_add_each_kind() -> None:
    kinds = ["A sampler", "A stopping rule", "An optimizer", "A schedule", "A metric", "A task"]
    assert [title for title, _ in SECTIONS] == kinds


@pytest.mark.parametrize(("title", "section"), SECTIONS, ids=[title for title, _ in SECTIONS])
def test_what_contributing_adds_passes_the_contract(title: str, section: str, tmp_path: Path) -> None:
    """The section's blocks are applied to a copy of the project, where the section's command then runs."""
    copy_project(tmp_path)
    blocks = re.findall(r'^```(python|diff) title="([^"]+)"\n(.*?)^```$', section, flags=re.MULTILINE | re.DOTALL)
    (command,) = re.findall(r"^```sh\npython -m (pytest .+)\n```$", section, flags=re.MULTILINE)
    assert blocks
    for kind, name, text in blocks:
        file = tmp_path / name
        assert file.exists() == (kind == "diff")
        new = patched(file.read_text(encoding="utf-8"), text) if kind == "diff" else text
        file.write_text(new, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= 5


def patched(text: str, diff: str) -> str:
    """A text with the lines of a diff added; the diff's other lines must stand there together, once."""
    lines = diff.splitlines(keepends=True)
    assert {line[:1] for line in lines} <= {"+", " ", "\n"}
    before = "".join(line[1:] for line in lines if line.startswith(" "))
    assert text.count(before) == 1, before
    return text.replace(before, "".join(line[1:] for line in lines))


def copy_project(target: Path) -> None:
    """Copy the files that git knows of the packages and their tests."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if name.startswith(("tune/", "trainable/", "tests/", "pyproject.toml")) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest.mark.parametrize("package", ["tune", "trainable"])
def test_contributing_says_where_every_room_is(package: str) -> None:
    table = CONTRIBUTING.partition("## Where things are")[2].partition("## The words we use")[0]
    named = set(re.findall(rf"`{package}/(\w+(?:/|\.py))`", table))
    assert named == rooms(package)
