"""What the nodes of a cluster have, what of it is free, and which drivers hold the rest, by asking Ray's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.cluster.nodes import node_names


@dataclass(frozen=True)
class NodeOccupancy:
    """What a node has and what of it is free, by Ray's names of resources."""

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]


@dataclass(frozen=True)
class Holder:
    """A driver that works on the same cluster, and what Ray's head knows that it holds."""

    entrypoint: str
    """Its command."""
    address: str
    """The address of its machine."""
    pid: int
    """Its process there."""
    holds: Sequence[str] = ()
    """Actors and placement groups in words, such as "actor Hog (1 CPU) on NODE"."""


@dataclass(frozen=True)
class Occupancy:
    """How a cluster is occupied."""

    nodes: Sequence[NodeOccupancy]
    holders: Sequence[Holder]
    """Drivers that hold something or may."""
    own: Sequence[Mapping[str, float]] = ()
    """The resources that this process's own placement groups were given."""


def occupancy_now() -> Occupancy:
    """How the connected cluster is occupied, as far as Ray's head tells without its dashboard.

    The head knows actors, placement groups and drivers. It does not know single tasks, which drivers and nodes agree
    on between themselves.
    """
    import ray
    from ray._private.state import state

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    names = node_names(alive)
    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    nodes = [NodeOccupancy(names[n["NodeID"]], n["Resources"], free.get(n["NodeID"], {})) for n in alive]
    head = state._connect_and_get_accessor()
    our_job = ray.get_runtime_context().get_job_id()
    held: dict[str, list[str]] = {}
    own = _add_placement_groups(head, names, our_job, held)
    _add_actors(head, names, held)
    return Occupancy(nodes, _holders(head, our_job, held), own)


def _add_placement_groups(
    head: Any, names: Mapping[str, str], our_job: str, held: dict[str, list[str]]
) -> list[Mapping[str, float]]:
    """Add every placement group's bundles to what its job holds; returns the bundles of our own job."""
    tables = _tables()
    placed = (tables.PlacementGroupTableData.CREATED, tables.PlacementGroupTableData.RESCHEDULING)
    own: list[Mapping[str, float]] = []
    for raw in head.get_placement_group_table():
        group = tables.PlacementGroupTableData.FromString(raw)
        if group.state not in placed:
            continue
        job = group.creator_job_id.hex()
        for bundle in group.bundles:
            amounts = dict(bundle.unit_resources)
            if job == our_job:
                own.append(amounts)
            what = f"placement group {group.name or group.placement_group_id.hex()[:8]}"
            where = names.get(bundle.node_id.hex(), "a node")
            held.setdefault(job, []).append(f"{what} ({amounts_text(amounts)}) on {where}")
    return own


def _add_actors(head: Any, names: Mapping[str, str], held: dict[str, list[str]]) -> None:
    """Add every actor that holds resources of its own to what its job holds."""
    for raw in head.get_actor_table(None, "ALIVE"):
        actor = _tables().ActorTableData.FromString(raw)
        in_a_group = actor.placement_group_id.strip(b"\xff")  # then the group is listed
        amounts = dict(actor.required_resources)
        if amounts and not in_a_group:
            what = f"actor {actor.name or actor.class_name} ({amounts_text(amounts)}, process {actor.pid})"
            where = names.get(actor.address.node_id.hex(), "a node")
            held.setdefault(actor.job_id.hex(), []).append(f"{what} on {where}")


def _holders(head: Any, our_job: str, held: Mapping[str, Sequence[str]]) -> list[Holder]:
    """The other drivers that are alive, and all that hold something, dead or ours."""
    holders = []
    for raw in head.get_job_table(skip_submission_job_info_field=True, skip_is_running_tasks_field=True):
        job = _tables().JobTableData.FromString(raw)
        number = job.job_id.hex()
        of_ray_itself = job.config.ray_namespace.startswith("_ray_internal_")
        if of_ray_itself or (number not in held and (job.is_dead or number == our_job)):
            continue
        who = "this process" if number == our_job else job.entrypoint + (" (ended)" if job.is_dead else "")
        holders.append(Holder(who, job.driver_address.ip_address, job.driver_pid, held.get(number, ())))
    return holders


def _tables() -> Any:
    """The classes of the head's tables. They are made at run time, so mypy sees none of them."""
    from ray.core.generated import gcs_pb2

    return gcs_pb2


def amounts_text(amounts: Mapping[str, float]) -> str:
    """Resources in words: "1 CPU, 0.5 GPU"."""
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items() if amount) or "nothing"
