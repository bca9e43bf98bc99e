"""Run the trials of a sweep. Only this module calls ray.tune.Tuner: Ray runs trials, the study remembers them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune import CheckpointConfig, PlacementGroupFactory, ProgressReporter, RunConfig, Stopper, TuneConfig, Tuner

from trainable.epoch_scores import EpochScores, RungScores
from trainable.job import Assignment, Job
from trainable.trial import FineTuningTrial
from tune.cluster.alive import what_died
from tune.cluster.plan import Plan
from tune.cluster.ray_patches import no_keys_in_actors, tune_mended
from tune.cluster.temporary import temporary_folder
from tune.process.signals import finish_asked
from tune.report.progress import Progress
from tune.report.score_logs import ScoreLogs
from tune.run_dir.layout import RunDir
from tune.run_dir.records import of_the_search
from tune.spec.sweep_spec import SweepSpec
from tune.stopping_rules import STOPPING_RULES
from tune.sweep.callback import SweepCallback, assignment_of
from tune.sweep.halt import Halt
from tune.sweep.heartbeats import HeadsStore, Heartbeats, new_prefix
from tune.sweep.noise import ScoreNoise
from tune.sweep.scheduler import MustStop, StoppingScheduler
from tune.sweep.searcher import StudySearcher
from tune.sweep.slots import Slots
from tune.sweep.trial_book import TrialBook


def run_trials(
    spec: SweepSpec,
    plan: Plan,
    job: Job,
    run_dir: RunDir,
    book: TrialBook,
    progress: Progress,
    logs: ScoreLogs,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run every trial that the book still has to issue, and return when the last one is finished.

    Args:
        spec: The sweep.
        plan: What each trial gets of the nodes.
        job: What all trials share.
        run_dir: The run directory.
        book: Issues the trials and takes their results.
        progress: Shows the user what happens.
        logs: Take the scores while trials run.
        meanwhile: Is called in a thread of its own when the last trial was handed out.

    Raises:
        StorageFailed: The disk is full, or the storage fails otherwise.
        SweepFailed: The first trials all failed the same way.
    """
    slots = Slots(spec, plan, progress)
    book.watch(lambda: slots.now, lambda: slots.gpus, ScoreNoise(run_dir, job, spec.metric))
    if book.remaining == 0:
        return
    rule = STOPPING_RULES[spec.scheduler].make(spec.mode, spec.reduction_factor)
    for record in of_the_search(book.records()):
        for scored in record.scored:
            rule.report(record.number, scored.schedule_percent, scored.scores[spec.metric], scored.scores["loss"])

    halt = Halt()
    prefix = new_prefix()
    heartbeats = Heartbeats(HeadsStore(prefix))
    job = replace(job, heartbeats=prefix)
    callback = SweepCallback(run_dir, book, progress, halt, plan, heartbeats, logs)
    # Tune writes pickles of its own. They are read by nobody, and are removed when this call ends.
    with temporary_folder() as storage, tune_mended(callback.errors), no_keys_in_actors():
        tuner = Tuner(
            tune.with_resources(tune.with_parameters(FineTuningTrial, job=job), _resources(plan)),
            tune_config=TuneConfig(
                search_alg=StudySearcher(book, halt, slots.limit, meanwhile),
                scheduler=StoppingScheduler(spec.metric, rule, _must_stop(book, halt)),
                num_samples=-1,  # the searcher says when it has finished, since a trial may be run more than once
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial_{assignment_of(trial).number}",
                trial_dirname_creator=lambda trial: f"{assignment_of(trial).number}-{uuid.uuid4().hex[:8]}",
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=str(storage),
                verbose=0,
                stop=HaltStopper(halt),
                callbacks=[callback],
                progress_reporter=SilentReporter(),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:  # Tune leaves the workers alive
            if what_died() is None:
                heartbeats.write_states(callback.running)
            raise
    if halt.error is not None:
        raise halt.error


def _must_stop(book: TrialBook, halt: Halt) -> MustStop:
    """The budget's answer whether a trial must be ended. An error there halts the sweep."""

    def must_stop(number: int, scored: EpochScores | RungScores | None) -> bool:
        must = False
        with halt.on_error():
            must = book.budget.must_stop(number, scored)
        return must or halt.error is not None

    return must_stop


def _resources(plan: Plan) -> Callable[[Mapping[str, Any]], PlacementGroupFactory]:
    """Tune's question for the resources of a trial, answered from its memory multiplier."""
    # One object for each multiplier, and not for each trial: they are not small.
    powers = [2**i for i in range(plan.largest_multiplier.bit_length())]
    factories = {multiplier: PlacementGroupFactory([plan.resources(multiplier)]) for multiplier in powers}

    def resources(config: Mapping[str, Any]) -> PlacementGroupFactory:
        assignment: Assignment = config["assignment"]
        return factories[min(assignment.memory_multiplier, plan.largest_multiplier)]

    return resources


class SilentReporter(ProgressReporter):
    """Tells nothing, because the sweep has a live table and a log of its own.

    In a notebook, Tune's default reporter would also erase all that the cell has printed so far.
    """

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Report nothing."""
        return False


class HaltStopper(Stopper):
    """Ends Tune's loop when the sweep has to halt."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt

    def __deepcopy__(self, memo: object) -> HaltStopper:
        return self  # Tune copies its settings; there is only one halt

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep has to end now."""
        return self._halt.error is not None or finish_asked()
