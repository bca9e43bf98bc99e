"""The machines that trials run on: what each offers, and whether an autoscaler starts more of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tune.cluster.machine import usable_cores, usable_gpus, usable_memory
from tune.spec.sweep_spec import SweepSpec

ACCELERATOR = "accelerator_type:"  # Ray's prefix of the resource that names the kind of a node's GPUs
LOCAL_NODE_TYPE = "local.cluster.node"  # Ray's type of every machine in a cluster file with `provider: local`


@dataclass(frozen=True)
class Node:
    """What one machine offers to trials, in Ray's logical numbers."""

    cpus: float
    gpus: float = 0.0
    here: bool = False
    """Whether it is this machine, and its Ray is this sweep's alone."""
    name: str = ""
    """What the user calls it; empty for this machine."""
    id: str = ""
    """What Ray calls it; empty for this machine."""
    accelerators: tuple[str, ...] = ()
    """Kinds of its GPUs, as Ray calls them (H100)."""
    memory_bytes: int | None = None
    """The memory for trials; None where it does not limit them."""


class Autoscaler(Enum):
    """Whether and how a cluster starts nodes by itself."""

    NONE = "none"
    """Nodes come and go as somebody starts and stops them."""
    FIXED = "fixed"
    """The autoscaler has a list of machines and starts all of them."""
    ON_DEMAND = "on demand"
    """The autoscaler starts as many nodes as the waiting trials need."""


def local_nodes(spec: SweepSpec) -> list[Node]:
    """What a private Ray on this machine would offer: what the spec says, else the cores and GPUs we may use.

    Memory limits the trials unless the spec says how many cores there are.
    """
    cpus = spec.num_cpus if spec.num_cpus is not None else usable_cores()
    gpus = spec.num_gpus if spec.num_gpus is not None else usable_gpus()
    return [Node(cpus, gpus, here=True, memory_bytes=usable_memory() if spec.num_cpus is None else None)]


def nodes_now() -> list[Node]:
    """The nodes of the connected cluster that are alive, also those that offer nothing to trials."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    names = node_names(alive)
    nodes = []
    for node in alive:
        resources, id_ = node["Resources"], node["NodeID"]
        kinds = tuple(name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR))
        cpus, gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
        memory = int(resources["memory"]) if "memory" in resources else None
        nodes.append(Node(cpus, gpus, name=names[id_], id=id_, accelerators=kinds, memory_bytes=memory))
    return nodes


def node_names(table: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What to call the nodes in the rows of ray.nodes(): host and address.

    Nodes that share both (several Rays on one machine) also get the first characters of their ids.

    Returns:
        Names by node id.
    """
    names = {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in table}
    counts = Counter(names.values())
    return {id_: name if counts[name] == 1 else f"{name[:-1]}, {id_[:6]})" for id_, name in names.items()}


def autoscaler_now() -> Autoscaler:
    """The connected cluster's autoscaler. Ray does not name it, but both of its versions give nodes a type."""
    import ray
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_get

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    types = {node.get("Labels", {}).get("ray.io/node-group", "") for node in nodes if node["Alive"]}
    # Version 1 of the autoscaler sets no labels; it publishes a report.
    status = json.loads(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS) or b"{}")
    report = status.get("autoscaler_report") or {}
    return autoscaler_of([*types, *report.get("active_nodes", ())])


def autoscaler_of(node_types: Iterable[str]) -> Autoscaler:
    """The autoscaler that starts nodes of these types.

    A node that no autoscaler started has no type, or one that Ray made up from the node's id.
    """
    known = {name for name in node_types if name and not re.fullmatch("node_[0-9a-f]{56}", name)}
    if known - {LOCAL_NODE_TYPE}:
        return Autoscaler.ON_DEMAND
    return Autoscaler.FIXED if known else Autoscaler.NONE
