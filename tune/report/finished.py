"""What an earlier run of this sweep left that need not be made again: its report, and the winner's test scores."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.errors import UserError
from trainable.storage.folders import same_text, write_text
from tune.report.building import trial_row
from tune.report.details import without_texts
from tune.report.files import write_best, write_report
from tune.report.html_page import html_page
from tune.report.model_card import model_card
from tune.report.results import SplitScores, SweepReport, TrialRow, is_whole_search, read_report
from tune.run_dir.layout import OF_BEST, TEST_PREDICTIONS, RunDir
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.sweep_spec import SweepSpec


def finished_report(
    run_dir: RunDir, records: Sequence[TrialRecord], spec: SweepSpec, no_examples: bool = False
) -> SweepReport | None:
    """Read the report of a finished sweep; write report.html again where it does not say what report.json says.

    Args:
        run_dir: Where the sweep was run.
        records: Its trials, as the study has them.
        spec: What is asked for.
        no_examples: Whether texts of the data are to leave the report.

    Returns:
        None where trials are left to run, or the report does not agree with the study and with best/.

    Raises:
        UserError: A file of the report can't be written.
    """
    if any(record.state == "RUNNING" for record in records):
        return None
    report = report_of(run_dir, records)
    if report is None or report.unfinished is not None:
        return None
    if not is_whole_search(report, len(of_the_search(records)), spec):
        return None
    if no_examples:
        report = _without_examples(run_dir, report)
    return report if _page_is_written(run_dir, report) else None


def report_of(run_dir: RunDir, records: Sequence[TrialRecord]) -> SweepReport | None:
    """Read the report, if it tells of these very trials and of the model that is in best/; else None."""
    report = read_report(run_dir)
    if report is None:
        return None
    if [row.number for row in report.trials] != [record.number for record in records]:
        return None
    if not all(_agree(row, trial_row(record)) for row, record in zip(report.trials, records, strict=True)):
        return None
    best = run_dir.best_metrics()
    if best is None:
        return None  # it is missing or damaged: both are made again
    best = {"confirms": None, "averaged": [], **best}  # which earlier versions did not write
    return report if best == {**best, **report.best_as_json()} else None


def derive_again(run_dir: RunDir, report: SweepReport) -> bool:
    """Write what follows from a report again: report.html, and the model card in best/.

    Returns:
        False where the report is one of a version that had other scores: nothing is written then.

    Raises:
        UserError: report.html can't be written.
    """
    if not _page_is_written(run_dir, report):
        return False
    if not same_text(run_dir.best / OF_BEST[0], model_card(report)):
        write_best(run_dir, report, run_dir.best, run_dir.best / TEST_PREDICTIONS)
    return True


def _without_examples(run_dir: RunDir, report: SweepReport) -> SweepReport:
    """The report without texts of the data; it is written where it had some."""
    if report.answers is None or report.answers == (bare := without_texts(report.answers)):
        return report
    bare_report = report.model_copy(update={"answers": bare})
    try:
        write_report(run_dir, bare_report)
    except LookupError:  # the caller will find that this version can't show it
        return report
    except OSError as error:
        raise UserError([f"{run_dir.report_json} can't be written anew: {error}"]) from error
    return bare_report


def _page_is_written(run_dir: RunDir, report: SweepReport) -> bool:
    """Write report.html where it does not say what the report says; False where this version can't show it."""
    try:
        if not same_text(run_dir.report_html, page := html_page(report)):
            write_text(run_dir.report_html, page)
            run_dir.storage.publish(run_dir.report_html)
    except LookupError:  # a report of a version that had other scores
        return False
    except OSError as error:
        raise UserError([f"{run_dir.report_html} is not whole and can't be written anew: {error}"]) from error
    return True


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
