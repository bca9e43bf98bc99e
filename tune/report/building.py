"""Puts the result of a sweep together, with what the user must not overlook."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainable.metrics import METRICS
from tune.report.budget_words import budget_sentence
from tune.report.confirmed import Evidence
from tune.report.details import Details, EpochRow, RungRow
from tune.report.results import Majority, Scores, SplitScores, SweepReport, TrialRow, Winner
from tune.run_dir.records import TrialRecord, of_the_search
from tune.spec.budgets import settings_of
from tune.spec.sweep_spec import SweepSpec

if TYPE_CHECKING:
    from tune.prepare.inputs import Inputs

REPORTED_PACKAGES = (
    "finetune-search", "ray", "torch", "transformers", "datasets", "evaluate", "optuna", "tensorboard",
)  # fmt: skip


def build_report(
    inputs: Inputs,
    sweep_id: str | None,
    precision: str,
    records: Sequence[TrialRecord],
    winner: TrialRecord,
    averaged: Sequence[int],
    validation: Scores,
    test: SplitScores | None,
    wall_s: float,
    gpu_hours: float,
    test_reads: int,
    advice: Sequence[str] = (),
    evidence: Evidence | None = None,
    details: Details | None = None,
    unfinished: str | None = None,
    budget_ended_by: str | None = None,
) -> SweepReport:
    """Put the report together.

    Args:
        inputs: The sweep's checked input.
        sweep_id: Ties the report to spec.yaml.
        precision: Of training and validation.
        records: Every trial of the study.
        winner: The one whose model is handed over.
        averaged: The trials whose weights are averaged in that model; none where it is the winner's own.
        validation: The model's scores on validation.
        test: The winner's scores on the test split; None where there is none.
        wall_s: How long the sweep took with all its restarts, seconds.
        gpu_hours: What it took of GPUs.
        test_reads: How often a model was scored on the test split, with all its restarts.
        advice: What the numbers call for next.
        evidence: What the fresh runs of the finalists have shown.
        details: What the page shows beside the scores.
        unfinished: What the sweep still lacks, in words; None where it has ended.
        budget_ended_by: The budget that ended the search before its last trial; None where none did.
    """
    spec, data = inputs.spec, inputs.data
    report = SweepReport(
        name=spec.name,
        model=spec.model,
        dataset=spec.dataset,
        metric=spec.metric,
        mode=spec.mode,
        f1_average=inputs.f1_average,
        label_names=list(data.label_names),
        precision=precision,
        best=_winner(winner, averaged, validation),
        test=test,
        test_reads=test_reads,
        majority=Majority(
            validation=inputs.majority("validation"), test={} if test is None else inputs.majority("test")
        ),
        warnings=[],
        notes=[
            *_default_notes(evidence),
            *data.notes,
            *memory_notes(records),
            *(_early_notes(records, spec, budget_ended_by) if unfinished is None else []),
        ],
        advice=list(advice),
        trials=[trial_row(record) for record in records],
        wall_s=wall_s,
        gpu_hours=gpu_hours,
        budget_ended_by=budget_ended_by,
        budgets=settings_of(spec),
        train_s=sum(record.seconds for record in records),
        rows={name: len(split) for name, split in data.splits.items()},
        versions=versions(),
        seed=spec.seed,
        sweep_id=sweep_id,
        final=spec.final if winner.confirms is not None else None,
        unfinished=unfinished,
        **(vars(evidence) if evidence is not None else {}),
        **(vars(details) if details is not None else {}),
    )
    return report.model_copy(update={"warnings": [*inputs.findings.leaks, *warnings_of(report)]})


def _winner(record: TrialRecord, averaged: Sequence[int], validation: Scores) -> Winner:
    if record.best is None:
        raise ValueError(f"trial {record.number} has no epoch")
    return Winner(
        trial=record.number,
        config=record.config,
        epoch=record.best.epoch,
        seed=record.seed,
        confirms=record.confirms,
        averaged=[*averaged],
        validation=dict(validation),
        collapsed=record.collapsed,
    )


def trial_row(record: TrialRecord) -> TrialRow:
    """Say what the study has of one trial."""
    return TrialRow(
        number=record.number,
        state=record.state,
        config=record.config,
        epochs_run=len(record.epochs),
        best_epoch=record.best_epoch,
        value=record.value,
        collapsed=record.collapsed,
        seconds=record.seconds,
        seed=record.seed,
        failure=record.failure,
        confirms=record.confirms,
        epochs=[
            EpochRow(epoch=of.epoch, train_loss=of.train_loss, scores=dict(of.scores), seconds=of.seconds)
            for of in record.epochs
        ],
        rungs=[
            RungRow(
                schedule_percent=of.schedule_percent,
                train_loss=of.train_loss,
                scores=dict(of.scores),
                seconds=of.seconds,
            )
            for of in record.rungs
        ],
        began_at=record.epochs[0].began_at if record.epochs else None,
        ended_at=record.epochs[-1].ended_at if record.epochs else None,
    )


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _early_notes(records: Sequence[TrialRecord], spec: SweepSpec, ended_by: str | None) -> list[str]:
    """Say that the search ended before its last trial: a budget ended it, or `--stop RUN --finish`."""
    done = sum(record.state != "RUNNING" for record in of_the_search(records))
    if ended_by is not None:
        return [budget_sentence(ended_by, settings_of(spec), done)]
    early = f"the sweep was finished early, as asked: after {done} of {spec.num_trials} trials"
    return [early] if done < spec.num_trials else []


def _default_notes(evidence: Evidence | None) -> list[str]:
    """Say where the search has brought nothing that can be measured over the untuned default."""
    default = evidence.default if evidence is not None else None
    if default is None:
        return []
    if default.is_winner:
        return ["the untuned default is the winner: the search has found nothing better"]
    if default.interval is not None and default.interval[0] <= 0 <= default.interval[1]:
        low, high = default.interval
        return [
            f"the winner is not measurably better than the untuned default: the difference on {default.on} is "
            f"{default.difference:.4f}, and lies between {low:.4f} and {high:.4f}"
        ]
    return []


def memory_notes(records: Sequence[TrialRecord]) -> list[str]:
    """Say which trials were computed in smaller pieces since memory ran out."""
    pieces = {r.number: [epoch.rows_at_once for epoch in r.epochs if epoch.rows_at_once] for r in records}
    return [
        f"memory ran out: trial {number} was computed {min(rows)} rows at a time, with its own batch size all the same"
        for number, rows in pieces.items()
        if rows
    ]


def warnings_of(report: SweepReport) -> list[str]:
    """Say what the user must not overlook."""
    found = [] if report.unfinished is None else [report.unfinished]
    best, majority = report.best, report.majority
    compared_on = [("validation", best.validation, majority.validation)]
    if report.test is not None:
        compared_on.append(("test", report.test.scores, majority.test))
    for split, scores, guess in compared_on:
        short_of = [name for name in guess if not _beats(name, scores[name], guess[name])]
        # On classes of very different sizes a good model may have less accuracy than the guess. The metric that was
        # searched decides; where the guess has none of it, a model has to fall short of the guess in everything.
        if report.metric in short_of or (report.metric not in guess and len(short_of) == len(guess)):
            compared = ", ".join(f"{name} {scores[name]:.4f} against {guess[name]:.4f}" for name in short_of)
            found.append(
                f"the winner does not beat always answering the most frequent class on {split} ({compared}): "
                "it has learned little or nothing"
            )
    if best.collapsed:
        found.append("the winner gives every validation row the same class")
    if failed := report.count("FAIL"):
        found.append(f"{failed} of {len(report.searched)} trials failed; trials/N/failure.txt says why")
    return found


def _beats(name: str, score: float, guess: float) -> bool:
    return score > guess if METRICS[name].direction == "max" else score < guess
