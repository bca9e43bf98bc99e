"""The facts of nodes are compared with the driver's, and everything that is wrong is told at once."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tune.cluster import node_facts
from tune.cluster.node_facts import (
    NodeFacts,
    facts_here,
    facts_of,
    leave_mark,
    project_digest,
    remove_marks,
    seen_marks,
)
from tune.cluster.node_problems import DRIVER, MAX_CLOCK_DIFFERENCE_S, NoAnswer, Requirements, problems_of
from tune.cluster.versions import refused_versions

NAMES = {"a": "alpha (10.0.0.1)", "b": "beta (10.0.0.2)", "c": "gamma (10.0.0.3)"}
EVERYBODY = frozenset({*NAMES, DRIVER})
REQUIRED = Requirements(Path("/data/run"), None, "model", run_bytes=10**9, shipped_bytes=10**9)
GOOD = NodeFacts(
    versions={"Python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0"},
    project="digest",
    model="model",
    no_place_for_model=None,
    free_bytes=10**10,
    free_temporary_bytes=10**10,
    gpus=None,
    sees=EVERYBODY,
)


def found(
    answers: dict[str, NodeFacts | NoAnswer], here: NodeFacts = GOOD, required: Requirements = REQUIRED
) -> list[str]:
    return problems_of(answers, here, required, NAMES)


def but(**changes: Any) -> NodeFacts:
    return dataclasses.replace(GOOD, **changes)


def test_equal_nodes_have_no_problem() -> None:
    assert found({"a": GOOD, "b": GOOD, "c": GOOD}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"versions": {"Python": "3.12.1", "ray": "2.60.0", "torch": ""}},
            "Python 3.12.1 (here 3.11.7), torch is missing (here 2.13.0); "
            "the versions must be the same on every node and here",
        ),
        ({"project": None}, "finetune-search is not installed there; every node needs the driver's version of it"),
        (
            {"project": "older"},
            "has another version of finetune-search (its source files differ); install the driver's there",
        ),
        (
            {"free_bytes": 10**8},
            "the disk has 0.10 GB for /data/run, but the sweep may write 1.00 GB; lower --max-concurrent, --keep-top "
            "or --confirm",
        ),
        (
            {"model": None, "free_temporary_bytes": 10**8},
            "the disk of its temporary folder has 0.10 GB, but the model's copy and what its trials write may take "
            "1.00 GB; free some, or set TMPDIR there to a larger disk",
        ),
        (
            {"model": "other", "no_place_for_model": "/tmp/x is not ours"},
            "the model can't be put there: /tmp/x is not ours",
        ),
        (
            {"clock_ahead_s": 7.4},
            "has a clock at least 7 s ahead of the driver's; at most 5 s are allowed: set the clocks (NTP)",
        ),
        (
            {"clock_ahead_s": -3600.0},
            "has a clock at least 3600 s behind the driver's; at most 5 s are allowed: set the clocks (NTP)",
        ),
        ({"unwritable": "Permission denied"}, "can't write below /data/run: Permission denied"),
        (
            {"sees": frozenset({"b", "c"})},
            "can't see what the driver writes below /data/run; --out must be a folder that all nodes share, "
            "or s3://...",
        ),
        (
            {"sees": frozenset({"b"}), "unwritable": "No such file or directory"},
            "can't see what gamma (10.0.0.3) and the driver write below /data/run; "
            "--out must be a folder that all nodes share, or s3://...",
        ),
    ],
)
def test_each_difference_is_told_with_the_node(changes: dict[str, Any], said: str) -> None:
    answers: dict[str, NodeFacts | NoAnswer] = {"a": but(**changes), "b": GOOD, "c": GOOD}
    assert found(answers) == [f"alpha (10.0.0.1): {said}"]
    # A problem that two nodes have is told once, whatever else is wrong.
    problems = found({**answers, "b": but(**changes), "c": NoAnswer("did not answer")})
    assert "gamma (10.0.0.3): did not answer" in problems
    if "sees" not in changes:
        assert f"alpha (10.0.0.1) and beta (10.0.0.2): {said}" in problems
        assert len(problems) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},  # the model is shipped
        {"model": None, "free_temporary_bytes": 10**9},
        {
            "no_place_for_model": "somebody else's",
            "free_temporary_bytes": 0,
        },  # this node has the model, so nothing is shipped there
        {"clock_ahead_s": MAX_CLOCK_DIFFERENCE_S},
        {"clock_ahead_s": -MAX_CLOCK_DIFFERENCE_S},
        {"free_bytes": 10**9},
        {"gpus": ()},
    ],
)
def test_what_does_not_matter_is_not_told(changes: dict[str, Any]) -> None:
    assert found({"a": but(**changes), "b": GOOD}) == []


def test_everything_is_told_at_once() -> None:
    alone = frozenset({"a"})
    bad = but(project="older", versions={}, free_bytes=0, clock_ahead_s=99.0, sees=alone)
    problems = found({"a": bad, "b": NoAnswer("did not answer"), "c": GOOD})
    for word in ("Python is missing", "source files differ", "the disk has", "clock", "can't see", "did not answer"):
        assert sum(word in problem for problem in problems) == 1, (word, problems)


def test_in_a_store_the_disks_are_their_nodes_own_and_the_store_is_everybodys() -> None:
    required = dataclasses.replace(REQUIRED, url="s3://bucket/run?region=x", temporary_bytes={"a": 2 * 10**9})
    small = but(free_bytes=0)
    assert found({"a": small, "b": small}, required=required) == []
    problems = found({"a": but(free_temporary_bytes=10**9), "b": small}, required=required)
    assert len(problems) == 1
    assert problems[0].startswith("alpha (10.0.0.1): the disk of its temporary folder has 1.00 GB")
    cut_off = but(sees=frozenset(), unwritable="NoSuchBucket")
    assert found({"a": cut_off, "b": GOOD}, required=required) == [
        "alpha (10.0.0.1): can't write below s3://bucket/run: NoSuchBucket",
        "alpha (10.0.0.1): can't read what beta (10.0.0.2) and the driver write below s3://bucket/run; "
        "every node needs a way to the store, and its keys",
    ]


def test_facts_of_this_machine(tiny_model: Path, tmp_path: Path) -> None:
    from trainable.hub.model_folder import model_fingerprint

    here = facts_of(facts_here(str(tiny_model), project_digest(), str(tmp_path / "run" / "deeper")))
    assert here.model == model_fingerprint(tiny_model)
    assert here.versions["ray"] == "2.60.0"
    assert "+" not in here.versions["torch"]
    assert here.free_bytes is not None
    assert here.free_bytes > 0
    stranger = facts_of(facts_here(str(tiny_model), "another digest", "/nowhere"))
    assert (stranger.model, stranger.project) == (None, here.project)


def test_the_digest_is_of_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import facts; print(facts.project_digest())"
    (tmp_path / "facts.py").write_text(Path(node_facts.__file__).read_text())

    def digest() -> str:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
        return done.stdout.strip()

    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in ("tune", "trainable"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    seen = {digest()}
    for path in ("tune/a.py", "trainable/b.py", "tune/deeper/c.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("1")
        seen.add(digest())
        (tmp_path / path).write_text("2")
        seen.add(digest())
    (tmp_path / "tune" / "notes.txt").touch()
    assert len(seen | {digest()}) == 7


@pytest.mark.parametrize("url", ["", "file://"])
def test_marks_are_seen_where_they_are_and_waited_for_where_they_are_not(tmp_path: Path, url: str) -> None:
    (tmp_path / "marks").mkdir()
    root, in_store = f"{url}{tmp_path}", bool(url)
    assert leave_mark(root, in_store, "marks", "a") is None
    assert seen_marks(root, in_store, "marks", ["a", "b"], within_s=0.3) == ["a"]
    (tmp_path / "marks" / "b").write_text("torn")
    assert seen_marks(root, in_store, "marks", ["a", "b"], within_s=0.0) == ["a"]
    remove_marks(root, in_store, "marks")
    assert not list(tmp_path.iterdir())
    remove_marks(root, in_store, "marks")
    (tmp_path / "file").touch()
    told = leave_mark(f"{root}/file", in_store, "marks", "a")
    assert told is not None
    assert "directory" in told
    assert seen_marks(f"{root}/file", in_store, "marks", ["a"], within_s=0.0) == []


@pytest.mark.parametrize(
    ("ray", "python", "said"),
    [
        ("2.59.0", "3.11.7", "Ray 2.59.0 (here 2.60.0)"),
        ("2.59.0", "3.12.1", "Ray 2.59.0 (here 2.60.0), Python 3.12.1 (here 3.11.7)"),
    ],
)
def test_rays_own_refusal_is_told_in_the_same_words(
    ray: str, python: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import utils

    monkeypatch.setattr(utils, "compute_version_info", lambda: ("2.60.0", "3.11.7"))
    with pytest.raises(RuntimeError) as refused:
        utils.check_version_info({"ray_version": ray, "python_version": python}, "node 1.2.3.4:5")
    assert refused_versions(str(refused.value)) == said
    assert refused_versions("something else") is None
