"""`python -m tune.search --preset mrpc` on a hub on loopback, on its cache once the hub is gone, and on neither."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import GLUE, Hub, write_tiny_glue, write_tiny_model
from tests.trainable.test_hub import OFFLINE, child_environment
from tune.samplers import SAMPLERS

ROOT = Path(__file__).parents[2]
ROWS = {"train": 64, "validation": 20, "test": 26}


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("repos")
    write_tiny_model(folder / "bert")
    write_tiny_glue(folder / "glue")
    return {("model", "google-bert/bert-base-uncased"): folder / "bert", ("dataset", "nyu-mll/glue"): folder / "glue"}


@pytest.fixture
def gone() -> str:
    """The address of a hub that nobody answers at."""
    with Hub({}) as hub:
        return hub.url


def search(out: Path, home: Path, endpoint: str, *flags: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a user gives it: one trial, small."""
    small = ["--num-trials", "1", "--precision", "fp32", "--cpus-per-trial", "1", "--max-concurrent", "1"]
    small += ["--confirm", "none"]
    return subprocess.run(
        [sys.executable, "-m", "tune.search", "--preset", "mrpc", *small, *flags, "--out", str(out)],
        env=child_environment(HF_HOME=str(home), HF_ENDPOINT=endpoint, PYTHONPATH=f"{path}:{ROOT}".lstrip(":")),
        cwd=out.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(240)  # two whole runs, each with a Ray of its own
def test_mrpc_runs_from_the_hub_and_then_from_the_cache(repos: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    with Hub(repos) as hub:
        first = search(tmp_path / "first", tmp_path / "home", hub.url)
    assert (first.returncode, first.stderr) == (0, "")
    report = read(tmp_path / "first" / "report.json")
    assert [trial["config"] for trial in report["trials"]] == [{"learning_rate": 5e-5, "batch_size": 8, "epochs": 3}]
    assert (report["model"], report["dataset"], report["f1_average"]) == ("bert-base-uncased", "glue/mrpc", "binary")
    assert (report["rows"], report["notes"]) == (ROWS, [])
    # mrpc's own test labels: 17 of its 26 rows say equivalent, the class most frequent in training.
    assert report["test"]["rows"] == 26
    assert report["majority"]["test"]["accuracy"] == pytest.approx(17 / 26)
    assert read(tmp_path / "first" / "best" / "config.json")["id2label"] == {"0": "not_equivalent", "1": "equivalent"}
    assert "64 train, 20 validation, 26 test rows; text sentence1 + sentence2" in first.stdout
    assert "F1 of class equivalent" in first.stdout

    again = search(tmp_path / "again", tmp_path / "home", hub.url)  # which nobody answers at by now
    assert (again.returncode, again.stderr) == (0, "")
    same = ("best", "test", "majority", "rows", "label_names", "notes")
    assert {key: read(tmp_path / "again" / "report.json")[key] for key in same} == {key: report[key] for key in same}


def test_without_hub_and_cache_nothing_starts(gone: str, tmp_path: Path) -> None:
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "ray.py").write_text("raise SystemExit('ray was imported')\n")
    began = time.monotonic()
    done = search(tmp_path / "run", tmp_path / "home", gone, path=str(tmp_path / "poison"))
    assert time.monotonic() - began < 15
    why = f"is not in the local cache, and the hub at {gone} cannot be reached ([Errno 111] Connection refused)"
    assert done.stderr.splitlines() == [
        "2 problems:",
        f"  1. --dataset glue/mrpc: {why}. {OFFLINE}",
        f"  2. --model bert-base-uncased: {why}. {OFFLINE}",
        "Nothing was started. See --help.",
    ]
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "run").exists()


def test_what_the_hub_lacks_is_told_with_every_other_problem(
    repos: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    with Hub(repos, gated=["google-bert/bert-base-uncased"]) as hub:
        done = search(tmp_path / "run", tmp_path / "home", hub.url, "--dataset", "glue/nope", "--sampler", "best")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "3 problems:",
        f"  1. --sampler must be one of {', '.join(SAMPLERS)}, but got 'best'",
        f"  2. --dataset glue/nope: nyu-mll/glue has no configuration 'nope'; known: {', '.join(sorted(GLUE))}",
        f"  3. --model bert-base-uncased: is gated: ask for access at {hub.url}, then run 'hf auth login'",
        "Nothing was started. See --help.",
    ]


# Every preset's data and model, checked as the command checks them; prints what the command would print first.
PREPARE = """
import json, sys
from pathlib import Path
from tune.cluster.nodes import local_nodes
from tune.spec.flags import Request
from tune.cluster.plan import make_plan
from tune.prepare.check import check_request
from tune.report.words import introduction
from tune.run_dir.layout import open_run_dir
from tune.spec.sources import given_from_preset
from tune.spec.sweep_spec import build_spec

for name in sys.argv[1:]:
    problems = []
    request = Request(build_spec(given_from_preset(name, problems), problems), Path("run"))
    inputs, _ = check_request(request, open_run_dir(request.out), problems)
    lines = introduction(inputs, make_plan(inputs.spec, local_nodes(inputs.spec), problems), "run")
    test = inputs.data.splits["test"].labels
    print(json.dumps([name, lines, inputs.data.label_names, [test.count(0), len(test)], inputs.f1_average]))
"""


@pytest.fixture(scope="module")
def prepared(
    repos: dict[tuple[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[Any]]]:
    folder = tmp_path_factory.mktemp("prepared")
    with Hub(repos) as hub:
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, *GLUE],
            env=child_environment(HF_HOME=str(folder / "home"), HF_ENDPOINT=hub.url, PYTHONPATH=str(ROOT)),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", GLUE)
def test_a_preset_reads_its_task_from_the_hub(prepared: dict[str, list[Any]], name: str) -> None:
    columns, classes = GLUE[name]
    lines, label_names, (zeros, test_rows), average = prepared[name]
    hidden = name != "mrpc"
    assert label_names == classes
    rows = (
        f"{55 - (name == 'qqp')} train, 20 validation, 9 test rows"
        if hidden
        else "64 train, 20 validation, 26 test rows"
    )
    f1 = f"F1 of class {classes[1]}" if name in ("mrpc", "qqp") else "F1 macro"
    assert lines[1] == f"data glue/{name}: {rows}; text {' + '.join(columns)}; label label ({', '.join(classes)}); {f1}"
    notes = [line for line in lines if line.startswith("note: ") and "has fewer than 8 rows of class" not in line]
    assert not any("WARNING" in line for line in lines)
    if hidden:
        blank = ["note: glue/qqp (train): 1 of 64 rows have a blank text and were left out"]
        assert notes == [
            *(blank if name == "qqp" else []),
            "note: the labels of the test split are hidden (-1)",
            "note: no test split to use: 9 rows were cut from train, stratified, seed 42",
        ]
    else:
        assert notes == []
    # A third of every split is of class 0, of the rows cut from train as well.
    assert abs(zeros - test_rows / 3) < 1
    assert average == ("binary" if name in ("mrpc", "qqp") else "macro")
