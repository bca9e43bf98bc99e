"""What is found out before a sweep is begun: the plan for these nodes, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainable.errors import UserError
from trainable.hub.model_folder import model_bytes
from trainable.hub.shipping import shipped_bytes
from trainable.job import Job
from trainable.redaction import one_line
from tune.cluster.disk import disk_bytes
from tune.cluster.node_facts import NodeFacts, gpus_here
from tune.cluster.nodes import Autoscaler, Node, autoscaler_now, nodes_now
from tune.cluster.plan import Plan, make_plan
from tune.cluster.preflight import SweepFiles, preflight, with_model_shipped
from tune.prepare.gpus_per_trial import measure_share
from tune.prepare.inputs import Prepared, room_problems
from tune.sweep.run_trials import choose_precision


@dataclass(frozen=True)
class Outlook:
    """What will be done, and where.

    facts: what the nodes of a cluster told, by id; of this machine alone nothing is asked
    share: why a trial gets the share that it gets, where that was measured
    precision: where it had to be chosen for that, and why
    """

    plan: Plan
    nodes: Sequence[Node]
    facts: Mapping[str, NodeFacts]
    share: str | None = None
    precision: tuple[str, str] | None = None


def look_ahead(prepared: Prepared, nodes: Sequence[Node], say: Callable[[str], None]) -> Outlook:
    """Plan, ask the nodes, and measure what the spec leaves open. Raises UserError with every problem of the nodes."""
    spec, problems = prepared.spec, list[str]()
    plan = make_plan(spec, nodes, problems, autoscaler := autoscaler_beside(nodes))
    problems += room_problems(spec, prepared.run_dir, prepared.model_folder, plan)
    facts = preflight(sweep_files(prepared), plan, nodes, problems)
    if problems:
        raise UserError(problems)
    outlook = Outlook(plan, nodes, facts)
    if spec.gpus_per_trial != "auto":
        return outlook
    if not plan.gpus_per_trial:
        return replace(outlook, share="no GPUs, so trials train on the CPU")
    stored = prepared.stored_precision()
    precision = (stored, "as before") if stored else choose_precision(spec, plan, prepared.shape, say)
    job = replace(ready_job(prepared, outlook), precision=precision[0])  # type: ignore[arg-type]
    share = measure_share(spec, plan, job, _smallest_gpu_mib(facts, not plan.elastic), prepared.max_length, say)
    if share.gpus is None:
        raise UserError([share.why])
    if plan.elastic:
        nodes = nodes_now()  # the probe may have brought the first one
    plan = make_plan(spec, nodes, problems, autoscaler, share.gpus)
    if {node.id for node in nodes if plan.slots_on([node])} - facts.keys():
        facts = preflight(sweep_files(prepared), plan, nodes, problems)
    problems += room_problems(spec, prepared.run_dir, prepared.model_folder, plan)
    if problems:
        raise UserError(problems)
    return Outlook(plan, nodes, facts, share.why, precision)


def sweep_files(prepared: Prepared) -> SweepFiles:
    """What the sweep reads from its nodes' disks and writes to them."""
    run_dir, model = prepared.run_dir, prepared.model_folder
    return SweepFiles(
        root=run_dir.root,
        url=run_dir.storage.url,
        taken_bytes=run_dir.disk()[0],
        keep_top=prepared.spec.keep_top,
        model_folder=model,
        model_fingerprint=prepared.model_fingerprint,
        model_bytes=model_bytes(model),
        shipped_bytes=shipped_bytes(model),
    )


def autoscaler_beside(nodes: Sequence[Node]) -> Autoscaler:
    """Who starts further nodes; nobody does where this machine is the only one."""
    return Autoscaler.NONE if any(node.here for node in nodes) else autoscaler_now()


def ready_job(prepared: Prepared, outlook: Outlook) -> Job:
    """The job for these nodes, in float32 until the precision is chosen."""
    job = prepared.job(outlook.plan)
    if not outlook.plan.elastic:
        return job
    return with_model_shipped(job, prepared.model_folder, prepared.model_fingerprint)


def _smallest_gpu_mib(facts: Mapping[str, NodeFacts], here: bool) -> float | None:
    known = [gpu.memory_mib for node in facts.values() for gpu in node.gpus or ()]
    known += [memory for _, memory in (gpus_here() or ())] if here else []
    return min(known, default=None)


def outlook_lines(prepared: Prepared, outlook: Outlook) -> list[str]:
    """What `--plan` shows."""
    plan = outlook.plan
    taken, free = prepared.run_dir.disk()
    most = disk_bytes(plan, model_bytes(prepared.model_folder), prepared.spec.keep_top)
    lines = prepared.introduction(plan)
    if outlook.share is not None:
        lines.append(f"share {plan.gpus_per_trial:g} GPU a trial ({outlook.share})")
    lines += [
        f"disk at most {most / 1e9:.2f} GB below {prepared.run_dir.name}; {(free + taken) / 1e9:.2f} GB are free",
        *_table([_TITLES, *(_row(node, prepared, outlook) for node in outlook.nodes)]),
        "Nothing was started; the same command without --plan begins.",
    ]
    return lines


_TITLES = ("node", "cores", "GPUs", "GPU memory", "slots", "model", "clock", "free disk")


def _row(node: Node, prepared: Prepared, outlook: Outlook) -> tuple[str, ...]:
    found = outlook.facts.get(node.id)
    slots = outlook.plan.slots_on([node])
    name = one_line(node.name) or "this machine"
    told = ("", "not asked" if slots and not node.here else "", "", "")
    if node.here and node.gpus:
        told = (_memories(gpus_here() or ()), "", "", "")
    if found is not None:
        model = "there" if found.model == prepared.model_fingerprint else "is sent"
        disk = "?" if found.free_bytes is None else f"{found.free_bytes / 1e9:.1f} GB"
        memory = _memories([(gpu.name, gpu.memory_mib) for gpu in found.gpus or ()]) if node.gpus else ""
        told = (memory, model, f"{found.clock_ahead_s:+.1f} s", disk)
    memory, model, clock, disk = told
    return (name, f"{node.cpus:g}", f"{node.gpus:g}", memory, str(slots), model, clock, disk)


def _memories(gpus: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{one_line(name)} {memory / 1024:.0f} GiB" for name, memory in gpus) or "unknown"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
