"""What is said while nothing can be placed: what was asked for, what there is, who holds it, what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainable.redaction import one_line
from tune.cluster.connect import node_names

NOTICE_AFTER_S = 60.0
NOTICE_EVERY_S = 180.0
LOOK_EVERY_S = 1.0
MAX_LISTED = 20  # nodes, and drivers
MAX_HELD = 5  # of one driver
MAX_COMMAND = 120  # characters
ALWAYS_SHOWN = ("CPU", "GPU")  # of a node, beside what was asked for


@dataclass(frozen=True)
class NodeRoom:
    """What a node has and what of it is free, by Ray's names of resources."""

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]


@dataclass(frozen=True)
class Holder:
    """A driver that shares the cluster with us, and what Ray's head knows that it holds.

    entrypoint: its command; address: its machine's; pid: there
    holds: actors and placement groups in words ("actor Hog (1 CPU) on NODE")
    """

    entrypoint: str
    address: str
    pid: int
    holds: Sequence[str] = ()


@dataclass(frozen=True)
class Room:
    """A cluster's nodes, who else is there, and what this process has placed itself."""

    nodes: Sequence[NodeRoom]
    holders: Sequence[Holder]
    own: Sequence[Mapping[str, float]] = ()


def waiting_text(asked: Mapping[str, float], room: Room | None, waited_s: float) -> str:
    """The notice: several lines, the first of which says what is waited for and for how long.

    room: None where the cluster could not be asked
    """
    first = f"nothing has been running for {waited_s:.0f} s"
    if room is None:
        return f"{first}: {_amounts(asked)} was asked for, and Ray's head does not say what the cluster has"
    if any(_covers(own, asked) for own in room.own):
        return f"{first}: {_amounts(asked)} was given, but no worker has started there yet"
    lines = [f"{first}: no node has {_amounts(asked)} free"]
    names = [*ALWAYS_SHOWN, *(name for name in asked if name not in ALWAYS_SHOWN)]
    for node in room.nodes[:MAX_LISTED]:
        has = [f"{node.free.get(n, 0.0):g} of {node.total[n]:g} {n}" for n in names if node.total.get(n)]
        lines.append(f"  {node.name}: " + (f"free {', '.join(has)}" if has else "offers no CPU or GPU"))
    lines += _more(room.nodes, "nodes")
    for holder in room.holders[:MAX_LISTED]:
        more = [f"{len(holder.holds) - MAX_HELD} more"] if len(holder.holds) > MAX_HELD else []
        held = "; ".join([*holder.holds[:MAX_HELD], *more]) or "no actor or placement group; maybe tasks, not listed"
        command = one_line(holder.entrypoint) or "a driver"
        command = command if len(command) <= MAX_COMMAND else f"{command[:MAX_COMMAND]}..."
        lines.append(f"  held by {command} (process {holder.pid} on {holder.address}): {one_line(held)}")
    lines += _more(room.holders, "drivers")
    if not room.holders:
        lines.append("  no other driver is known to the cluster")
    return "\n".join([*lines, f"  {_advice(asked, room)}"])


def placed_text(waited_s: float) -> str:
    """The end of it."""
    return f"placed after {waited_s:.0f} s"


def _advice(asked: Mapping[str, float], room: Room) -> str:
    flags = " or ".join(f"--{name.lower()}s-per-trial" for name in ("GPU", "CPU") if asked.get(name))
    if not any(_covers(node.total, asked) for node in room.nodes):
        return f"No node has that much, busy or not: add one that has, or end this (Ctrl-C) and lower {flags}."
    return f"It goes on by itself once a node has that much free: wait, add nodes, or end this and lower {flags}."


def _covers(has: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    return all(has.get(name, 0.0) + 1e-9 >= amount for name, amount in asked.items())


def _amounts(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items() if amount) or "nothing"


def _more(items: Sequence[object], what: str) -> list[str]:
    return [f"  ... ({len(items)} {what} in all)"] if len(items) > MAX_LISTED else []


class Waiting:
    """Tells the user of every wait for room that takes long, again and again while it lasts, and of its end."""

    def __init__(
        self,
        say: Callable[[str], None],
        look: Callable[[], Room] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._look = look or room_in_cluster
        self._now = now
        self._since: float | None = None
        self._told: float | None = None

    def tick(self, asked: Mapping[str, float] | None) -> None:
        """What is waited for while nothing is placed, else None; to be called every few seconds at least."""
        now = self._now()
        if asked is None:
            if self._since is not None and self._told is not None:
                self._say(placed_text(now - self._since))
            self._since = self._told = None
            return
        if self._since is None:
            self._since = now
        due = self._since + NOTICE_AFTER_S if self._told is None else self._told + NOTICE_EVERY_S
        if now >= due:
            self._told = now
            try:
                room = self._look()
            except Exception:  # what only tells must not end a sweep
                room = None
            self._say(waiting_text(asked, room, now - self._since))


def when_placed(
    asked: Mapping[str, float], say: Callable[[str], None], function: Callable[..., Any], arguments: Sequence[Any]
) -> Any:
    """Call a function where the cluster has room for what was asked for, and return what it returns.

    Raises RayTaskError with what the function raised, another RayError where its worker died.
    """
    import ray

    others = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU")}
    # Ray's own retries never end where memory runs out.
    remote = ray.remote(num_cpus=asked.get("CPU", 0), num_gpus=asked.get("GPU", 0), resources=others, max_retries=0)(
        _announced
    )
    answers: Any = remote.remote(function, arguments)
    waiting = Waiting(say)
    try:
        while not ray.wait([answers], timeout=LOOK_EVERY_S)[0]:
            waiting.tick(asked)
        waiting.tick(None)
        ray.get(next(answers))
        return ray.get(next(answers))
    except KeyboardInterrupt:
        ray.cancel(answers)
        raise


def _announced(function: Callable[..., Any], arguments: Sequence[Any]) -> Iterator[Any]:
    """First that it runs, then what it returns."""
    yield None
    yield function(*arguments)


def room_in_cluster() -> Room:
    """What the cluster's nodes have, and who holds it as far as Ray's head tells without its dashboard.

    Tasks are between drivers and nodes; the head knows actors, placement groups and drivers.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated import gcs_pb2 as _gcs

    gcs_pb2: Any = _gcs  # made at run time: mypy sees nothing in it

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    names = node_names(alive)
    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    nodes = [NodeRoom(names[n["NodeID"]], n["Resources"], free.get(n["NodeID"], {})) for n in alive]
    head = state._connect_and_get_accessor()
    ours = ray.get_runtime_context().get_job_id()
    held: dict[str, list[str]] = {}
    own = []
    for raw in head.get_placement_group_table():
        group = gcs_pb2.PlacementGroupTableData.FromString(raw)
        if group.state in (gcs_pb2.PlacementGroupTableData.CREATED, gcs_pb2.PlacementGroupTableData.RESCHEDULING):
            for bundle in group.bundles:
                if group.creator_job_id.hex() == ours:
                    own.append(dict(bundle.unit_resources))
                where = names.get(bundle.node_id.hex(), "a node")
                what = f"placement group {group.name or group.placement_group_id.hex()[:8]}"
                held.setdefault(group.creator_job_id.hex(), []).append(
                    f"{what} ({_amounts(dict(bundle.unit_resources))}) on {where}"
                )
    for raw in head.get_actor_table(None, "ALIVE"):
        actor = gcs_pb2.ActorTableData.FromString(raw)
        if actor.placement_group_id.strip(b"\xff"):  # told with its group
            continue
        if amounts := dict(actor.required_resources):
            what = f"actor {actor.name or actor.class_name} ({_amounts(amounts)}, process {actor.pid})"
            where = names.get(actor.address.node_id.hex(), "a node")
            held.setdefault(actor.job_id.hex(), []).append(f"{what} on {where}")
    holders = []
    for raw in head.get_job_table(skip_submission_job_info_field=True, skip_is_running_tasks_field=True):
        job = gcs_pb2.JobTableData.FromString(raw)
        number = job.job_id.hex()
        of_ray_itself = job.config.ray_namespace.startswith("_ray_internal_")
        if of_ray_itself or (number not in held and (job.is_dead or number == ours)):
            continue
        who = "this process" if number == ours else job.entrypoint + (" (ended)" if job.is_dead else "")
        holders.append(Holder(who, job.driver_address.ip_address, job.driver_pid, held.get(number, ())))
    return Room(nodes, holders, own)
