"""From checked input to a launch: plan for these nodes, check the nodes, measure what the spec leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from trainable.data.tokens import borrowed_pad_token
from trainable.errors import UserError
from trainable.hub.shipping import shipped_bytes
from trainable.job import Job
from trainable.train.memory_probe import measure_memory
from trainable.train.rehearsal import Rehearsal, for_rehearsal, rehearse
from tune.cluster.disk import disk_bytes, disk_problems, models_kept
from tune.cluster.node_facts import NodeFacts, gpus_here
from tune.cluster.nodes import Autoscaler, Node, autoscaler_now, nodes_now
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan, make_plan
from tune.cluster.preflight import SweepFiles, fetch_shipped, preflight, with_model_shipped
from tune.prepare.gpus_per_trial import GpusPerTrial, decide, most_rows
from tune.prepare.identity import StoredSweep
from tune.prepare.inputs import Inputs
from tune.prepare.precision import ChosenPrecision, choose_precision
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec
from tune.stopping_rules import STOPPING_RULES

NEIGHBOURS_MATTER = 1e-4  # as a fraction of the largest logit; rounding changes a millionth of it


@dataclass(frozen=True)
class Launch:
    """What will run, and where."""

    plan: Plan
    nodes: Sequence[Node]
    facts: Mapping[str, NodeFacts]
    """What the nodes of a cluster told, by node id. This machine, where it is the only one, is not asked."""
    measured: GpusPerTrial | None = None
    """A trial's fraction of a GPU; None where the spec says which."""

    def nodes_now(self) -> Sequence[Node]:
        """The nodes again: a measurement may have brought the first node of a cluster."""
        return nodes_now() if self.plan.elastic else self.nodes


def plan_launch(
    spec: SweepSpec,
    files: SweepFiles,
    nodes: Sequence[Node],
    measured: GpusPerTrial | None = None,
    known: Mapping[str, NodeFacts] | None = None,
) -> Launch:
    """Plan for these nodes, and check every node that will run trials.

    Args:
        spec: What the user asked for.
        files: What the sweep reads from disks and writes to them.
        nodes: The machines that are there now.
        measured: A trial's fraction of a GPU, where the spec says `auto`; until it is known a trial gets a whole one.
        known: The facts of nodes that were asked before, by node id.

    Raises:
        UserError: Every problem of the nodes.
    """
    problems: list[str] = []
    gpus = measured.gpus if measured else None
    plan = make_plan(spec, nodes, problems, autoscaler_beside(nodes), gpus, files.model_bytes)
    problems += disk_room_problems(spec, plan, files)
    facts = known or {}
    if {node.id for node in nodes if plan.slots_on([node])} - facts.keys():
        facts = preflight(files, plan, nodes, problems)
    if problems:
        raise UserError(problems)
    return Launch(plan, nodes, facts, measured)


def measure_gpus(
    inputs: Inputs, run_dir: RunDir, stored: StoredSweep, launch: Launch, say: Callable[[str], None]
) -> GpusPerTrial:
    """Find a trial's fraction of a GPU for `--gpus-per-trial auto`: run the heaviest step of the heaviest trial.

    Args:
        inputs: The sweep's checked input.
        run_dir: Where the sweep writes.
        stored: What the run directory holds already of the sweep.
        launch: Gives a trial a whole GPU, where there are any.
        say: Shows a text to the user while something is measured.

    Raises:
        UserError: A whole GPU is not enough.
    """
    plan = launch.plan
    if not plan.gpus_per_trial:
        return GpusPerTrial(0.0, "no GPUs, so trials train on the CPU")
    job = make_job(inputs, plan, run_dir, stored.sweep_id)
    precision = rehearse_for_precision(inputs, job, stored, launch, say)
    job = replace(job, precision=precision.name)
    rows = min(most_rows(inputs.spec), len(job.train))
    use = where_trials_run(plan, measure_memory, job, rows, fetch_shipped, say=say)
    measured = decide(use, _smallest_gpu_mib(launch), rows, inputs.max_length)
    if measured.gpus is None:
        raise UserError([measured.why])
    return replace(measured, precision=precision)


def _smallest_gpu_mib(launch: Launch) -> float | None:
    """Memory of the smallest GPU that is known (MiB); None where none is."""
    gpus = [gpu.memory_mib for node in launch.facts.values() for gpu in node.gpus or ()]
    if not launch.plan.elastic:
        gpus += [memory for _, memory in gpus_here() or ()]
    return min(gpus, default=None)


def rehearse_for_precision(
    inputs: Inputs, job: Job, stored: StoredSweep, launch: Launch, say: Callable[[str], None]
) -> ChosenPrecision:
    """Settle the sweep's precision: as before, or as a rehearsal of its model has it, where trials run.

    Args:
        inputs: The sweep's checked input.
        job: The sweep's; its precision is not settled yet.
        stored: What the run directory holds already of the sweep. A model that was rehearsed is not rehearsed again.
        launch: Says where trials run, and may have rehearsed already.
        say: Shows a text to the user.

    Raises:
        UserError: The model can't be trained on this data, or not in the precision that the spec asks for.
    """
    if stored.precision is not None:
        return ChosenPrecision(stored.precision, "as before")
    if launch.measured is not None and launch.measured.precision is not None:
        chosen = launch.measured.precision
    else:
        rows = min(most_rows(inputs.spec), len(job.train))
        asked_for = None if inputs.spec.precision == "auto" else inputs.spec.precision
        tried = None if asked_for is None else tuple(dict.fromkeys(("fp32", asked_for)))
        arguments = (for_rehearsal(job, rows), rows, fetch_shipped, tried)
        rehearsal: Rehearsal = where_trials_run(launch.plan, rehearse, *arguments, say=say)
        if rehearsal.problem is not None:
            raise UserError([rehearsal.problem])
        chosen = choose_precision(asked_for, rehearsal)
        if rehearsal.neighbour_effect > NEIGHBOURS_MATTER:
            say(
                f"note: what the model says of a text depends on the texts beside it in a batch, by "
                f"{100 * rehearsal.neighbour_effect:.2g} % here, so that its scores change a little with the batches"
            )
    say(f"precision {chosen.name} ({chosen.why})")
    return chosen


def sweep_files(inputs: Inputs, run_dir: RunDir) -> SweepFiles:
    """What the sweep reads from disks and writes to them."""
    model = inputs.model
    taken, free = run_dir.disk()
    return SweepFiles(
        root=run_dir.root,
        url=run_dir.storage.url,
        taken_bytes=taken,
        free_bytes=free,
        kept_models=models_kept(inputs.spec),
        model_folder=model.path,
        model_fingerprint=model.fingerprint,
        model_bytes=model.size_bytes,
        shipped_bytes=shipped_bytes(model.path),
    )


def autoscaler_beside(nodes: Sequence[Node]) -> Autoscaler:
    """Who starts further nodes; nobody does where this machine is the only one."""
    return Autoscaler.NONE if any(node.here for node in nodes) else autoscaler_now()


def disk_room_problems(spec: SweepSpec, plan: Plan, files: SweepFiles) -> list[str]:
    """Say why the driver's disk is too small for what the sweep may write there."""
    taken, free, size = files.taken_bytes, files.free_bytes, files.model_bytes
    if files.url is None:
        return disk_problems(spec, plan, disk_bytes(plan, size, files.kept_models), taken, free)
    # Workers write their states into the store; the driver keeps copies of the study and of the best models.
    wanted = size * (files.kept_models + 2)
    what = f"the driver's copy of {files.out} may take {wanted / 1e9:.2f} GB"
    disk = f"the disk of the temporary folder has {(free + taken) / 1e9:.2f} GB"
    return [f"{disk}, but {what}; set TMPDIR to a larger one"] if wanted > free + taken else []


def make_job(inputs: Inputs, plan: Plan, run_dir: RunDir, sweep_id: str | None) -> Job:
    """Make the job that all trials of the sweep get, before its precision is settled."""
    spec = inputs.spec
    job = Job(
        model_folder=str(inputs.model.path),
        label_names=inputs.data.label_names,
        train=inputs.tokenize("train"),
        validation=inputs.tokenize("validation"),
        pad_id=cast(int, inputs.tokenizer.pad_token_id),
        pad_token=borrowed_pad_token(inputs.tokenizer),
        max_length=inputs.max_length,
        task=inputs.task.name,
        f1_average=inputs.f1_average,
        metric=spec.metric,
        mode=spec.mode,
        threads=plan.threads,
        gpus_per_trial=plan.gpus_per_trial,
        incumbent_file=str(run_dir.incumbent_file),
        rungs_percent=STOPPING_RULES[spec.scheduler].rungs_percent,
        state_interval_s=spec.state_interval_s,
        batching=spec.batching,
        storage=run_dir.storage,
        sweep_id=sweep_id,
    )
    return with_model_shipped(job, inputs.model.path, inputs.model.fingerprint) if plan.elastic else job
