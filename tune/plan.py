"""Pure: spec and nodes in, slots and shares out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tune.spec import SweepSpec

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


@dataclass(frozen=True)
class Plan:
    """What every trial gets, and how many run side by side.

    local_cores: how many cores this machine gives to the sweep where it all runs on them, else None
    largest_share: how many times its share a trial that ran out of memory can get, a power of 2
    accelerator: the kind of GPU that a node must have to be given trials, None where any will do
    """

    slots: int
    cpus_per_trial: float
    gpus_per_trial: float
    local_cores: int | None = None
    largest_share: int = 1
    accelerator: str | None = None

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
        return f"{self.slots} trial{'' if self.slots == 1 else 's'} side by side, {share}{cores} each"


def make_plan(spec: SweepSpec, nodes: Sequence[Node], problems: list[str], gpu_share: float | None = None) -> Plan:
    """Shares as asked for, or a quarter of a GPU where there are GPUs and one core a trial.

    gpu_share: what was measured where the spec asks for auto; until it is, a trial gets a whole GPU
    Appends a problem where a share can't be, or not one trial fits.
    """
    every = nodes
    nodes = [node for node in every if spec.accelerator is None or spec.accelerator in node.accelerators]
    if not nodes and every:
        problems.append(_no_accelerator(str(spec.accelerator), every))
        nodes = every
    gpus = sum(node.gpus for node in nodes)
    cpus_each = spec.cpus_per_trial if spec.cpus_per_trial is not None else 1.0
    if spec.gpus_per_trial is None or spec.gpus_per_trial == "auto":
        default = DEFAULT_GPU_SHARE if spec.gpus_per_trial is None else gpu_share or 1.0
        gpus_each = default if gpus >= 1 else 0.0
    else:
        gpus_each = spec.gpus_per_trial
    if gpus_each > 1 and gpus_each != int(gpus_each):
        problems.append(f"--gpus-per-trial: a share above 1 must be whole, but got {gpus_each:g}")
    slots = sum(_slots(node, cpus_each, gpus_each) for node in nodes)
    if slots == 0:
        offers = ", ".join(f"{node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes) or "nothing"
        problems.append(
            f"no room for even one trial: it asks for {cpus_each:g} cores and {gpus_each:g} GPUs, "
            f"and the machines offer {offers}; lower --cpus-per-trial or --gpus-per-trial"
        )
    wanted = min(slots, spec.num_trials, spec.max_concurrent or slots)
    here = len(nodes) == 1 and nodes[0].here and not gpus_each
    most = max((min(1.0, node.gpus) / gpus_each if gpus_each else node.cpus / cpus_each for node in nodes), default=1.0)
    largest_share = 2 ** int(math.log2(max(1.0, most)))
    cores = max(1, int(nodes[0].cpus)) if here else None
    return Plan(wanted, cpus_each, gpus_each, cores, largest_share, spec.accelerator)


def _no_accelerator(name: str, nodes: Sequence[Node]) -> str:
    kinds = Counter(kind for node in nodes for kind in node.accelerators)
    there = ", ".join(f"{kind} ({count} node{'' if count == 1 else 's'})" for kind, count in sorted(kinds.items()))
    return f"--accelerator {name}: no node has it; {f'the cluster has {there}' if there else 'no node names its GPUs'}"


STATES = 2  # a new one is written before the old one goes
STATE_MODELS = 4  # weights, two moments of AdamW, the best epoch's weights


def disk_bytes(plan: Plan, model_bytes: int, keep_top: int) -> int:
    """The most that a sweep has on disk at a time: states and a model of each running trial, and what leads.

    For a moment a model that will lead lies beside the one that it replaces; best/ shares its files with a trial's
    model where the file system has hard links, else it is a copy.
    """
    each_running = STATES * STATE_MODELS + 1
    return model_bytes * (plan.slots * each_running + keep_top + 1)


def disk_problems(spec: SweepSpec, plan: Plan, needed: int, there: int, free: int) -> list[str]:
    """Why what the sweep may write does not fit: the user's budget, or the room on the disk (all in bytes).

    there: what the run directory takes already
    """
    what = (
        f"{plan.slots} trials side by side may take {needed / 1e9:.2f} GB (two states and a model of each, "
        f"the best {spec.keep_top})"
    )
    hint = "lower --max-concurrent or --keep-top"
    problems = []
    if spec.checkpoint_budget_gb is not None and needed > spec.checkpoint_budget_gb * 1e9:
        problems.append(f"--checkpoint-budget {spec.checkpoint_budget_gb:g}: {what}; {hint}, or raise it")
    if needed > free + there:
        problems.append(f"the disk has {(free + there) / 1e9:.2f} GB for the run directory, but {what}; {hint}")
    return problems


def slots_on(node: Node, plan: Plan) -> int:
    """How many of the plan's trials fit on a node side by side."""
    if plan.accelerator is not None and plan.accelerator not in node.accelerators:
        return 0
    return _slots(node, plan.cpus_per_trial, plan.gpus_per_trial)


def _slots(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.cpus / cpus + 1e-9)
    if not gpus:
        return by_cpu
    # A trial's fraction lies on one GPU: three trials of 0.4 need two GPUs.
    by_gpu = int(node.gpus) * math.floor(1 / gpus + 1e-9) if gpus <= 1 else math.floor(node.gpus / gpus)
    return min(by_cpu, by_gpu)
