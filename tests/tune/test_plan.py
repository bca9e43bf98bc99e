"""How many trials run side by side, and what each gets."""

from __future__ import annotations

from typing import Any

import pytest

from tune.cluster.disk import disk_bytes
from tune.cluster.nodes import LOCAL_NODE_TYPE, Autoscaler, Node, autoscaler_of
from tune.cluster.plan import make_plan, open_trials
from tune.spec.sweep_spec import SweepSpec


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
        ([Node(16, 2)], {"gpus_per_trial": 1}, (2, 1, 1)),
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


@pytest.mark.parametrize("fields", [{"cpus_per_trial": 3}, {"gpus_per_trial": 0.5}])
def test_no_room_for_one_trial_is_said(fields: dict[str, Any]) -> None:
    problems: list[str] = []
    make_plan(SweepSpec(name="s", model="m", dataset="d", **fields), [Node(2)], problems)
    assert len(problems) == 1
    assert problems[0].startswith("no room for even one trial")


@pytest.mark.parametrize("gpus", [4, 0])
def test_a_share_above_one_gpu_is_refused_in_one_sentence(gpus: int) -> None:
    problems: list[str] = []
    make_plan(SweepSpec(name="s", model="m", dataset="d", gpus_per_trial=1.5), [Node(8, gpus)], problems)
    assert problems == ["--gpus-per-trial must be at most 1, but got 1.5: a trial trains on one GPU"]


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


@pytest.mark.parametrize(
    ("node_types", "expected"),
    [
        ([], Autoscaler.NONE),
        ([""], Autoscaler.NONE),
        (["node_" + "0a" * 28, "node_" + "1b" * 28], Autoscaler.NONE),  # Ray makes up such types if no autoscaler runs
        ([LOCAL_NODE_TYPE, ""], Autoscaler.FIXED),
        (["head"], Autoscaler.ON_DEMAND),
        (["node_with_gpu", "node_" + "0a" * 28], Autoscaler.ON_DEMAND),
    ],
)
def test_who_starts_nodes_is_told_by_their_types(node_types: list[str], expected: Autoscaler) -> None:
    assert autoscaler_of(node_types) is expected


@pytest.mark.parametrize(
    ("slots", "who", "fields", "expected"),
    [
        (4, Autoscaler.NONE, {}, 4),
        (4, Autoscaler.FIXED, {}, 4),
        (4, Autoscaler.ON_DEMAND, {}, 8),
        (0, Autoscaler.NONE, {}, 1),  # one trial waits, in case nodes come
        (0, Autoscaler.FIXED, {}, 1),
        (0, Autoscaler.ON_DEMAND, {}, 1),
        (4, Autoscaler.ON_DEMAND, {"max_concurrent": 6}, 6),
        (4, Autoscaler.NONE, {"max_concurrent": 3}, 3),
        (60, Autoscaler.ON_DEMAND, {}, 100),
    ],
)
def test_as_many_trials_are_open_as_there_are_slots_and_what_nodes_are_asked_for_with(
    slots: int, who: Autoscaler, fields: dict[str, Any], expected: int
) -> None:
    assert open_trials(SweepSpec(name="s", model="m", dataset="d", num_trials=100, **fields), slots, who) == expected


def test_nodes_double_until_every_trial_has_a_slot() -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=12)
    slots = [0]
    while slots[-1] < 12:
        slots.append(
            open_trials(spec, slots[-1], Autoscaler.ON_DEMAND)
        )  # the autoscaler starts the nodes that were asked for
    assert slots == [0, 1, 2, 4, 8, 12]


@pytest.mark.parametrize("who", [Autoscaler.FIXED, Autoscaler.ON_DEMAND])
def test_a_cluster_without_workers_is_asked_for_them(who: Autoscaler) -> None:
    problems: list[str] = []
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=9, gpus_per_trial=0.25)
    plan = make_plan(spec, [Node(0)], problems, who)
    assert problems == []
    assert str(plan) == "0 trials side by side now, 0.25 GPU and 1 core each"
    assert plan.largest_multiplier == 4
    assert plan.slots_on([Node(0), Node(2, 1), Node(8, 1)]) == 6


def test_a_share_is_not_guessed_where_no_machine_is_there() -> None:
    problems: list[str] = []
    make_plan(SweepSpec(name="s", model="m", dataset="d"), [Node(0)], problems, Autoscaler.ON_DEMAND)
    assert problems == [
        "--gpus-per-trial: no machine is there yet that tells how many GPUs a trial could have; "
        "give 0.25 for four trials to a GPU, or 0 for none"
    ]


def test_disk_is_reckoned_for_the_nodes_that_are_asked_for() -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=20, max_concurrent=6)
    nodes = [Node(2)]
    assert disk_bytes(make_plan(spec, nodes, [], Autoscaler.ON_DEMAND), 1000, 1) == 1000 * (6 * 9 + 2)
    assert disk_bytes(make_plan(spec, nodes, []), 1000, 1) == 1000 * (2 * 9 + 2)


def test_each_node_runs_as_many_trials_as_its_memory_holds() -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=100)
    nodes = [Node(64, memory_bytes=40 << 30), Node(2, memory_bytes=40 << 30), Node(8), Node(8, memory_bytes=1)]
    plan = make_plan(spec, nodes, [], model_bytes=1 << 30)
    assert plan.worker_bytes == 8 << 30
    assert [plan.slots_on([node]) for node in nodes] == [5, 2, 8, 1]
    assert (plan.slots, plan.slots_without_memory) == (16, 82 - 16)


def test_on_a_gpu_a_trial_takes_less_of_its_machines_memory() -> None:
    spec = SweepSpec(name="s", model="m", dataset="d", num_trials=100)
    plan = make_plan(spec, [Node(64, 8, memory_bytes=70 << 30)], [], model_bytes=1 << 30)
    assert plan.worker_bytes == 7 << 29
    assert plan.slots == 20
