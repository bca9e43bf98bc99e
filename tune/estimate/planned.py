"""Everything that `--plan` tells, as one value: the text and the JSON object say the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from trainable.data.findings import rare_classes
from trainable.errors import RayDied
from tune.cluster.disk import disk_bytes, models_kept
from tune.estimate.lengths import Lengths, hidden_size, lengths_of
from tune.estimate.measure import measured_times
from tune.estimate.sweep_time import SweepTime, sweep_time_of
from tune.estimate.times import Times
from tune.prepare.identity import StoredSweep
from tune.prepare.inputs import Inputs
from tune.prepare.launch import Launch, make_job
from tune.run_dir.layout import RunDir

NO_ROOM = "no machine is there yet that has room for a trial, so no step was measured"


@dataclass(frozen=True)
class Disk:
    """What a sweep has on disk, bytes."""

    most_bytes: int
    """At one time, while it runs."""
    kept_bytes: int
    """For good: the models of the best trials. Logs and scores are small."""
    free_bytes: int
    """What there is for it."""
    models_kept: int
    """How many models stay."""


@dataclass(frozen=True)
class Planned:
    """A sweep that was planned and not begun."""

    inputs: Inputs
    launch: Launch
    run_dir: RunDir
    lengths: Lengths
    disk: Disk
    times: Times | None
    """None where nothing could be measured."""
    sweep_time: SweepTime | None
    why_no_times: str | None

    def as_json(self) -> dict[str, Any]:
        """One object with every number."""
        inputs, plan, spec = self.inputs, self.launch.plan, self.inputs.spec
        found = inputs.findings
        return {
            "sweep": {
                "name": spec.name,
                "out": self.run_dir.name,
                "model": spec.model,
                "dataset": spec.dataset,
                "metric": spec.metric,
                "mode": spec.mode,
                "num_trials": spec.num_trials,
                "space": {name: str(domain) for name, domain in spec.space.items()},
            },
            "plan": {
                "slots": plan.slots,
                "cpus_per_trial": plan.cpus_per_trial,
                "gpus_per_trial": plan.gpus_per_trial,
                "gpus": self.gpus,
                "nodes": [
                    {"name": node.name, "cpus": node.cpus, "gpus": node.gpus, "slots": plan.slots_on([node])}
                    for node in self.launch.nodes
                ],
            },
            "data": {
                "rows": {name: len(split) for name, split in inputs.data.splits.items()},
                "class_rows": inputs.class_rows,
                "rare_classes": rare_classes(inputs.class_rows),
                "same_text": found.same_text,
                "near_copies": found.near_copies,
                "contradictions": found.contradictions,
                "leaks": list(found.leaks),
                "notes": [*inputs.data.notes, *found.notes],
            },
            "tokens": asdict(self.lengths),
            "disk": asdict(self.disk),
            "times": None if self.times is None else asdict(self.times),
            "sweep_time": None if self.sweep_time is None else asdict(self.sweep_time),
            "why_no_times": self.why_no_times,
            "price_per_gpu_hour": spec.price_per_gpu_hour,
        }

    @property
    def gpus(self) -> float:
        """GPUs of the machines that run trials; 0 where they train on the CPU."""
        plan = self.launch.plan
        return sum(node.gpus for node in self.launch.nodes if plan.slots_on([node])) if plan.gpus_per_trial else 0.0


def plan_sweep(
    inputs: Inputs, stored: StoredSweep, run_dir: RunDir, launch: Launch, began: float, say: Callable[[str], None]
) -> Planned:
    """Count, measure a few steps, and estimate; nothing of the sweep is begun.

    Args:
        inputs: The sweep's checked input.
        stored: What the run directory holds already of the sweep.
        run_dir: Where the sweep would write.
        launch: Where its trials would run.
        began: When the command began, in `time.monotonic`'s seconds.
        say: Shows a text to the user while something waits.

    Raises:
        UserError: The model can't be trained on this data.
    """
    plan, size = launch.plan, inputs.model.size_bytes
    job = make_job(inputs, plan, run_dir, stored.sweep_id)
    prepared_s = time.monotonic() - began
    taken, free = run_dir.disk()
    disk = Disk(
        disk_bytes(plan, size, models_kept(inputs.spec)),
        inputs.spec.keep_top * size,
        free + taken,
        inputs.spec.keep_top,
    )
    whole = job.train.whole_lengths if job.train.whole_lengths is not None else job.train.lengths
    lengths = lengths_of(whole, inputs.max_length, inputs.longest_row, hidden_size(inputs.model.path))
    planned = Planned(inputs, launch, run_dir, lengths, disk, None, None, NO_ROOM)
    if not plan.slots:
        return planned
    try:
        times = measured_times(inputs, stored, launch, job, say)
    except RayDied as error:
        return replace(planned, why_no_times=f"the workers that were to measure a few steps died: {error}")
    rows = {name: len(split) for name, split in inputs.data.splits.items()}
    sweep_time = sweep_time_of(inputs.spec, plan, times, rows, stored.records, prepared_s, planned.gpus, size)
    return replace(planned, times=times, sweep_time=sweep_time, why_no_times=None)
