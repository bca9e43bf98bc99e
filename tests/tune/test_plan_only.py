"""--plan tells what would be done and does none of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import command


@pytest.fixture
def flags(
    tmp_path: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> list[object]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
    data = write_pairs(tmp_path / "pairs", {"train": 48, "validation": 24, "test": 24})
    return ["--dataset", data, "--model", tiny_model, "--num-trials", 2, "--set", "num_cpus=2", "--out", "run"]


def test_a_plan_is_told_and_nothing_is_written(tmp_path: Path, flags: list[object]) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = command("tune.search", *flags, "--plan", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"sweep pairs: 2 trials for the max f1 on validation, in .*/run", lines[0])
    disk = next(i for i, line in enumerate(lines) if line.startswith("disk at most 0.0"))
    titles, row, precision, epochs, whole, early = lines[disk + 1 : -1]
    assert titles.split() == ["node", "cores", "GPUs", "GPU", "memory", "slots", "model", "clock", "free", "disk"]
    assert row.split() == ["this", "machine", "2", "0", "2"]
    assert precision.startswith("precision ")
    assert re.search(r"s at batch size 8, .*; an evaluation takes .* steps, 2 workers side by side, on cpu\)$", epochs)
    assert re.match(r"the sweep takes about \d+:\d\d: start ", whole)
    assert "without early stopping (--scheduler none)" in early
    assert lines[-1] == "Nothing was started; the same command without --plan begins."


def test_what_the_sweep_would_refuse_the_plan_refuses(tmp_path: Path, flags: list[object]) -> None:
    done = command("tune.search", *flags, "--cpus-per-trial", 3, "--plan", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("no room for even one trial: it asks for 3 cores")


@pytest.mark.slow
def test_auto_without_a_gpu_is_the_cpu_and_a_gpu_that_is_none_is_not_measured(
    tmp_path: Path, flags: list[object]
) -> None:
    auto = [*flags, "--gpus-per-trial", "auto", "--precision", "fp32", "--confirm", "none"]
    done = command("tune.search", *auto, "--set", "num_gpus=0", "--plan", cwd=tmp_path)
    assert "0 GPU a trial (no GPUs, so trials train on the CPU)" in done.stdout.splitlines(), done.stderr
    done = command("tune.search", *auto, "--set", "num_gpus=1", "--points", point(tmp_path), cwd=tmp_path, limit_s=240)
    assert done.returncode == 0, done.stderr
    assert "0.25 GPU a trial (no GPU that torch can use, so nothing was measured)" in done.stdout
    assert "2 trials side by side, 0.25 GPU and 1 core each" in done.stdout


@pytest.mark.slow
def test_a_plan_of_a_sweep_that_is_there_leaves_it_alone(tmp_path: Path, flags: list[object]) -> None:
    flags = [*flags, "--confirm", "none"]
    done = command("tune.search", *flags, "--points", point(tmp_path), "--precision", "fp32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    before = contents(run)
    for more in (["--num-trials", 5], ["--num-trials", 5, "--fresh"]):
        more = [*more, "--points", point(tmp_path), "--precision", "fp32"]
        done = command("tune.search", *flags, *more, "--plan", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "5 trials for the max f1" in done.stdout
    assert contents(run) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "points.json", "run"]


def contents(run: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file and when it was written, but the lock's, which names the process that held it last."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def point(folder: Path) -> Path:
    """A short first trial."""
    points = [{"learning_rate": 3e-3, "batch_size": 8, "epochs": 1}] * 2
    (folder / "points.json").write_text(json.dumps(points))
    return folder / "points.json"


def test_leaks_are_warnings_and_with_strict_data_errors(tmp_path: Path, flags: list[object]) -> None:
    data = tmp_path / "pairs"
    validation = sorted(data.glob("validation*"))[0]
    validation.write_bytes(sorted(data.glob("train*"))[0].read_bytes())
    done = command("tune.search", *flags, "--plan", cwd=tmp_path)
    leak = "48 of 48 validation rows also stand in train: the validation score flatters"
    assert f"WARNING: {leak}" in done.stdout, done.stderr
    assert "classes of train: " in done.stdout
    done = command("tune.search", *flags, "--strict-data", "--plan", cwd=tmp_path)
    assert done.returncode == 2
    assert "--strict-data: 48 of 48 validation rows also stand in train" in done.stderr
