"""The report of a run directory as it is: made again of a sweep that has ended, else made of what is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainable.errors import UserError
from trainable.storage.folders import write_folder
from tune.cluster.machine import usable_cores
from tune.cluster.plan import Plan
from tune.prepare.check import check_stored
from tune.prepare.identity import StoredSweep
from tune.prepare.inputs import Inputs
from tune.prepare.launch import make_job
from tune.process.restart import reporting_command
from tune.report.files import write_best, write_report
from tune.report.finished import derive_again, report_of
from tune.report.results import SweepReport, test_reads_before
from tune.run_dir.finished_run import AGAIN, open_begun
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, of_the_search
from tune.run_dir.study import open_study
from tune.run_dir.study_file import read_study_file
from tune.spec.sources import given_from_run
from tune.spec.sweep_spec import SweepSpec, build_spec
from tune.sweep.budget_watch import noted_end
from tune.sweep.confirmation import choose, finalists, next_finalist
from tune.sweep.meter import noted_usage
from tune.sweep.result import Outcome, make_result


@dataclass(frozen=True)
class Reported:
    """A report that was written, and what that took."""

    report: SweepReport
    run: str
    """What the user calls the run directory."""
    test_was_read: bool
    """Whether a model was scored on the test split for it."""


def report_run(run: str | Path, say: Callable[[str], None]) -> Reported:
    """Write report.html, and the model card, of a report that agrees with the study again; else make all of them.

    The trials, the study and spec.yaml stay as they are: the search goes on later as if nothing had happened.

    Args:
        run: The run directory, or its URL.
        say: Shows a text to the user.

    Raises:
        UserError: No report can be made of what is there; nothing was written.
    """
    run_dir = open_begun(run, reading=False)
    if (driver := run_dir.owner()) is not None:
        told = "wait for its end, or end its search now: python -m tune.search --stop RUN --finish"
        raise UserError([f"{run_dir.name}: process {driver} runs this sweep, and will make the report; {told}"])
    records = _records(run_dir)
    if (there := report_of(run_dir, records)) is not None:
        with run_dir.locked():
            if derive_again(run_dir, there):
                return Reported(there, run_dir.name, test_was_read=False)
    if not any(record.state == "COMPLETE" for record in records):
        ended = sum(record.state not in ("RUNNING", "WAITING") for record in records)
        told = f"no trial has run its whole schedule yet ({ended} of {len(records)} trials ended): there is no model"
        raise UserError([f"{run_dir.name}: {told} to report; {AGAIN} goes on"])
    inputs, stored = check_stored(run_dir)
    with run_dir.locked():
        return _make(inputs, stored, run_dir, say)


def _records(run_dir: RunDir) -> tuple[TrialRecord, ...]:
    """The trials, read without Optuna."""
    problems: list[str] = []
    stored = run_dir.read_spec()
    spec = build_spec(given_from_run(stored), problems)
    if problems:
        raise UserError([f"{run_dir.spec_file} is damaged: {problem}" for problem in problems])
    begun = stored["resolved"]["precision"] is not None
    return read_study_file(run_dir.study_file, spec.metric, spec.mode, run_dir.sweep_id, begun)


def _make(inputs: Inputs, stored: StoredSweep, run_dir: RunDir, say: Callable[[str], None]) -> Reported:
    """Make best/ and the report of what the study has."""
    spec = inputs.spec

    def has_model(record: TrialRecord) -> bool:
        return run_dir.has_model(record.number, record.model_sha256)

    choice = choose(stored.records, spec, has_model)
    if choice is None or not has_model(choice.run):
        raise UserError([f"{run_dir.name}: the winner's model is gone; {AGAIN} trains it again"])
    study = open_study(run_dir.study_file, spec.mode, run_dir.sweep_id)
    used = noted_usage(study)
    ended_by = noted_end(study, spec)
    unfinished = what_is_missing(stored.records, spec, has_model, ended_by)
    outcome = Outcome(
        stored.records, choice, used.wall_s, None, reporting_command(run_dir.name), unfinished,
        gpu_hours=used.gpu_s / 3600, budget_ended_by=ended_by,
    )  # fmt: skip
    cores = usable_cores()
    plan = Plan(1, cores, gpus_per_trial=1.0, local_cores=cores)  # a GPU is used where there is one
    job = make_job(inputs, plan, run_dir, stored.sweep_id)
    job = replace(job, precision=stored.precision or job.precision)
    before = test_reads_before(run_dir)
    report, model = make_result(inputs, stored.sweep_id, plan, job, run_dir, outcome, say)
    _keep_model_of_best(run_dir, stored.records)
    write_best(run_dir, report, model.folder, model.test_predictions)
    write_report(run_dir, report)
    return Reported(report, run_dir.name, report.test_reads > before)


def _keep_model_of_best(run_dir: RunDir, records: Sequence[TrialRecord]) -> None:
    """Give the model in best/ back to its trial, which has no other: the search may choose it again when it goes on."""
    record = next((each for each in records if each.number == run_dir.best_trial()), None)
    if record is not None and run_dir.model_of(record.number, record.model_sha256) == run_dir.best:
        write_folder(run_dir.model(record.number), run_dir.copy_best_model)
        run_dir.storage.publish(run_dir.model(record.number))


def what_is_missing(
    records: Sequence[TrialRecord],
    spec: SweepSpec,
    has_model: Callable[[TrialRecord], bool],
    ended_by: str | None = None,
) -> str | None:
    """Say what a sweep lacks that did not come to its end; None where nothing is missing.

    Args:
        records: Every trial of the study.
        spec: The sweep's.
        has_model: Whether the model of a run is still there.
        ended_by: The budget that has ended the search; None where none did.
    """
    searched = of_the_search(records)
    ended = sum(record.state not in ("RUNNING", "WAITING") for record in searched)
    open_runs = sum(record.state == "RUNNING" for record in records)
    has_searched = ended >= spec.num_trials or ended_by is not None
    no_time = ended_by not in (None, "target", "until_stable")  # for fresh runs that were not begun
    if has_searched and not open_runs and (no_time or next_finalist(records, spec, has_model) is None):
        return None
    parts = [f"the sweep did not end: {ended} of {spec.num_trials} trials are done"]
    fresh = sum(len(finalist.runs) for finalist in finalists(records, spec))
    if spec.confirm != "none":
        runs = f"only {fresh} fresh run{'' if fresh == 1 else 's'} finished"
        parts.append(f"and its result is not confirmed: {runs if fresh else 'no finalist was trained again'}")
    return f"{', '.join(parts)} ({AGAIN} goes on)"
