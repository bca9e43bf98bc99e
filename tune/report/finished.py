"""What an earlier run of this sweep left that need not be made again: its report, and the winner's test scores."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.errors import UserError
from trainable.storage.folders import same_text, write_text
from tune.report.details import without_texts
from tune.report.files import write_report
from tune.report.html_page import html_page
from tune.report.results import SplitScores, SweepReport, TrialRow, read_report, trial_row
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, of_the_search


def finished_report(
    run_dir: RunDir, records: Sequence[TrialRecord], num_trials: int, no_examples: bool = False
) -> SweepReport | None:
    """Read the report of a finished sweep; write report.html again where it does not say what report.json says.

    Args:
        run_dir: Where the sweep was run.
        records: Its trials, as the study has them.
        num_trials: How many trials are asked for.
        no_examples: Whether texts of the data are to leave the report.

    Returns:
        None where trials are left to run, or the report does not agree with the study and with best/.

    Raises:
        UserError: A file of the report can't be written.
    """
    report = read_report(run_dir)
    if report is None or len(of_the_search(records)) < num_trials:
        return None
    if any(record.state == "RUNNING" for record in records):
        return None
    if [row.number for row in report.trials] != [record.number for record in records]:
        return None
    if not all(_agree(row, trial_row(record)) for row, record in zip(report.trials, records, strict=True)):
        return None
    best = run_dir.best_metrics()
    if best is None:
        return None  # it is missing or damaged: both are made again
    best = {"confirms": None, "averaged": [], **best}  # which earlier versions did not write
    if best != {**best, **report.best_as_json()}:
        return None
    try:
        if no_examples and report.answers is not None and report.answers != (bare := without_texts(report.answers)):
            report = report.model_copy(update={"answers": bare})
            write_report(run_dir, report)
        if not same_text(run_dir.report_html, page := html_page(report)):
            write_text(run_dir.report_html, page)
            run_dir.storage.publish(run_dir.report_html)
    except LookupError:  # a report of a version that had other scores
        return None
    except OSError as error:
        raise UserError([f"{run_dir.report_html} is not whole and can't be written anew: {error}"]) from error
    return report


def _agree(row: TrialRow, now: TrialRow) -> bool:
    """Whether a row of a report says what the study says; a report of an earlier version need not say everything."""
    said = row.model_fields_set
    return row.model_dump(include=said) == now.model_dump(include=said)


def known_test_scores(run_dir: RunDir, winner: TrialRecord, averaged: Sequence[int] = ()) -> SplitScores | None:
    """Read the winner's test scores from best/ or an earlier report: the test split is scored only once.

    Args:
        run_dir: Where the sweep was run.
        winner: The trial whose model it is.
        averaged: The trials whose weights are averaged in it; none where it is the trial's own.
    """
    known = run_dir.best_metrics()
    if known is None and (report := read_report(run_dir)) is not None:
        known = report.best_as_json()
    whose = winner.number, winner.best_epoch, [*averaged]
    if known is None or (known.get("trial"), known.get("epoch"), known.get("averaged", [])) != whose:
        return None
    try:
        return SplitScores.model_validate(known["test"])
    except (LookupError, ValueError):
        return None
