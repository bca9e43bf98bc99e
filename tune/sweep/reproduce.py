"""Run one trial of a sweep again, and say whether it gives the same numbers.

The trial runs in this process, by the code that a worker runs, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from trainable.config import Precision
from trainable.epoch_scores import EpochScores, RungScores, WorkerFacts
from trainable.errors import TrialFailed, UserError
from trainable.job import Job
from trainable.storage.folder import LOCAL
from trainable.storage.folders import write_text
from tune.cluster.plan import Plan
from tune.prepare.inputs import Inputs, find_model, find_tokenizer, load_spec_data, make_inputs
from tune.prepare.launch import make_job
from tune.report.building import versions
from tune.report.results import SweepReport, read_report
from tune.report.text import short
from tune.run_dir.finished_run import open_begun
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.run_dir.study_file import read_study_file
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import build_spec

COMPARED_VERSIONS = ("finetune-search", "torch", "transformers")
AnyScores = EpochScores | RungScores


@dataclass(frozen=True)
class _Original:
    """A trial as the run directory has it, with what it was trained on."""

    run_dir: RunDir
    record: TrialRecord
    inputs: Inputs
    precision: Precision
    report: SweepReport | None
    sweep_id: str | None

    @property
    def worker(self) -> WorkerFacts | None:
        """Where its last epoch was run; None where the study does not say."""
        return self.record.epochs[-1].worker if self.record.epochs else None


@dataclass(frozen=True)
class _Here:
    """What a trial is computed with in this process."""

    device: str
    threads: int


def reproduce(run: str | Path, trial: int | None, output: Path | None, say: Callable[[str], None]) -> int:
    """Run a trial again, compare its numbers, and write the plain script that trains the same.

    Args:
        run: The run directory, or its URL; its sweep need not be finished.
        trial: The trial's number; None means the winner.
        output: The file for the script; None prints it.
        say: Shows a line to the user.

    Returns:
        The exit code: 0 where all numbers are equal, 1 where one is not.

    Raises:
        UserError: There is no such trial, the data or the model has changed, or the script can't be written.
    """
    from tune.report.plain_script import plain_script

    problems = []
    if output is not None and not output.absolute().parent.is_dir():
        problems.append(f"--output {output}: there is no folder {output.absolute().parent}")
    original = _find(run, trial, problems)
    record = original.record
    job = _job(original)
    script = plain_script(original.inputs, job, record, original.run_dir.name, output, job.gpus_per_trial > 0)
    say(f"trial {record.number}: {short(record.config)} seed={record.seed}, {job.precision}, {job.threads} threads")
    if original.report is not None and record.number in original.report.best.averaged:
        say(f"note: best/ holds the average of the trials {original.report.best.averaged}; this is one of them")
    differences, here = _run_again(original, job, say)
    for line in _verdict(original, differences, here):
        say(line)
    for note in script.notes:
        say(f"note: the script: {note}")
    if output is None:
        print(script.text, end="")
    else:
        try:
            for path, text in {**script.files, output: script.text}.items():
                write_text(path, text)
        except OSError as error:
            raise UserError([f"--output {output}: can't be written: {error.strerror or error}"]) from error
        say(f"script: {output}")
    return 1 if differences else 0


def _find(run: str | Path, trial: int | None, problems: list[str]) -> _Original:
    """Read the run directory, then the data and the model again, which must be those of the sweep."""
    try:
        run_dir = open_begun(run)
        stored = run_dir.read_spec()
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    resolved = stored["resolved"]
    spec = build_spec(given_from_run(stored), problems)
    begun = resolved["precision"] is not None
    records = read_study_file(run_dir.study_file, spec.metric, spec.mode, resolved.get("sweep"), begun)
    report = read_report(run_dir)
    record = _choose(records, report.best.trial if report is not None else None, trial, problems)
    data = load_spec_data(spec, problems)
    model = find_model(spec.model, problems)
    tokenizer = find_tokenizer(model.path, problems) if model is not None else None
    if data is not None and data.fingerprint != resolved["data_fingerprint"]:
        problems.append(f"{stored['dataset']}: the data has changed since the sweep, so its trials can't be run again")
    if model is not None and model.fingerprint != resolved["model_fingerprint"]:
        problems.append(f"{stored['model']}: the model has changed since the sweep, so its trials can't be run again")
    if problems or data is None or model is None or tokenizer is None or record is None:
        raise UserError(problems)
    inputs = make_inputs(spec, data, model, tokenizer)
    return _Original(run_dir, record, inputs, cast(Precision, resolved["precision"]), report, resolved.get("sweep"))


def _choose(
    records: Sequence[TrialRecord], winner: int | None, asked: int | None, problems: list[str]
) -> TrialRecord | None:
    """The trial that is asked for, which must have scores that can be compared."""
    number = winner if asked is None else asked
    scored = [record.number for record in records if record.scored and record.seed is not None]
    has_scores = f"scored trials: {', '.join(map(str, scored)) or 'none'}"
    if number is None:
        problems.append(f"the sweep has no winner yet: name a trial with --trial N; {has_scores}")
    elif number not in {record.number for record in records}:
        problems.append(f"--trial {number}: the sweep has no such trial; {has_scores}")
    elif number not in scored:
        problems.append(f"--trial {number}: it has no score that could be compared; {has_scores}")
    return next((record for record in records if record.number == number and number in scored), None)


def _job(original: _Original) -> Job:
    """The job as the trial's worker had it: as many threads, and a GPU where it may have had one."""
    inputs, worker, spec = original.inputs, original.worker, original.inputs.spec
    cores = float(spec.cpus_per_trial or 1)
    wants_gpu = spec.gpus_per_trial != 0 if worker is None or worker.device is None else "CPU" not in worker.device
    plan = Plan(slots=1, cpus_per_trial=cores, gpus_per_trial=1.0 if wants_gpu and _has_gpu() else 0.0)
    job = make_job(inputs, plan, original.run_dir, original.sweep_id)
    threads = worker.threads if worker is not None and worker.threads is not None else job.threads
    return replace(job, precision=original.precision, threads=threads, storage=LOCAL, incumbent_file=None)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _run_again(original: _Original, job: Job, say: Callable[[str], None]) -> tuple[list[str], _Here]:
    """Run the trial as far as it was scored; returns each difference in words."""
    from trainable.train.devices import device_name
    from trainable.train.run import FineTuningRun

    record = original.record
    before = {_when(scored): scored for scored in record.scored}
    run = FineTuningRun(job)
    run.reset(record.config, cast(int, record.seed), with_rungs=bool(record.rungs))
    differences: list[str] = []
    here = _Here(device_name(run.device), job.threads)
    try:
        while before and not run.done:
            scored = run.next_segment(lambda: False)
            if scored is None or (there := before.pop(_when(scored), None)) is None:
                continue
            different = _difference(there, scored)
            differences += [f"{_when(scored)}: {different}"] * bool(different)
            say(f"{_when(scored)}: {_told(scored)}  {different or 'equal'}")
    except TrialFailed as error:
        differences.append(str(error))
        say(str(error))
    return differences, here


def _when(scored: AnyScores) -> str:
    return f"epoch {scored.epoch}" if isinstance(scored, EpochScores) else f"step {scored.steps}"


def _told(scored: AnyScores) -> str:
    named = {"train_loss": scored.train_loss, **scored.scores}
    return " ".join(f"{name}={value:.4f}" for name, value in named.items())


def _difference(there: AnyScores, here: AnyScores) -> str:
    """Which numbers differ, and by how much; empty where all are exactly equal."""
    pairs = {"train_loss": (there.train_loss, here.train_loss)}
    pairs |= {name: (value, here.scores[name]) for name, value in there.scores.items() if name in here.scores}
    off = [f"{name} by {abs(now - then):.2g}" for name, (then, now) in pairs.items() if now != then]
    return f"differs: {', '.join(off)}" if off else ""


def _verdict(original: _Original, differences: Sequence[str], here: _Here) -> list[str]:
    record = original.record
    if not differences:
        return [f"the same numbers: trial {record.number} was reproduced exactly"]
    reasons = _reasons(original, here) or [
        "no reason is known: device, versions, precision and threads are those of the sweep"
    ]
    return [
        f"not the same numbers: {len(differences)} of {len(record.scored)} scores differ",
        *map("  {}".format, reasons),
    ]


def _reasons(original: _Original, here: _Here) -> list[str]:
    """What is known to be other than it was, and rounds sums in another way."""
    worker, record, report = original.worker, original.record, original.report
    now = versions()
    there: dict[str, Any] = {name: report.versions.get(name) for name in COMPARED_VERSIONS} if report else {}
    if worker is not None and worker.torch is not None:
        there["torch"] = worker.torch
    found = [f"{name} {then} there, {now[name]} here" for name, then in there.items() if then and then != now[name]]
    if worker is None or worker.device is None:
        found.append("the study does not say on which device, and with how many threads, the trial was trained")
    elif worker.device != here.device:
        found.append(f"device: {worker.device} there, {here.device} here")
    if worker is not None and worker.hostname != _hostname():
        found.append(f"another machine: {worker.hostname} there, {_hostname()} here")
    if rows := [epoch.rows_at_once for epoch in record.epochs if epoch.rows_at_once]:
        found.append(f"memory ran out there: {min(rows)} rows were computed at once, with other random numbers")
    if not here.device.startswith("CPU"):
        found.append("a GPU adds some sums in an order that changes from run to run")
    return found


def _hostname() -> str:
    import platform

    return platform.node()
