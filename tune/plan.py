"""Pure: spec and nodes in, slots and shares out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tune.spec import SweepSpec

DEFAULT_GPU_SHARE = 0.25


@dataclass(frozen=True)
class Node:
    """What one machine offers to trials, in Ray's logical numbers.

    here: whether it is this machine and ours alone
    name, id: what the user and what Ray calls it; empty for this machine
    """

    cpus: float
    gpus: float = 0.0
    here: bool = False
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class Plan:
    """What every trial gets, and how many run side by side.

    local_cores: how many cores this machine gives to the sweep where it all runs on them, else None
    largest_share: how many times its share a trial that ran out of memory can get, a power of 2
    """

    slots: int
    cpus_per_trial: float
    gpus_per_trial: float
    local_cores: int | None = None
    largest_share: int = 1

    def share(self, times: int) -> dict[str, float]:
        """Ray's resources for a trial that gets so many times the usual share: of a GPU, else of the cores."""
        if self.gpus_per_trial:
            return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial * times}
        return {"CPU": self.cpus_per_trial * times}

    @property
    def threads(self) -> int:
        """CPU threads of one trial."""
        return max(1, int(self.cpus_per_trial))

    def __str__(self) -> str:
        share = f"{self.gpus_per_trial:g} GPU and " if self.gpus_per_trial else ""
        cores = f"{self.cpus_per_trial:g} core{'' if self.cpus_per_trial == 1 else 's'}"
        return f"{self.slots} trial{'' if self.slots == 1 else 's'} side by side, {share}{cores} each"


def make_plan(spec: SweepSpec, nodes: Sequence[Node], problems: list[str]) -> Plan:
    """Shares as asked for, or a quarter of a GPU where there are GPUs and one core a trial.

    Appends a problem where a share can't be, or not one trial fits.
    """
    gpus = sum(node.gpus for node in nodes)
    cpus_each = spec.cpus_per_trial if spec.cpus_per_trial is not None else 1.0
    gpus_each = spec.gpus_per_trial if spec.gpus_per_trial is not None else (DEFAULT_GPU_SHARE if gpus >= 1 else 0.0)
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
    return Plan(wanted, cpus_each, gpus_each, max(1, int(nodes[0].cpus)) if here else None, largest_share)


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
    return _slots(node, plan.cpus_per_trial, plan.gpus_per_trial)


def _slots(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.cpus / cpus + 1e-9)
    if not gpus:
        return by_cpu
    # A trial's fraction lies on one GPU: three trials of 0.4 need two GPUs.
    by_gpu = int(node.gpus) * math.floor(1 / gpus + 1e-9) if gpus <= 1 else math.floor(node.gpus / gpus)
    return min(by_cpu, by_gpu)
