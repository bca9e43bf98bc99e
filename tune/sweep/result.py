"""The result of a search: the winner, the model of it that is handed over, its test scores, and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainable.job import Job
from tune.cluster.plan import Plan
from tune.prepare.inputs import Inputs
from tune.report.advice import advice
from tune.report.building import build_report
from tune.report.results import SplitScores, SweepReport, test_reads_before
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord, of_the_search
from tune.sweep.confirmation import Chosen
from tune.sweep.details import details_of
from tune.sweep.evidence import Evidences
from tune.sweep.final_score import TestSplit, score_on_split
from tune.sweep.hand_over import Model, model_to_hand_over


@dataclass(frozen=True)
class Outcome:
    """What a search has come to."""

    records: Sequence[TrialRecord]
    """Every trial of the study."""
    choice: Chosen
    """The winner of them."""
    wall_s: float
    """How long the sweep took with all its restarts, seconds."""
    plan: Plan | None
    """What its trials were given; None where that is not known."""
    command: str | None
    """The command that makes the report; None where Python calls."""
    unfinished: str | None = None
    """What the sweep still lacks, in a sentence; None where it has ended."""
    gpu_hours: float = 0.0
    """What it took of GPUs with all its restarts."""
    budget_ended_by: str | None = None
    """The budget that ended the search before its last trial; None where none did."""


def make_result(
    inputs: Inputs,
    sweep_id: str | None,
    plan: Plan,
    job: Job,
    run_dir: RunDir,
    outcome: Outcome,
    say: Callable[[str], None],
) -> tuple[SweepReport, Model]:
    """Settle which model of the winner is handed over, and only then read the test split.

    Args:
        inputs: The sweep's checked input.
        sweep_id: Ties the report to spec.yaml.
        plan: Where models are scored.
        job: What the trials share.
        run_dir: Where the sweep was run.
        outcome: What the search has come to.
        say: Shows a text to the user.

    Returns:
        The report, and the model. Neither is written yet.
    """
    spec, records, choice = inputs.spec, outcome.records, outcome.choice

    def on_validation(folder: Path) -> SplitScores:
        return score_on_split(plan, job, str(folder), job.validation, say)[0]

    model = model_to_hand_over(choice, spec, run_dir, on_validation, say)
    has_test = "test" in inputs.data.splits
    split = TestSplit(run_dir, plan, job, lambda: inputs.tokenize("test"), say) if has_test else None
    test = split.score_winner(model) if split is not None else None
    never = test.never_predicted if test is not None and test.never_predicted else []
    next_steps = advice(inputs, of_the_search(records), choice.finalist, job.train.truncated, never)
    evidence = Evidences(records, spec, choice, run_dir, job, split).all()
    reads = test_reads_before(run_dir)
    if split is not None:
        reads = max(reads + split.was_read, 1)
    report = build_report(
        inputs, sweep_id, job.precision, records, model.run, model.averaged, model.scores, test, outcome.wall_s,
        outcome.gpu_hours, reads, next_steps, evidence,
        details_of(inputs, job, outcome.plan, run_dir, records, model, outcome.command),
        outcome.unfinished, outcome.budget_ended_by,
    )  # fmt: skip
    return report, model
