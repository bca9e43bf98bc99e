"""The multi-process service is started if it works, always ended, and left alone if it is not ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tune.cluster import mps
from tune.cluster.mps import CONTROL, multi_process_service
from tune.cluster.temporary import temporary_folder


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a control program that logs how it is called first on the PATH; gives its log."""
    log = tmp_path / "calls"
    program = tmp_path / "bin" / CONTROL
    program.parent.mkdir()
    said = '$CUDA_MPS_PIPE_DIRECTORY|$CUDA_VISIBLE_DEVICES|$*|$([ "$1" = -d ] || cat)'
    program.write_text(f'#!/bin/sh\necho "{said}" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setenv(
        "CUDA_VISIBLE_DEVICES", "1,2"
    )  # hidden from the service, which would number these two GPUs 0 and 1
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path / "nobody's")
    return log


def test_it_runs_as_long_as_the_context(calls: Path, tmp_path: Path) -> None:
    seen: list[Mapping[str, str]] = []
    with multi_process_service(tmp_path, check=lambda environment: seen.append(environment) is None) as started:
        assert started
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path / "mps")
        assert calls.read_text() == f"{tmp_path}/mps||-d|\n"
    assert seen[0]["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path / "mps")
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert calls.read_text().splitlines()[1:] == [f"{tmp_path}/mps|||quit"]


def test_where_the_gpu_does_not_answer_under_it_nothing_changes(calls: Path, tmp_path: Path) -> None:
    with multi_process_service(tmp_path, check=lambda environment: False) as started:
        assert not started
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert calls.read_text().endswith("|quit\n")


def test_somebody_elses_service_is_left_alone(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "theirs")
    with multi_process_service(tmp_path) as started:
        assert not started
    assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == "theirs"
    assert not calls.exists()


def test_the_systems_service_is_left_alone(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "nobody's").mkdir()
    (tmp_path / "nobody's" / "control").touch()
    with multi_process_service(tmp_path) as started:
        assert not started
    assert not calls.exists()


def test_a_service_that_a_killed_sweep_left_is_ended(calls: Path) -> None:
    with temporary_folder() as left:
        (left / "mps").mkdir()
        with temporary_folder():
            assert not calls.exists(), "its owner lives"
    # After a kill the folder is still there, but nobody holds its lock.
    left.mkdir()
    (left / "owner").touch()
    (left / "mps").mkdir()
    with temporary_folder():
        assert calls.read_text() == f"{left}/mps|||quit\n"
    assert not left.exists()


def test_without_the_control_program_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with multi_process_service(tmp_path) as started:
        assert not started
    assert list(tmp_path.iterdir()) == []
