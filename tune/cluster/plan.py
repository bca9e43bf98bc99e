"""Pure: spec and nodes in, slots and shares out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tune.spec.sweep_spec import SweepSpec

DEFAULT_GPU_SHARE = 0.25
ACCELERATOR = "accelerator_type:"  # what Ray has before the kind in a node's resources


@dataclass(frozen=True)
class Node:
    """What one machine offers to trials, in Ray's logical numbers.

    here: whether it is this machine and ours alone
    name, id: what the user and what Ray calls it; empty for this machine
    accelerators: kinds of GPUs, as Ray calls them (H100)
    """

    cpus: float
    gpus: float = 0.0
    here: bool = False
    name: str = ""
    id: str = ""
    accelerators: tuple[str, ...] = ()


class Growth(Enum):
    """Who starts a cluster's nodes."""

    NONE = "somebody, or nobody"
    FIXED = "an autoscaler that has a list of machines and starts them all"
    ON_DEMAND = "an autoscaler that starts as many as are asked for"


LOCAL_TYPE = "local.cluster.node"  # what Ray calls each of the machines that a `provider: local` names


def growth(node_types: Iterable[str]) -> Growth:
    """Who starts nodes, by what Ray calls their types; a node that no autoscaler knows has none, or one of its own."""
    known = {name for name in node_types if name and not re.fullmatch("node_[0-9a-f]{56}", name)}
    if known - {LOCAL_TYPE}:
        return Growth.ON_DEMAND
    return Growth.FIXED if known else Growth.NONE


@dataclass(frozen=True)
class Plan:
    """What every trial gets, and how many run side by side.

    local_cores: how many cores this machine gives to the sweep where it all runs on them, else None
    largest_share: how many times its share a trial that ran out of memory can get, a power of 2
    elastic: whether nodes may come and go, and slots with them
    most: how many there may be side by side once all nodes came that are asked for
    accelerator: the kind of GPU that a node must have to be given trials, None where any will do
    """

    slots: int
    cpus_per_trial: float
    gpus_per_trial: float
    local_cores: int | None = None
    largest_share: int = 1
    elastic: bool = False
    most: int = 0
    accelerator: str | None = None

    def slots_on(self, nodes: Iterable[Node]) -> int:
        """How many trials these nodes run side by side."""
        fit = (node for node in nodes if self.accelerator is None or self.accelerator in node.accelerators)
        return sum(_slots(node, self.cpus_per_trial, self.gpus_per_trial) for node in fit)

    def share(self, times: int) -> dict[str, float]:
        """Ray's resources for a trial that gets so many times the usual share: of a GPU, else of the cores."""
        kind = {f"{ACCELERATOR}{self.accelerator}": 0.001} if self.accelerator is not None else {}
        if self.gpus_per_trial:
            return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial * times, **kind}
        return {"CPU": self.cpus_per_trial * times, **kind}

    @property
    def threads(self) -> int:
        """CPU threads of one trial."""
        return max(1, int(self.cpus_per_trial))

    def __str__(self) -> str:
        share = f"{self.gpus_per_trial:g} GPU and " if self.gpus_per_trial else ""
        cores = f"{self.cpus_per_trial:g} core{'' if self.cpus_per_trial == 1 else 's'}"
        now = " now" if self.elastic else ""
        return f"{self.slots} trial{'' if self.slots == 1 else 's'} side by side{now}, {share}{cores} each"


def make_plan(
    spec: SweepSpec,
    nodes: Sequence[Node],
    problems: list[str],
    who: Growth = Growth.NONE,
    gpu_share: float | None = None,
) -> Plan:
    """Shares as asked for, or a quarter of a GPU where there are GPUs and one core a trial.

    gpu_share: what was measured where the spec asks for auto; until it is, a trial gets a whole GPU
    Appends a problem where a share can't be, or not one trial fits and no autoscaler brings nodes.
    """
    every = nodes
    nodes = [node for node in every if spec.accelerator is None or spec.accelerator in node.accelerators]
    if not nodes and every and who is Growth.NONE:
        problems.append(_no_accelerator(str(spec.accelerator), every))
        nodes = every
    gpus = sum(node.gpus for node in nodes)
    cpus_each = spec.cpus_per_trial if spec.cpus_per_trial is not None else 1.0
    if spec.gpus_per_trial is None or spec.gpus_per_trial == "auto":
        default = DEFAULT_GPU_SHARE if spec.gpus_per_trial is None else gpu_share or 1.0
        to_come = spec.gpus_per_trial == "auto" and not any(_slots(node, cpus_each, 0) for node in nodes)
        gpus_each = default if gpus >= 1 or (to_come and who is not Growth.NONE) else 0.0
    else:
        gpus_each = spec.gpus_per_trial
    if gpus_each > 1 and gpus_each != int(gpus_each):
        problems.append(f"--gpus-per-trial: a share above 1 must be whole, but got {gpus_each:g}")
    slots = sum(_slots(node, cpus_each, gpus_each) for node in nodes)
    if slots == 0 and who is not Growth.NONE:
        if spec.gpus_per_trial is None:
            problems.append(
                "--gpus-per-trial: no machine is there yet from which a trial's share could be guessed; "
                f"say it, {DEFAULT_GPU_SHARE:g} for four trials to a GPU or 0 for none"
            )
    elif slots == 0:
        offers = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes) or "nothing"
        problems.append(
            f"no room for even one trial: it asks for {cpus_each:g} cores and {gpus_each:g} GPUs, "
            f"and the machines offer {offers}; lower --cpus-per-trial or --gpus-per-trial"
        )
    allowed = min(spec.num_trials, spec.max_concurrent or spec.num_trials)
    wanted = min(slots, allowed)
    here = len(nodes) == 1 and nodes[0].here and not gpus_each
    shares = [min(1.0, node.gpus) / gpus_each if gpus_each else node.cpus / cpus_each for node in nodes]
    if who is not Growth.NONE and gpus_each:
        shares.append(1 / gpus_each)  # of a node that is yet to come
    return Plan(
        wanted,
        cpus_each,
        gpus_each,
        local_cores=max(1, int(nodes[0].cpus)) if here else None,
        largest_share=2 ** int(math.log2(max([1.0, *shares]))),
        elastic=not any(node.here for node in every),
        most=allowed if who is Growth.ON_DEMAND else wanted,
        accelerator=spec.accelerator,
    )


def open_trials(spec: SweepSpec, slots: int, who: Growth) -> int:
    """How many trials may run or wait for a slot at a time.

    As many as there are slots. Where an autoscaler answers to what waits, as many again, so that nodes double until
    all have a slot; and one at least, for nodes that are yet to come.
    """
    asked_for = max(1, slots) if who is Growth.ON_DEMAND else 0
    return min(max(1, slots + asked_for), spec.max_concurrent or spec.num_trials)


def _no_accelerator(name: str, nodes: Sequence[Node]) -> str:
    kinds = Counter(kind for node in nodes for kind in node.accelerators)
    there = ", ".join(f"{kind} ({count} node{'' if count == 1 else 's'})" for kind, count in sorted(kinds.items()))
    return f"--accelerator {name}: no node has it; {f'the cluster has {there}' if there else 'no node names its GPUs'}"


STATES = 2  # a new one is written before the old one goes
STATE_MODELS = 4  # weights, two moments of AdamW, the best epoch's weights


def bytes_while_training(trials: int, model_bytes: int) -> int:
    """The most that so many running trials have on disk at a time: states and a model of each."""
    return model_bytes * trials * (STATES * STATE_MODELS + 1)


def disk_bytes(plan: Plan, model_bytes: int, keep_top: int) -> int:
    """The most that a sweep has on disk at a time: states and a model of each running trial, and what leads.

    For a moment a model that will lead lies beside the one that it replaces; best/ shares its files with a trial's
    model where the file system has hard links, else it is a copy.
    """
    return bytes_while_training(plan.most, model_bytes) + model_bytes * (keep_top + 1)


def disk_problems(spec: SweepSpec, plan: Plan, needed: int, there: int, free: int) -> list[str]:
    """Why what the sweep may write does not fit: the user's budget, or the room on the disk (all in bytes).

    there: what the run directory takes already
    """
    what = (
        f"{plan.most} trials side by side may take {needed / 1e9:.2f} GB (two states and a model of each, "
        f"the best {spec.keep_top})"
    )
    hint = "lower --max-concurrent or --keep-top"
    problems = []
    if spec.checkpoint_budget_gb is not None and needed > spec.checkpoint_budget_gb * 1e9:
        problems.append(f"--checkpoint-budget {spec.checkpoint_budget_gb:g}: {what}; {hint}, or raise it")
    if needed > free + there:
        problems.append(f"the disk has {(free + there) / 1e9:.2f} GB for the run directory, but {what}; {hint}")
    return problems


def _slots(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.cpus / cpus + 1e-9)
    if not gpus:
        return by_cpu
    # A trial's fraction lies on one GPU: three trials of 0.4 need two GPUs.
    by_gpu = int(node.gpus) * math.floor(1 / gpus + 1e-9) if gpus <= 1 else math.floor(node.gpus / gpus)
    return min(by_cpu, by_gpu)
