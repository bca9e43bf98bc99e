"""What `--plan` shows."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trainable.redaction import one_line
from tune.estimate.lengths import Bar, Lengths
from tune.estimate.planned import Planned
from tune.estimate.sweep_time import Phases, SweepTime
from tune.estimate.times import Times
from tune.report.text import clock
from tune.report.words import CLASSES_SHOWN, launch_lines, node_table

BAR = "█"
WIDEST_BAR = 40  # characters


def plan_lines(planned: Planned) -> list[str]:
    """Everything that was planned, as text."""
    inputs, launch, disk = planned.inputs, planned.launch, planned.disk
    gb = [number / 1e9 for number in (disk.most_bytes, disk.kept_bytes, disk.free_bytes)]
    models = "the best trial's model stays" if disk.models_kept == 1 else f"the best {disk.models_kept} models stay"
    return [
        *launch_lines(inputs, launch, planned.run_dir.name),
        *_class_lines(planned),
        *_length_lines(planned.lengths),
        f"disk at most {gb[0]:.2f} GB below {planned.run_dir.name}, {gb[1]:.2f} GB for good ({models}); "
        f"{gb[2]:.2f} GB are free",
        *node_table(launch, inputs.model.fingerprint),
        *_time_lines(planned),
        "Nothing was started; the same command without --plan begins.",
    ]


def _class_lines(planned: Planned) -> list[str]:
    """How many rows each class has in each split, the most frequent ones first."""
    found = []
    for split, rows in planned.inputs.class_rows.items():
        by_rows = sorted(rows, key=lambda name: -rows[name])
        named = ", ".join(
            f"{one_line(name)} {rows[name]} ({100 * rows[name] / max(1, sum(rows.values())):.0f} %)"
            for name in by_rows[:CLASSES_SHOWN]
        )
        found.append(f"classes of {split}: {named}{', ...' if len(rows) > CLASSES_SHOWN else ''}")
    return found


def _length_lines(lengths: Lengths) -> list[str]:
    """The histogram of the texts' lengths, and what other maximal lengths would do."""
    cut = f"max_length {lengths.max_length} cuts {_rows(lengths.cut_rows, lengths.rows)}"
    others = [
        f"max_length {other.max_length} would cut {_rows(other.cut_rows, lengths.rows)} and take about "
        f"{other.relative_time:.2f} times as long"
        for other in lengths.others
    ]
    return [
        f"tokens of a training row: median {lengths.median}, 95 % have at most {lengths.percentile_95}, longest "
        f"{lengths.longest}; {cut}",
        *_bars(lengths.histogram),
        *others,
    ]


def _rows(rows: int, of: int) -> str:
    percent = 100 * rows / of
    return f"no row of {of}" if not rows else f"{rows} of {of} rows ({percent:.2g} %)"


def _bars(histogram: Sequence[Bar]) -> list[str]:
    most = max(bar.rows for bar in histogram)
    names = [f"{bar.low} to {bar.high}" for bar in histogram]
    widths = max(map(len, names)), max(len(str(bar.rows)) for bar in histogram)
    return [
        f"  {name:>{widths[0]}}  {bar.rows:>{widths[1]}}  {BAR * -(-WIDEST_BAR * bar.rows // most)}".rstrip()
        for name, bar in zip(names, histogram, strict=True)
    ]


def _time_lines(planned: Planned) -> list[str]:
    """Seconds of an epoch at each batch size, and the time of the whole sweep."""
    times, sweep_time, spec = planned.times, planned.sweep_time, planned.inputs.spec
    if times is None or sweep_time is None:
        return [f"how long it takes is not known: {planned.why_no_times}"]
    epochs = ", ".join(f"{seconds:.3g} s at batch size {size}" for size, seconds in times.train_epoch_s.items())
    lines = [
        f"precision {times.precision} ({times.why_precision})",
        f"an epoch trains for {epochs}; an evaluation takes {times.eval_s:.3g} s {_measured(times)}",
    ]
    return [*lines, *_whole_lines(sweep_time, spec.scheduler, spec.price_per_gpu_hour)]


def _measured(times: Times) -> str:
    workers = "1 worker" if times.side_by_side == 1 else f"{times.side_by_side} workers side by side"
    if times.steps:
        return f"(measured in {times.steps} steps, {workers}, on {times.device})"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(times.measured_at))
    return f"(measured on {when}, {workers}, on {times.device})"


def _whole_lines(sweep_time: SweepTime, scheduler: str, price: float | None) -> list[str]:
    stopped, whole = sweep_time.with_early_stopping, sweep_time.without_early_stopping
    parts = (
        f"start {clock(stopped.prepare_s)}, search {clock(stopped.search_s)}, about {stopped.fresh_runs:.0f} fresh "
        f"runs of finalists {clock(stopped.confirm_s)}, scores and report {clock(stopped.final_s)}"
    )
    if scheduler == "none":
        return [f"the sweep takes about {clock(stopped.total_s)}{_costs(stopped, price)}: {parts}"]
    return [
        f"the sweep takes about {clock(stopped.total_s)}{_costs(stopped, price)}: {parts}",
        "how many trials are stopped early hangs on their scores, which nobody knows yet: of simulated sweeps, four "
        f"of five took {clock(stopped.low_s)} to {clock(stopped.high_s)}; without early stopping (--scheduler none) it "
        f"is about {clock(whole.total_s)}{_costs(whole, price)}",
    ]


def _costs(phases: Phases, price: float | None) -> str:
    if not phases.gpu_hours:
        return ""
    money = "" if phases.cost is None else f" for {phases.cost:.2f} at {price:g} an hour"
    return f" ({phases.gpu_hours:.3g} GPU-hours{money})"
