"""The trials of a sweep between the study, which remembers them, and Ray Tune, which runs them.

A trial's durable name is its number in the study. To continue a sweep means: trials that a dead driver left open are
run again under their number, seed and configuration, and new trials are begun as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from optuna.trial import Trial, TrialState

from trainable.epoch_scores import EpochScores, RungScores
from trainable.job import Assignment
from tune.run_dir.attributes import CONFIRMS
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.run_dir.study import open_study, read_records
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.budget import Noise
from tune.sweep.budget_watch import BudgetWatch
from tune.sweep.confirmation import Chosen, choose, next_finalist
from tune.sweep.meter import Meter
from tune.sweep.models import ModelKeeper
from tune.sweep.proposals import Proposals, derived_seed
from tune.sweep.queue import TrialQueue
from tune.sweep.study_writer import StudyWriter

TICK_S = 1.0  # Tune's loop goes round ten times as often


class TrialBook:
    """Issues trials and takes their results.

    It puts five things in order: the queue says which trial runs next, the proposals give its configuration, the writer
    keeps the study, the keeper of models decides which models stay, and the watch over the budgets ends the search.
    """

    def __init__(self, spec: SweepSpec, run_dir: RunDir, began: float | None = None, test_share: float = 0.0) -> None:
        """Open the study of a run directory, and go on with it.

        Args:
            spec: The sweep.
            run_dir: Its run directory.
            began: When this driver began its work, monotonic seconds; None means now.
            test_share: Rows of the test split for each row of the validation split.

        Raises:
            UserError: The study belongs to another sweep, or the best trial's model is gone.
            OSError: The study can't be read or written.
        """
        self.spec = spec
        self.run_dir = run_dir
        self.study = open_study(run_dir.study_file, spec.mode, run_dir.sweep_id)
        trials = self.study.get_trials(deepcopy=False)
        left_open = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        repeats = {trial.number for trial in trials if CONFIRMS in trial.user_attrs}
        searched = [trial for trial in trials if trial.number not in repeats]
        # A trial that waits has a point, but a dead driver did not come to begin it.
        begun = sum(trial.state != TrialState.WAITING for trial in searched)
        finished = sum(trial.state.is_finished() for trial in searched)
        records = self.records()
        self._queue = TrialQueue(spec.num_trials, left_open, begun, finished, repeats)
        self._proposals = Proposals(spec, self.study, point_waits=begun < len(searched))
        self._writer = StudyWriter(spec, run_dir, self.study)
        self._steps: dict[int, int] = {}  # by trial: the optimizer steps that were reported
        self._models = ModelKeeper(spec, run_dir, records)
        self._finalist: list[TrialRecord | None] = []  # the next to be trained again, once that is known
        self.meter = Meter(self.study, began)
        self.budget = BudgetWatch(spec, self.study, self.meter, test_share)
        self._ticked = -math.inf
        if self.budget.ended_by is not None:
            self._queue.end_search()

    @property
    def leader(self) -> TrialRecord | None:
        """The best trial so far; None as long as no trial has finished its schedule."""
        return self._models.leader

    @property
    def leaders(self) -> list[TrialRecord]:
        """The best `keep_top` trials so far, whose models are kept; best first."""
        return self._models.leaders

    @property
    def models_gone(self) -> list[int]:
        """Trials among the leaders whose models were removed while fewer were kept."""
        return self._models.gone

    @property
    def finished(self) -> int:
        """How many trials of the search are finished."""
        return self._queue.finished

    @property
    def remaining(self) -> int:
        """How many trials of the search are still to be finished; then 1 as long as finalists are to be trained."""
        if self._queue.search_is_over and not self._queue.remaining:
            return int(self._next_finalist() is not None)
        return self._queue.remaining

    @property
    def open(self) -> int:
        """How many trials are handed out and not finished."""
        return self._queue.open

    @property
    def all_issued(self) -> bool:
        """Whether every trial was handed out at least once and none waits to be run again."""
        return self._queue.all_handed_out

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial so far, as the study has it."""
        return read_records(self.study, self.spec.metric, self.spec.mode)

    def issue(self) -> Assignment | None:
        """Hand out the next trial; None if there is nothing to run now."""
        self._heed_budget(for_another=True)
        trial = self._next_trial()
        if trial is None:
            return None
        self.budget.trial_began(trial.number)
        seed = derived_seed(self.spec.seed, trial.number, "training")
        opened = self._writer.open(trial, self._proposals.propose, seed)
        return Assignment(
            number=trial.number,
            seed=seed,
            config=opened.config,
            folder=str(self.run_dir.trial(trial.number)),
            confirms=trial.user_attrs.get(CONFIRMS),
            memory_multiplier=opened.memory_multiplier,
        )

    def _next_trial(self) -> Trial | None:
        """The next trial: one that was begun before, a new one, or a finalist's again once the search is over."""
        following = self._queue.take()
        if following is not None:
            return self._proposals.begin(following.number) if following.is_new else self._writer.trial(following.number)
        finalist = self._next_finalist() if self._queue.search_is_over else None
        if finalist is None:
            return None
        trial = self._writer.repeat(finalist)
        self._queue.repeat(trial.number)
        self._finalist.clear()
        return trial

    def _next_finalist(self) -> TrialRecord | None:
        """The trial whose configuration is to be trained again next, as far as is known now."""
        if not self._finalist:
            self._finalist.append(next_finalist(self.records(), self.spec, self._has_model, self.budget.fits))
        return self._finalist[0]

    def _has_model(self, record: TrialRecord) -> bool:
        return self.run_dir.has_model(record.number, record.model_sha256)

    def watch(self, slots: Callable[[], int], gpus: Callable[[], float], noise: Noise) -> None:
        """Begin to watch the budgets, once this driver has started.

        Args:
            slots: How many trials run side by side now.
            gpus: How many GPUs the sweep has now.
            noise: The standard error of a trial's objective on the validation rows.
        """
        self.budget.slots, self.meter.gpus, self.budget.noise = slots, gpus, noise
        self.budget.start_s = self.meter.driver_s

    def tick(self) -> bool:
        """Look at the clock, at most once a second: end the search if its time is up, and note what is used.

        Returns:
            Whether it was time to look.
        """
        if time.monotonic() - self._ticked < TICK_S:
            return False
        self._ticked = time.monotonic()
        self._heed_budget()
        self.meter.tick()
        return True

    def _heed_budget(self, for_another: bool = False) -> None:
        """Begin no further trial of the search once a budget has ended it.

        What runs goes on as long as it can come to its end in time, and then the finalists are confirmed.
        """
        if not self._queue.search_is_over and self.budget.search_ends(for_another and self._queue.next_is_new):
            self._queue.end_search()
        for number in self._queue.waiting:
            if self.budget.no_time_for(self._queue.is_repeat(number)):
                self._end_waiting(number)

    def _end_waiting(self, number: int) -> None:
        """Close a trial that was to be run again, for which no time is left."""
        self._queue.withdraw(number)
        trial = self._writer.trial(number)
        seed = derived_seed(self.spec.seed, number, "training")
        self._writer.open(trial, self._proposals.propose, seed)
        self.finish(number, TrialState.PRUNED)

    def choose(self) -> Chosen | None:
        """The winner and the run of it whose model is handed over; None where no trial has finished its schedule."""
        return choose(self.records(), self.spec, self._has_model)

    def record_epochs(self, number: int, history: Sequence[EpochScores]) -> None:
        """Write what the study lacks of an open trial's history."""
        self._writer.record_epochs(number, history)

    def record_rungs(self, number: int, rungs: Sequence[RungScores]) -> list[RungScores]:
        """Write what the study lacks of an open trial's rungs; returns it."""
        return self._writer.record_rungs(number, rungs)

    def record_steps(self, number: int, steps: int) -> None:
        """Note how many optimizer steps of an open trial are done."""
        self._steps[number] = max(steps, self._steps.get(number, 0))

    def run_again(self, number: int, counts: bool = True) -> float | None:
        """Put an open trial back whose worker died.

        Only deaths without progress count: a trial that got further than ever before it died starts counting anew.

        Args:
            number: The trial.
            counts: Whether the trial itself may be the cause; of a node that went it is not.

        Returns:
            The pause before it is run again, seconds; None if it died too often, and stays open.
        """
        deaths, died_at = self._writer.deaths(number)
        steps = self._steps.get(number, 0)
        if counts:
            deaths = 1 if steps > died_at else deaths + 1
            died_at = max(steps, died_at)
            if deaths > self.spec.max_retries:
                return None
        self._writer.put_back(number, deaths=(deaths, died_at))
        return self._queue.put_back(number, max(deaths, 1))

    def run_with_more_memory(self, number: int, largest_multiplier: int) -> int | None:
        """Put an open trial back that ran out of memory.

        Args:
            number: The trial.
            largest_multiplier: By how much the resources of a trial can grow on any node.

        Returns:
            Its new memory multiplier; None if it had the largest one, and stays open.
        """
        multiplier = 2 * self._writer.opened(number).memory_multiplier
        if multiplier > largest_multiplier:
            return None
        self._writer.put_back(number, memory_multiplier=multiplier)
        self._queue.put_last(number)
        return multiplier

    def finish(self, number: int, state: TrialState, failure: str | None = None) -> TrialRecord:
        """Close an open trial in the study, then remove what does not have to stay on disk."""
        record = self._writer.finish(number, state, failure)
        self._queue.close(number)
        self._finalist.clear()
        self.budget.trial_ended(record)
        self._models.trial_finished(record)
        return record

    def keep_only_what_was_asked_for(self) -> None:
        """Remove the winner's own copy of its model, now that best/ has it, and those of the finalists' fresh runs."""
        self._models.keep_only_what_was_asked_for(self.records())
