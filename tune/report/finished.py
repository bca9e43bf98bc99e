"""What an earlier run of this sweep left that need not be made again: its report, and the winner's test scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from trainable.errors import UserError
from trainable.storage.folders import same_text, write_text
from tune.report.results import as_html, trial_row
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord


def finished_report(run_dir: RunDir, records: Sequence[TrialRecord], num_trials: int) -> dict[str, Any] | None:
    """Read the report of a finished sweep; mend report.html where it does not say what report.json says.

    Args:
        run_dir: where the sweep was run
        records: its trials, as the study has them
        num_trials: how many trials are asked for

    Returns:
        None where trials are left to run, or the report does not agree with the study and with best/.

    Raises:
        UserError: where report.html can't be written
    """
    report = run_dir.read_report()
    if report is None or len(report["trials"]) < num_trials:
        return None
    if report["trials"] != [trial_row(record) for record in records]:
        return None
    if any(record.state == "RUNNING" for record in records):
        return None
    best = run_dir.best_metrics()
    if best is None or best != {**best, **report["best"], "test": report["test"], "majority": report["majority"]}:
        return None  # one of the two is missing or damaged: both are made again
    try:
        if not same_text(run_dir.report_html, page := as_html(report)):
            write_text(run_dir.report_html, page)
            run_dir.storage.publish(run_dir.report_html)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    except OSError as error:
        raise UserError([f"{run_dir.report_html} is not whole and can't be written anew: {error}"]) from error
    return report


def known_test_scores(run_dir: RunDir, winner: TrialRecord) -> dict[str, Any] | None:
    """The winner's test scores where best/ or an earlier report has them: the test split is read only once."""
    known = run_dir.best_metrics()
    if known is None and (report := run_dir.read_report()) is not None:
        known = {**report["best"], "test": report["test"]}
    if known is None or (known.get("trial"), known.get("epoch")) != (winner.number, winner.best_epoch):
        return None
    return cast(dict[str, Any], known["test"])
