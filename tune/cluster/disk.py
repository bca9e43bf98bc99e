"""How much a sweep writes to disk, and whether there is room for it."""

from __future__ import annotations

from trainable.optimizers import OPTIMIZERS
from tune.cluster.plan import Plan
from tune.spec.confirm import most_fresh_runs
from tune.spec.sweep_spec import SweepSpec

STATES_PER_TRIAL = 2  # a new state is written before the old one is removed
# The weights, what the optimizer keeps for each of them, and the best epoch's weights.
MODELS_PER_STATE = 2 + max(optimizer.moments for optimizer in OPTIMIZERS.values())


def bytes_while_training(trials: int, model_bytes: int) -> int:
    """The most that so many running trials have on disk at one time: the states and a model of each."""
    return model_bytes * trials * (STATES_PER_TRIAL * MODELS_PER_STATE + 1)


def disk_bytes(plan: Plan, model_bytes: int, kept_models: int) -> int:
    """The most that a sweep has on disk at one time: what running trials write, and the models that are kept.

    One more model is counted because a new leader is written before the model that it replaces is removed. The folder
    best/ shares its files with a trial's model where the file system has hard links; else it is a copy.
    """
    return bytes_while_training(plan.most_slots, model_bytes) + model_bytes * (kept_models + 1)


def models_kept(spec: SweepSpec) -> int:
    """The most models that stay for longer than a trial: the best `keep_top`, the fresh runs' until the end, ONNX's."""
    return spec.keep_top + most_fresh_runs(spec) + (spec.export == "onnx")


def _fresh_runs(spec: SweepSpec) -> str:
    runs = most_fresh_runs(spec)
    return f", and until the end up to {runs} fresh runs of finalists" if runs else ""


def disk_problems(spec: SweepSpec, plan: Plan, needed: int, taken: int, free: int) -> list[str]:
    """Why the sweep's files do not fit into the user's budget, or onto the disk.

    Args:
        spec: The sweep's specification.
        plan: How many trials run at a time.
        needed: The most that the sweep has on disk at one time (bytes).
        taken: What the run directory holds already (bytes).
        free: What is free on its disk (bytes).
    """
    files = (
        f"{plan.most_slots} trials side by side may take {needed / 1e9:.2f} GB (two states and a model of each, "
        f"the best {spec.keep_top}{_fresh_runs(spec)})"
    )
    hint = "lower --max-concurrent, --keep-top or --confirm"
    problems = []
    if spec.checkpoint_budget_gb is not None and needed > spec.checkpoint_budget_gb * 1e9:
        problems.append(f"--checkpoint-budget {spec.checkpoint_budget_gb:g}: {files}; {hint}, or raise it")
    if needed > free + taken:
        problems.append(f"the disk has {(free + taken) / 1e9:.2f} GB for the run directory, but {files}; {hint}")
    return problems
