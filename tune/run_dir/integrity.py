"""Whether a run directory holds all that its sweep has done: what is lost is told, never begun anew in silence."""

from __future__ import annotations

from trainable.errors import UserError
from trainable.storage.folders import sweep_asides
from tune.run_dir.layout import WHAT_TO_DO, RunDir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.run_dir.study import open_study, read_records
from tune.run_dir.study_file import holds_study, study_problem
from tune.spec.sweep_spec import SweepSpec


def find_records(run_dir: RunDir, spec: SweepSpec, problems: list[str]) -> tuple[TrialRecord, ...]:
    """The trials of the sweep in a run directory; what a killed driver left half done there is put in order first.

    Appends to `problems` where the study is not whole, knows less than the other files, or has lost its best model;
    and where another driver is at work.
    """
    try:
        with run_dir.held():
            sweep_asides(run_dir.root)
            records = _read_study(run_dir, spec)
            problems += [*_what_the_study_lacks(run_dir, records), *_what_the_leader_lacks(run_dir, spec, records)]
            return records
    except UserError as error:
        problems += error.problems
    except OSError as error:
        problems.append(f"--out {run_dir.root}: {error}")
    return ()


def _read_study(run_dir: RunDir, spec: SweepSpec) -> tuple[TrialRecord, ...]:
    """Every trial. Raises UserError where the file is damaged; nothing is written into one that holds no study."""
    file = run_dir.study_file
    begun = run_dir.read_spec()["resolved"]["precision"] is not None  # stored once the study was there
    if not file.exists():
        if begun:
            raise UserError([f"{file} is gone, and with it what every trial gave; {WHAT_TO_DO}"])
        return ()
    if (problem := study_problem(file)) is not None:
        raise UserError([f"{file} is damaged ({problem}); {WHAT_TO_DO}"])
    if not holds_study(file):
        if begun:
            raise UserError([f"{file} is damaged (it is empty); {WHAT_TO_DO}"])
        return ()
    try:
        records = read_records(open_study(file, spec.mode, run_dir.sweep_id), spec.metric, spec.mode)
        rank(records, spec.metric, spec.mode)
    except UserError:
        raise
    except Exception as error:  # whatever SQLAlchemy, Optuna and JSON say of a file that another hand changed
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError([f"{file} is damaged ({reason}); {WHAT_TO_DO}"]) from error
    return records


def _what_the_study_lacks(run_dir: RunDir, records: tuple[TrialRecord, ...]) -> list[str]:
    """Trials that other files know of: a study that was replaced by an older one would run them again."""
    file, problems = run_dir.study_file, []
    if [record.number for record in records] != list(range(len(records))):
        problems.append(f"{file} is damaged (its trials are not numbered from 0 on); {WHAT_TO_DO}")
    unknown = [str(number) for number in run_dir.trial_numbers() if number >= len(records)]
    # A store's study may be half a minute older than what workers put beside it; those trials are asked for again.
    if unknown and run_dir.storage.is_shared_folder:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        problems.append(
            f"{file} has {len(records)} trials and none of number {listed}, whose folders are in {run_dir.trials}: "
            f"it is older than they are; {WHAT_TO_DO}"
        )
    report = run_dir.read_report()
    told = sum(row.get("state") != "RUNNING" for row in report["trials"]) if report is not None else 0
    found = sum(record.state != "RUNNING" for record in records)
    if told > found:
        problems.append(
            f"{file} has {found} finished trials where {run_dir.report_json} tells of {told}: it is older; {WHAT_TO_DO}"
        )
    return problems


def _what_the_leader_lacks(run_dir: RunDir, spec: SweepSpec, records: tuple[TrialRecord, ...]) -> list[str]:
    ranked = rank(records, spec.metric, spec.mode)
    if not ranked or run_dir.model_of(ranked[0].number, ranked[0].model_sha256) is not None:
        return []
    return [leaders_model_is_gone(run_dir, ranked[0].number)]


def leaders_model_is_gone(run_dir: RunDir, number: int) -> str:
    """The problem in words."""
    return (
        f"the best trial's model, {run_dir.model(number)}, is gone or damaged, and so is {run_dir.best}; {WHAT_TO_DO}"
    )
