"""What the user is told before a sweep starts and once it has ended."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from trainable.data.findings import rare_classes_in_words
from trainable.metrics import METRICS
from trainable.redaction import one_line
from tune.cluster.machine import no_gpu_note, usable_memory
from tune.cluster.node_facts import gpus_here
from tune.cluster.nodes import Node
from tune.cluster.plan import Plan
from tune.prepare.inputs import Inputs
from tune.prepare.launch import Launch
from tune.report.budget_words import budget_sentence, ways_on
from tune.report.evidence_words import evidence_lines
from tune.report.results import Intervals, SweepReport, Winner
from tune.report.text import clock, short
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.budgets import settings_of
from tune.spec.space import DEFAULT_SPACE
from tune.spec.sweep_spec import SweepSpec, trials_of_all_configurations

TITLES = ("node", "cores", "GPUs", "GPU memory", "slots", "model", "clock", "free disk")
CLASSES_SHOWN = 6
FAILURES_SHOWN = 5


def introduction(inputs: Inputs, plan: Plan, out: str) -> list[str]:
    """Say what is about to be done.

    Args:
        inputs: The sweep's.
        plan: Where trials run.
        out: What the user calls the run directory.
    """
    spec, data = inputs.spec, inputs.data
    rows = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    classes = ", ".join(map(one_line, data.label_names[:CLASSES_SHOWN]))
    more = ", ..." if len(data.label_names) > CLASSES_SHOWN else ""
    most = "at most " if settings_of(spec) else ""
    return [
        f"sweep {spec.name}: {most}{spec.num_trials} trials for the {spec.mode} {spec.metric} on validation, in {out}",
        f"data {spec.dataset}: {rows} rows; text {one_line(' + '.join(data.text_columns))}; "
        f"label {one_line(data.label_column)} ({classes}{more}); "
        f"F1 {'of class ' + one_line(data.label_names[1]) if inputs.f1_average == 'binary' else 'macro'}",
        *(f"note: {note}" for note in (*data.notes, *inputs.findings.notes, *rare_classes_in_words(inputs.class_rows))),
        *(f"WARNING: {one_line(leak)}" for leak in inputs.findings.leaks),
        f"model {spec.model}; {plan}",
        *([f"note: {why}"] if spec.address is None and (why := no_gpu_note()) else []),
        *([_memory_note(plan)] if plan.slots_without_memory else []),
        f"space {_space_in_words(inputs)}",
        *_settings_in_words(inputs),
    ]


def _memory_note(plan: Plan) -> str:
    slots = plan.slots + plan.slots_without_memory
    each = f"about {plan.worker_bytes / 2**30:.1f} GiB each"
    if plan.elastic:
        return f"note: there are cores for {slots} trials side by side, but memory for {plan.slots} ({each})"
    memory = f"{usable_memory() / 2**30:.1f} GiB of memory hold {plan.slots} ({each})"
    return f"note: there are cores for {slots} trials side by side, but {memory}; --set num_cpus=N says otherwise"


def _space_in_words(inputs: Inputs) -> str:
    """The search space with where each part of it comes from, and how many configurations it has if they are few."""
    spec, origins = inputs.spec, inputs.origins
    parts = [
        f"{name} {domain} ({_origin(origins, f'space.{name}', 'space', DEFAULT_SPACE.get(name) == domain)})"
        for name, domain in spec.space.items()
    ]
    few = trials_of_all_configurations(spec)
    every = ""
    if few is not None and few == spec.num_trials:
        every = f"; each of its {few} configurations is tried once (--repeat-configurations repeats them)"
    return f"{', '.join(parts)}{every}"


def _origin(origins: Mapping[str, str], name: str, whole: str, is_default: bool) -> str:
    found = origins.get(name) or (None if is_default else origins.get(whole))
    return "default" if found is None else one_line(found.partition("=")[0].partition(": ")[0].partition(" ")[0])


def _settings_in_words(inputs: Inputs) -> list[str]:
    """The other settings that were given, with where each comes from; and what the model does not allow of them."""
    spec, defaults = inputs.spec, SweepSpec.model_fields
    said = ("name", "model", "dataset", "space", "points", "text_columns", "label_column")
    given = [
        f"{name} {one_line(_as_given(getattr(spec, name)))} ({_origin(inputs.origins, name, name, False)})"
        for name in defaults
        if name not in said and name in inputs.origins and getattr(spec, name) != defaults[name].default
    ]
    lines = [f"set {', '.join(given)}"] if given else []
    if inputs.max_length < spec.max_length:
        most = f"the model has positions for {inputs.max_length} tokens"
        lines.append(f"note: {most}: max_length {spec.max_length} is lowered to that")
    return lines


def _as_given(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def launch_lines(inputs: Inputs, launch: Launch, out: str) -> list[str]:
    """Say what is about to be done, and how much of a GPU a trial gets where that was measured."""
    lines = introduction(inputs, launch.plan, out)
    if launch.measured is not None:
        lines.append(f"{launch.plan.gpus_per_trial:g} GPU a trial ({launch.measured.why})")
    return lines


def node_table(launch: Launch, fingerprint: str) -> list[str]:
    """A row for each node: what it offers, and what it told where it was asked."""
    return _table([TITLES, *(_row(node, launch, fingerprint) for node in launch.nodes)])


def _row(node: Node, launch: Launch, fingerprint: str) -> tuple[str, ...]:
    """One node: what it offers, and what it told where it was asked."""
    found = launch.facts.get(node.id)
    slots = launch.plan.slots_on([node])
    name = one_line(node.name) or "this machine"
    told = ("", "not asked" if slots and not node.here else "", "", "")
    if node.here and node.gpus:
        told = (_memories(gpus_here() or ()), "", "", "")
    if found is not None:
        model = "there" if found.model == fingerprint else "is sent"
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


def summary(report: SweepReport) -> list[str]:
    """Say the result: how the trials ended, the winner, and a table of its scores."""
    best = report.best
    lines = [
        "",
        *report.why_it_ended,
        f"{len(report.searched)} trials in {clock(report.wall_s)}: {report.count('COMPLETE')} done, "
        f"{report.count('PRUNED')} stopped early, {report.count('FAIL')} failed, "
        f"{sum(row.collapsed for row in report.searched)} collapsed to one class{_not_ended(report)}",
        f"best: trial {best.confirms if best.confirms is not None else best.trial}, epoch {best.epoch}: "
        f"{short(best.config)}",
        *_handed_over(best),
        "",
        f"{'':12}" + "".join(f"{metric.column:>{metric.width}}" for metric in METRICS.values()),
        _score_row("validation", best.validation),
        *_test_rows(report),
    ]
    return [*lines, *_evidence(report), *(f"WARNING: {text}" for text in report.warnings)]


def _not_ended(report: SweepReport) -> str:
    running = report.count("RUNNING")
    return f", {running} not finished" if running else ""


def _evidence(report: SweepReport) -> list[str]:
    lines = evidence_lines(report)
    return ["", *lines] if lines else []


def _handed_over(best: Winner) -> list[str]:
    if best.averaged:
        return [f"handed over: the average of its fresh runs, trials {', '.join(map(str, best.averaged))}"]
    return [f"handed over: its fresh run, trial {best.trial}"] if best.confirms is not None else []


def _test_rows(report: SweepReport) -> list[str]:
    """The scores on the test split, and on the same rows those of always answering one class."""
    on, majority = ("test", report.majority.test) if report.test else ("validation", report.majority.validation)
    test = [f"{'test':12}no test split, as asked for: the score above flatters"]
    if report.test is not None:
        test = [_score_row("test", report.test.scores), *_interval_rows(report.test.interval)]
    guess = _score_row("majority", {name: metric.majority_score(majority) for name, metric in METRICS.items()})
    return [*test, f"{guess}   (on {on}, always one class)"]


def _interval_rows(interval: Intervals | None) -> list[str]:
    if interval is None:
        return []
    ends = [{name: ends[i] for name in METRICS if (ends := interval.of(name)) is not None} for i in (0, 1)]
    level = f"  {100 * interval.level:g} %"
    low, high = (_score_row(f"{level} {word}", of_end) for word, of_end in zip(("from", "to"), ends, strict=True))
    return [low.rstrip(), f"{high}   (interval on new texts such as these)"]


def _score_row(name: str, scores: Mapping[str, float | None]) -> str:
    cells = {metric: scores.get(metric.name) for metric in METRICS.values()}
    return f"{name:12}" + "".join(
        f"{'' if score is None else f'{score:.4f}':>{metric.width}}" for metric, score in cells.items()
    )


def no_trial_finished(
    records: Sequence[TrialRecord], run_dir: RunDir, ended_by: str | None = None, spec: SweepSpec | None = None
) -> str:
    """Say why the sweep has no result: the budget was too small, or the first trials that failed, with their logs.

    Args:
        records: Every trial.
        run_dir: Where the sweep was run.
        ended_by: The budget that ended the search; None where none did.
        spec: The sweep's, where a budget ended it.
    """
    failed = [record for record in records if record.failure]
    if ended_by is not None and spec is not None and len(failed) < max(1, len(records)):
        why = budget_sentence(ended_by, settings_of(spec), len(records))
        return f"no trial ran its whole schedule: {why}; {ways_on(ended_by)}"
    reasons = [
        f"\n  trial {record.number}: {record.failure}; log: {run_dir.storage.name_of(run_dir.failure(record.number))}"
        for record in failed[:FAILURES_SHOWN]
    ]
    return f"no trial finished: {len(failed)} of {len(records)} failed{''.join(reasons)}"


def nothing_left_to_do(report: SweepReport, spec: SweepSpec, out: str) -> list[str]:
    """Say that the sweep is finished already, and show its result."""
    few = trials_of_all_configurations(spec)
    go_on = "--num-trials N goes on to N"
    if few is not None and few <= spec.num_trials:
        go_on = f"each configuration was tried; {go_on} with a wider --space and --allow-new-space, or with "
        go_on += "--repeat-configurations"
    if report.budget_ended_by is not None:
        (why,) = report.why_it_ended
        return [f"nothing left to do: {why}; {ways_on(report.budget_ended_by)}", *conclusion(report, out)]
    return [
        f"nothing left to do: all {spec.num_trials} trials are finished; {go_on}",
        *conclusion(report, out),
    ]


def _onnx_lines(report: SweepReport, out: str) -> list[str]:
    if report.onnx is None or report.onnx.problem is not None:
        return []
    off = f"its probabilities are those of the model within {report.onnx.largest_difference:.1g}"
    return [f"as ONNX      {out}/best/model.onnx   ({off}, on {report.onnx.rows} rows)"]


def conclusion(report: SweepReport, out: str) -> list[str]:
    """Say the result, where everything is, and what to try next. `out` is what the user calls the run directory."""
    pasted = shlex.quote(out)
    lines = [
        *summary(report),
        *(f"next: {text}" for text in report.advice),
        "",
        f"best model   {out}/best   (transformers.pipeline('text-classification', ...) opens it)",
        *_onnx_lines(report, out),
        f"report       {out}/report.html and report.json; every trial: {out}/study.db (Optuna)",
        f"curves       tensorboard --logdir {pasted}",
        f"score again  python -m tune.evaluate {pasted}{'' if report.test else ' --split validation'}",
        f"label texts  python -m tune.predict {pasted} --file new.csv --output labelled.csv",
    ]
    if report.name == "demo":
        lines += [
            "",
            "Next: python -m tune.search --preset mrpc     (bert-base-uncased on GLUE's MRPC; needs the hub)",
            "      python -m tune.search --dataset FOLDER --model M     (your own train.csv: text and label)",
            "      the same command with --num-trials 20     (goes on with this sweep)",
        ]
    return lines
