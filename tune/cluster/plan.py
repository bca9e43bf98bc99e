"""Decide how many trials run side by side and what each of them gets. Pure: a spec and nodes in, a plan out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tune.cluster.machine import worker_bytes
from tune.cluster.nodes import ACCELERATOR, Autoscaler, Node
from tune.spec.field_types import flag_name
from tune.spec.sweep_spec import GPU_BUDGETS, SweepSpec

DEFAULT_GPUS_PER_TRIAL = 0.25


@dataclass(frozen=True)
class Plan:
    """What every trial gets, and how many trials run side by side."""

    slots: int
    """How many trials run side by side on the nodes of now."""
    cpus_per_trial: float
    gpus_per_trial: float
    local_cores: int | None = None
    """How many cores this machine gives to the sweep, if all trials run on this machine's cores; else None."""
    largest_multiplier: int = 1
    """By how much the resources of a trial that ran out of memory can be multiplied at most: a power of 2."""
    elastic: bool = False
    """Whether nodes may come and go, and slots with them."""
    most_slots: int = 0
    """How many trials run side by side once all the nodes came that will be asked for."""
    accelerator: str | None = None
    """The kind of GPU that a node must have to be given trials; None if any will do."""
    slots_without_memory: int = 0
    """How many trials the cores and GPUs would run side by side for which there is no memory."""
    worker_bytes: int = 0
    """About how much memory of its machine each trial takes."""
    gpus: float = 0.0
    """How many GPUs the nodes of now have that run trials, used or not."""

    def slots_on(self, nodes: Iterable[Node]) -> int:
        """How many trials these nodes run side by side."""
        fit = (node for node in nodes if self.accelerator is None or self.accelerator in node.accelerators)
        return sum(_slots(node, self.cpus_per_trial, self.gpus_per_trial, self.worker_bytes) for node in fit)

    def gpus_on(self, nodes: Iterable[Node]) -> float:
        """How many GPUs those of the nodes have that run trials; 0 where trials train on the CPU."""
        return sum(node.gpus for node in nodes if self.slots_on([node])) if self.gpus_per_trial else 0.0

    def resources(self, memory_multiplier: int = 1) -> dict[str, float]:
        """Ray's resources for a trial that gets so many times the usual memory: of a GPU, else with the cores."""
        kind = {f"{ACCELERATOR}{self.accelerator}": 0.001} if self.accelerator is not None else {}
        if self.gpus_per_trial:
            return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial * memory_multiplier, **kind}
        return {"CPU": self.cpus_per_trial * memory_multiplier, **kind}

    @property
    def threads(self) -> int:
        """CPU threads of one trial."""
        return max(1, int(self.cpus_per_trial))

    def __str__(self) -> str:
        gpus = f"{self.gpus_per_trial:g} GPU and " if self.gpus_per_trial else ""
        cores = f"{self.cpus_per_trial:g} core{'' if self.cpus_per_trial == 1 else 's'}"
        now = " now" if self.elastic else ""
        return f"{self.slots} trial{'' if self.slots == 1 else 's'} side by side{now}, {gpus}{cores} each"


def make_plan(
    spec: SweepSpec,
    nodes: Sequence[Node],
    problems: list[str],
    autoscaler: Autoscaler = Autoscaler.NONE,
    measured_gpus: float | None = None,
    model_bytes: int = 0,
) -> Plan:
    """Plan a sweep: cores and GPUs per trial as asked for, else one core, and a quarter of a GPU where there are GPUs.

    Args:
        spec: What the user asked for.
        nodes: The nodes of now.
        problems: Gets a sentence for each thing that can't be, such as nodes on which not one trial fits while no
            autoscaler brings others.
        autoscaler: Who starts further nodes.
        measured_gpus: GPUs per trial as measured, where the spec says `auto`; until that is known a trial gets a
            whole GPU.
        model_bytes: The model's weights, which decide how many trials a machine's memory holds.
    """
    every = nodes
    nodes = [node for node in every if spec.accelerator is None or spec.accelerator in node.accelerators]
    if not nodes and every and autoscaler is Autoscaler.NONE:
        problems.append(_no_accelerator(spec.accelerator, every))
        nodes = every
    cpus_each = spec.cpus_per_trial if spec.cpus_per_trial is not None else 1.0
    gpus_each = _gpus_per_trial(spec, nodes, autoscaler, cpus_each, measured_gpus)
    bytes_each = worker_bytes(model_bytes, on_gpu=gpus_each > 0)
    slots = sum(_slots(node, cpus_each, gpus_each, bytes_each) for node in nodes)
    if gpus_each > 1:
        problems.append(f"--gpus-per-trial must be at most 1, but got {gpus_each:g}: a trial trains on one GPU")
    elif slots == 0:
        problems += _no_slot_problems(spec, nodes, autoscaler, cpus_each, gpus_each)
    if not gpus_each:
        problems += [
            f"{flag_name(name)} counts GPU-hours, but trials train on the CPU: use --time-budget"
            for name in GPU_BUDGETS
            if getattr(spec, name) is not None
        ]
    allowed = min(spec.num_trials, spec.max_concurrent or spec.num_trials)
    with_memory = sum(_slots(node, cpus_each, gpus_each) for node in nodes)
    all_on_local_cores = len(nodes) == 1 and nodes[0].here and not gpus_each
    return Plan(
        min(slots, allowed),
        cpus_each,
        gpus_each,
        local_cores=max(1, int(nodes[0].cpus)) if all_on_local_cores else None,
        largest_multiplier=_largest_multiplier(nodes, autoscaler, cpus_each, gpus_each),
        elastic=not any(node.here for node in every),
        most_slots=allowed if autoscaler is Autoscaler.ON_DEMAND else min(slots, allowed),
        accelerator=spec.accelerator,
        slots_without_memory=max(0, min(with_memory, allowed) - slots),
        worker_bytes=bytes_each,
        gpus=sum(node.gpus for node in nodes if _slots(node, cpus_each, gpus_each, bytes_each)) if gpus_each else 0.0,
    )


def open_trials(spec: SweepSpec, slots: int, autoscaler: Autoscaler) -> int:
    """How many trials may run or wait for a slot at a time.

    Usually as many as there are slots. An autoscaler that works on demand starts nodes for waiting trials, so there as
    many again may wait: the number of nodes doubles until every trial has a slot. At least one trial is open, for nodes
    that are yet to come.
    """
    waiting = max(1, slots) if autoscaler is Autoscaler.ON_DEMAND else 0
    return min(max(1, slots + waiting), spec.max_concurrent or spec.num_trials)


def _slots(node: Node, cpus: float, gpus: float, memory_bytes: int = 0) -> int:
    """How many trials a node runs side by side, each with so many cores, GPUs and bytes; one is tried in any memory."""
    slots = math.floor(node.cpus / cpus + 1e-9)
    if gpus:
        # Ray puts a trial's fraction on one GPU: three trials of 0.4 need two GPUs.
        by_gpu = int(node.gpus) * math.floor(1 / gpus + 1e-9) if gpus <= 1 else math.floor(node.gpus / gpus)
        slots = min(slots, by_gpu)
    if node.memory_bytes is None or not memory_bytes:
        return slots
    return min(slots, max(1, node.memory_bytes // memory_bytes))


def _gpus_per_trial(
    spec: SweepSpec, nodes: Sequence[Node], autoscaler: Autoscaler, cpus_each: float, measured: float | None
) -> float:
    if spec.gpus_per_trial is not None and spec.gpus_per_trial != "auto":
        return spec.gpus_per_trial
    if sum(node.gpus for node in nodes) >= 1:
        gpus_come = True
    else:  # `auto` waits for the first node, which may have a GPU
        no_slot_yet = not any(_slots(node, cpus_each, 0) for node in nodes)
        gpus_come = spec.gpus_per_trial == "auto" and no_slot_yet and autoscaler is not Autoscaler.NONE
    if not gpus_come:
        return 0.0
    return DEFAULT_GPUS_PER_TRIAL if spec.gpus_per_trial is None else measured or 1.0


def _largest_multiplier(nodes: Sequence[Node], autoscaler: Autoscaler, cpus_each: float, gpus_each: float) -> int:
    """The largest power of 2 by which a trial's resources can grow on some node. A trial never spreads over GPUs."""
    if gpus_each:
        ratios = [min(1.0, node.gpus) / gpus_each for node in nodes]
        if autoscaler is not Autoscaler.NONE:
            ratios.append(1 / gpus_each)  # of a node that is yet to come
    else:
        ratios = [node.cpus / cpus_each for node in nodes]
    return int(2 ** int(math.log2(max([1.0, *ratios]))))


def _no_slot_problems(
    spec: SweepSpec, nodes: Sequence[Node], autoscaler: Autoscaler, cpus_each: float, gpus_each: float
) -> list[str]:
    if autoscaler is not Autoscaler.NONE:  # nodes will come, but what have they?
        if spec.gpus_per_trial is not None:
            return []
        return [
            "--gpus-per-trial: no machine is there yet that tells how many GPUs a trial could have; "
            f"give {DEFAULT_GPUS_PER_TRIAL:g} for four trials to a GPU, or 0 for none"
        ]
    offers = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes) or "nothing"
    return [
        f"no room for even one trial: it asks for {cpus_each:g} cores and {gpus_each:g} GPUs, "
        f"and the machines offer {offers}; lower --cpus-per-trial or --gpus-per-trial"
    ]


def _no_accelerator(name: str | None, nodes: Sequence[Node]) -> str:
    kinds = Counter(kind for node in nodes for kind in node.accelerators)
    there = ", ".join(f"{kind} ({count} node{'' if count == 1 else 's'})" for kind, count in sorted(kinds.items()))
    return f"--accelerator {name}: no node has it; {f'the cluster has {there}' if there else 'no node names its GPUs'}"
