"""Measure a few steps at each batch size where trials run, unless the user's cache knows them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from trainable.errors import RayDied
from trainable.job import Job
from trainable.train.stopwatch import Stopwatch, Timed
from tune.cluster.node_facts import gpus_here
from tune.cluster.preflight import fetch_shipped
from tune.cluster.side_by_side import TrialWorkers, measured_side_by_side, ray_failed
from tune.estimate.configurations import measured_configurations
from tune.estimate.times import Times, cache_file, keep_times, read_times
from tune.prepare.identity import StoredSweep
from tune.prepare.inputs import Inputs
from tune.prepare.launch import Launch, rehearse_for_precision
from tune.spec.space import fixed_values

COSTLY = ("dropout", "max_grad_norm", "micro_batch_size", "optimizer")  # hyperparameters that change a step's cost


class TrialStopwatch(Stopwatch):
    """A worker of a trial on any node, with a stopwatch."""

    def __init__(self, job: Job) -> None:
        """Load model and data, which may come from Ray's object store."""
        super().__init__(job, fetch_shipped)


def measured_times(inputs: Inputs, stored: StoredSweep, launch: Launch, job: Job, say: Callable[[str], None]) -> Times:
    """The seconds of the sweep's parts, from the cache as far as it has them.

    Args:
        inputs: The sweep's checked input.
        stored: What the run directory holds already of the sweep.
        launch: Where trials run. It has room for one.
        job: What trials get; its precision is not settled.
        say: Shows a text to the user.

    Raises:
        UserError: The model can't be trained on this data.
        RayDied: The workers died.
    """
    many = measured_side_by_side(launch.plan, launch.nodes)
    file = cache_file(_hangs_on(inputs, stored, launch, many))
    configs = measured_configurations(inputs.spec)
    known = read_times(file)
    if known is not None and configs.keys() <= known.train_epoch_s.keys():
        return known
    if known is None:
        began = time.monotonic()
        chosen = rehearse_for_precision(inputs, job, stored, launch, _but_precision(say))
        known = Times(chosen.name, chosen.why, chosen.fp32_ratio, time.monotonic() - began)
    wanted = {size: config for size, config in configs.items() if size not in known.train_epoch_s}
    began = time.monotonic()
    job = replace(job, precision=known.precision)
    with ray_failed(RayDied), TrialWorkers(launch.plan, many, TrialStopwatch, job, say) as workers:
        device = workers.all("device")[0]
        start_s = time.monotonic() - began
        evaluations: list[Timed] = workers.all("evaluation")
        epochs = {size: workers.all("epoch", config) for size, config in wanted.items()}
    times = replace(
        known,
        start_s=start_s,
        eval_s=fmean(timed.seconds for timed in evaluations),
        train_epoch_s={
            **known.train_epoch_s,
            **{size: fmean(timed.seconds for timed in of) for size, of in epochs.items()},
        },
        device=device,
        side_by_side=many,
        steps=sum(timed.steps for of in [evaluations, *epochs.values()] for timed in of),
    )
    keep_times(file, times)
    return times


def _but_precision(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say everything but the precision, which stands among the seconds."""
    return lambda text: None if text.startswith("precision ") else say(text)


def _hangs_on(inputs: Inputs, stored: StoredSweep, launch: Launch, many: int) -> dict[str, Any]:
    """All that the seconds hang on, but for the batch size."""
    spec, plan = inputs.spec, launch.plan
    unsearched = fixed_values(spec.space)
    return {
        "model": inputs.model.fingerprint,
        "data": inputs.data.fingerprint,
        "max_length": inputs.max_length,
        "batching": spec.batching,
        "precision": stored.precision or spec.precision,
        "threads": plan.threads,
        "gpus_per_trial": plan.gpus_per_trial,
        "side_by_side": many,
        "machines": _machines(launch),
        "config": {name: repr(value) for name, value in sorted(unsearched.items()) if name in COSTLY},
    }


def _machines(launch: Launch) -> Sequence[str]:
    """The kinds of machines that run trials; this one by its name."""
    kinds = set()
    for node in launch.nodes:
        if launch.plan.slots_on([node]):
            facts = launch.facts.get(node.id)
            gpus = [gpu.name for gpu in facts.gpus or ()] if facts is not None else list(node.accelerators)
            if node.here:
                gpus = [name for name, _ in gpus_here() or ()]
            host = socket.gethostname() if node.here else ""
            kinds.add(f"{host} {node.cpus:g} cores, {node.gpus:g} GPUs {', '.join(sorted(gpus))}")
    return sorted(kinds)
