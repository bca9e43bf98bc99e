"""Slots and shares."""

from __future__ import annotations

from typing import Any

import pytest

from tune.plan import Node, make_plan
from tune.spec import SweepSpec


def plan(nodes: list[Node], **fields: Any) -> tuple[int, float, float]:
    problems: list[str] = []
    found = make_plan(SweepSpec(name="s", model="m", dataset="d", num_trials=100, **fields), nodes, problems)
    assert problems == []
    return found.slots, found.cpus_per_trial, found.gpus_per_trial


@pytest.mark.parametrize(
    ("nodes", "fields", "expected"),
    [
        ([Node(2)], {}, (2, 1, 0)),
        ([Node(2)], {"cpus_per_trial": 2}, (1, 2, 0)),
        ([Node(2)], {"cpus_per_trial": 0.5}, (4, 0.5, 0)),
        ([Node(16, 1)], {}, (4, 1, 0.25)),
        ([Node(3, 1)], {}, (3, 1, 0.25)),
        ([Node(16, 2)], {"gpus_per_trial": 0.4}, (4, 1, 0.4)),
        ([Node(16, 2)], {"gpus_per_trial": 2}, (1, 1, 2)),
        ([Node(16, 2)], {"gpus_per_trial": 0}, (16, 1, 0)),
        ([Node(4, 0), Node(8, 1)], {"gpus_per_trial": 0.5}, (2, 1, 0.5)),
        ([Node(3), Node(3)], {"cpus_per_trial": 2}, (2, 2, 0)),
        ([Node(8)], {"max_concurrent": 3}, (3, 1, 0)),
    ],
)
def test_slots_and_shares(nodes: list[Node], fields: dict[str, Any], expected: tuple[int, float, float]) -> None:
    assert plan(nodes, **fields) == expected


def test_no_more_slots_than_trials() -> None:
    problems: list[str] = []
    assert make_plan(SweepSpec(name="s", model="m", dataset="d", num_trials=2), [Node(64)], problems).slots == 2


@pytest.mark.parametrize("fields", [{"cpus_per_trial": 3}, {"gpus_per_trial": 0.5}, {"gpus_per_trial": 2}])
def test_no_room_for_one_trial_is_said(fields: dict[str, Any]) -> None:
    problems: list[str] = []
    make_plan(SweepSpec(name="s", model="m", dataset="d", **fields), [Node(2)], problems)
    assert len(problems) == 1
    assert problems[0].startswith("no room for even one trial")


def test_a_share_above_one_gpu_is_whole() -> None:
    problems: list[str] = []
    make_plan(SweepSpec(name="s", model="m", dataset="d", gpus_per_trial=1.5), [Node(8, 4)], problems)
    assert problems == ["--gpus-per-trial: a share above 1 must be whole, but got 1.5"]


@pytest.mark.parametrize(
    ("nodes", "fields", "cores"),
    [
        ([Node(4, here=True)], {}, 4),
        ([Node(4)], {}, None),  # a cluster's node, or a Ray that somebody else started
        ([Node(4, 1, here=True)], {}, None),
        ([Node(4, 1, here=True)], {"gpus_per_trial": 0.0}, 4),
        ([Node(4, here=True), Node(4)], {}, None),
    ],
)
def test_the_driver_computes_only_where_all_trials_run_on_its_cores(
    nodes: list[Node], fields: dict[str, float], cores: int | None
) -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=2, **fields)  # type: ignore[arg-type]
    assert make_plan(spec, nodes, []).local_cores == cores
