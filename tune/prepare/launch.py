"""From checked input to a launch: plan for these nodes, check the nodes, measure what the spec leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from trainable.errors import UserError
from trainable.hub.shipping import shipped_bytes
from trainable.job import Job
from trainable.train.memory_probe import measure_memory
from tune.cluster.disk import disk_bytes, disk_problems
from tune.cluster.node_facts import NodeFacts, gpus_here
from tune.cluster.nodes import Autoscaler, Node, autoscaler_now, nodes_now
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan, make_plan
from tune.cluster.preflight import SweepFiles, fetch_shipped, preflight, with_model_shipped
from tune.prepare.gpus_per_trial import GpusPerTrial, decide, most_rows
from tune.prepare.identity import StoredSweep
from tune.prepare.inputs import Inputs, ModelFolder
from tune.prepare.precision import Precision, choose_precision
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec


@dataclass(frozen=True)
class Launch:
    """What will run, and where."""

    plan: Plan
    nodes: Sequence[Node]
    facts: Mapping[str, NodeFacts]
    """What the nodes of a cluster told, by node id. This machine, where it is the only one, is not asked."""
    why_gpus: str | None = None
    """Why a trial gets the fraction of a GPU that it gets, in words; None where the spec says which."""
    precision: Precision | None = None
    """The precision, where it had to be chosen to measure that fraction."""


def plan_launch(
    inputs: Inputs, run_dir: RunDir, stored: StoredSweep, nodes: Sequence[Node], say: Callable[[str], None]
) -> Launch:
    """Plan for these nodes and check them; measure a trial's fraction of a GPU where the spec says `auto`.

    Args:
        inputs: the sweep's checked input
        run_dir: where the sweep writes
        stored: what is there already of the sweep
        nodes: machines that are there now
        say: gets a line for the user while something is measured

    Raises:
        UserError: with every problem of the nodes
    """
    spec, model = inputs.spec, inputs.model
    launch = _checked(spec, model, run_dir, nodes)
    plan = launch.plan
    if spec.gpus_per_trial != "auto":
        return launch
    if not plan.gpus_per_trial:
        return replace(launch, why_gpus="no GPUs, so trials train on the CPU")
    if stored.precision is not None:
        precision = Precision(stored.precision, "as before")
    else:
        precision = choose_precision(spec.precision, plan, inputs.shape, say)
    job = make_job(inputs, plan, run_dir, stored.sweep_id, precision.name)
    measured = _measure(spec, plan, job, launch.facts, inputs.max_length, say)
    if measured.gpus is None:
        raise UserError([measured.why])
    if plan.elastic:
        nodes = nodes_now()  # the measurement may have brought the first node
    launch = _checked(spec, model, run_dir, nodes, measured.gpus, launch.facts)
    return replace(launch, why_gpus=measured.why, precision=precision)


def _checked(
    spec: SweepSpec,
    model: ModelFolder,
    run_dir: RunDir,
    nodes: Sequence[Node],
    gpus_per_trial: float | None = None,
    known: Mapping[str, NodeFacts] | None = None,
) -> Launch:
    """Plan for these nodes; ask those that will run trials, unless they have told before.

    Raises:
        UserError: with every problem of the nodes
    """
    problems: list[str] = []
    plan = make_plan(spec, nodes, problems, autoscaler_beside(nodes), gpus_per_trial)
    problems += disk_room_problems(spec, plan, run_dir, model.size_bytes)
    facts = known or {}
    if {node.id for node in nodes if plan.slots_on([node])} - facts.keys():
        facts = preflight(_sweep_files(spec.keep_top, model, run_dir), plan, nodes, problems)
    if problems:
        raise UserError(problems)
    return Launch(plan, nodes, facts)


def _sweep_files(keep_top: int, model: ModelFolder, run_dir: RunDir) -> SweepFiles:
    """What the sweep reads from its nodes' disks and writes to them."""
    return SweepFiles(
        root=run_dir.root,
        url=run_dir.storage.url,
        taken_bytes=run_dir.disk()[0],
        keep_top=keep_top,
        model_folder=model.path,
        model_fingerprint=model.fingerprint,
        model_bytes=model.size_bytes,
        shipped_bytes=shipped_bytes(model.path),
    )


def autoscaler_beside(nodes: Sequence[Node]) -> Autoscaler:
    """Who starts further nodes; nobody does where this machine is the only one."""
    return Autoscaler.NONE if any(node.here for node in nodes) else autoscaler_now()


def disk_room_problems(spec: SweepSpec, plan: Plan, run_dir: RunDir, model_bytes: int) -> list[str]:
    """Say why the disk is too small for what the sweep may write there."""
    taken, free = run_dir.disk()
    if run_dir.storage.is_shared_folder:
        return disk_problems(spec, plan, disk_bytes(plan, model_bytes, spec.keep_top), taken, free)
    # Workers write their states into the store; the driver keeps copies of the study and of the best models.
    wanted = model_bytes * (spec.keep_top + 2)
    what = f"the driver's copy of {run_dir.name} may take {wanted / 1e9:.2f} GB"
    disk = f"the disk of the temporary folder has {(free + taken) / 1e9:.2f} GB"
    return [f"{disk}, but {what}; set TMPDIR to a larger one"] if wanted > free + taken else []


def make_job(inputs: Inputs, plan: Plan, run_dir: RunDir, sweep_id: str | None, precision: str) -> Job:
    """Make the job that all trials of the sweep get."""
    spec = inputs.spec
    job = Job(
        model_folder=str(inputs.model.path),
        label_names=inputs.data.label_names,
        train=inputs.tokenize("train"),
        validation=inputs.tokenize("validation"),
        pad_id=cast(int, inputs.tokenizer.pad_token_id),
        f1_average=inputs.f1_average,
        metric=spec.metric,
        mode=spec.mode,
        precision="bf16" if precision == "bf16" else "fp32",
        threads=plan.threads,
        gpus_per_trial=plan.gpus_per_trial,
        incumbent_file=str(run_dir.incumbent_file),
        state_interval_s=spec.state_interval_s,
        batching=spec.batching,
        storage=run_dir.storage,
        sweep_id=sweep_id,
    )
    return with_model_shipped(job, inputs.model.path, inputs.model.fingerprint) if plan.elastic else job


def _measure(
    spec: SweepSpec,
    plan: Plan,
    job: Job,
    facts: Mapping[str, NodeFacts],
    max_length: int,
    say: Callable[[str], None],
) -> GpusPerTrial:
    """Run the heaviest step of the heaviest configuration on a whole GPU, and choose the fraction."""
    rows = min(most_rows(spec), len(job.train))
    use = where_trials_run(plan, measure_memory, job, rows, fetch_shipped, say=say)
    gpus = [gpu.memory_mib for node in facts.values() for gpu in node.gpus or ()]
    if not plan.elastic:
        gpus += [memory for _, memory in (gpus_here() or ())]
    return decide(use, min(gpus, default=None), rows, max_length)
