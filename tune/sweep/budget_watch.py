"""Watches a sweep's budgets while its trials run: asks `tune.sweep.budget`, and remembers in the study what it said."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from optuna import Study

from trainable.epoch_scores import EpochScores, RungScores
from tune.report.budget_words import budget_sentence
from tune.report.text import clock
from tune.run_dir.attributes import SEARCH_ENDED
from tune.run_dir.records import TrialRecord, of_the_search
from tune.run_dir.study import read_records
from tune.spec.budgets import settings_of, still_holds
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.budget import BudgetEnds, Noise, Pace, ends, fits, goal_reached, lacks_room_s, must_stop, time_is_up
from tune.sweep.confirmation import Finalist
from tune.sweep.meter import Meter

BETWEEN_S = 1.0  # what a trial takes beside its training, until that was measured
SURE_PERCENT = 25.0  # of its schedule, after which a trial tells how long a whole one takes
NEWEST_FOR_S = 1.0  # at most so often are all records read while nothing ends


def percent_of(record: TrialRecord) -> float:
    """How much of its schedule a trial has run, as far as it was scored."""
    return record.scored[-1].schedule_percent if record.scored else 0.0


def noted_end(study: Study, spec: SweepSpec) -> str | None:
    """The budget that has ended the search, as the study notes it; None where none did, or it was changed since."""
    noted = study.user_attrs.get(SEARCH_ENDED, {})
    by: str | None = noted.get("by")
    return by if still_holds(by, noted.get("settings", {}), spec) else None


class BudgetWatch:
    """Says when the search is over and which trials have to end. Without budgets it says nothing, at no cost."""

    def __init__(self, spec: SweepSpec, study: Study, meter: Meter, test_share: float = 0.0) -> None:
        """Watch the budgets of a sweep.

        Args:
            spec: The sweep's.
            study: Its study.
            meter: Counts what it uses.
            test_share: Rows of the test split for each row of the validation split.
        """
        self.slots: Callable[[], int] = lambda: 1
        """How many trials run side by side now."""
        self.noise: Noise = lambda record: 0.0
        """The standard error of a trial's objective on the validation rows."""
        self.start_s = 0.0
        """How long this driver took to start, seconds."""
        self._spec, self._study, self._meter, self._test_share = spec, study, meter, test_share
        self._settings = settings_of(spec)
        self.ended_by = noted_end(study, spec)
        """The budget that has ended the search, one of BUDGETS."""
        self._began: dict[int, float] = {}  # by trial, monotonic seconds
        self._between_s: list[float] = []  # what trials took beside training and evaluation
        self._workers_are_warm = False
        self._records: tuple[TrialRecord, ...] = ()
        self._read_at: float | None = None
        self._has_news = True  # for the goals, since they were looked at
        self._told: list[str] = []  # what the user is to be told
        self._room_is_known = False

    @property
    def _pace(self) -> Pace:
        between_s = median(self._between_s) if self._between_s else BETWEEN_S
        return Pace(max(1, self.slots()), between_s, self._test_share, self.start_s)

    def trial_began(self, number: int) -> None:
        """A trial was handed out."""
        if self._workers_are_warm:  # else it waits for its worker to load the model, as no later trial does
            self._began[number] = time.monotonic()

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is finished."""
        self._read_at = None
        self._has_news = True
        began = self._began.pop(record.number, None)
        self._workers_are_warm = True
        if began is not None and record.state != "FAIL":
            self._between_s.append(max(0.0, time.monotonic() - began - record.seconds))

    def search_ends(self, for_another: bool = False) -> str | None:
        """The budget that ends the search now and was not told of before; None where the search goes on.

        Args:
            for_another: Whether the search goes on only if there is time for a whole trial that is yet to begin.
        """
        if not self._settings or self.ended_by is not None:
            return None
        records = self._newest()
        ended_by = goal_reached(records, self._spec, self.noise) if self._has_news else None
        self._has_news = False
        ended_by = ended_by or time_is_up(records, self._spec, self._meter.usage, self._pace, for_another)
        if ended_by is not None:
            self.ended_by = ended_by
            self._study.set_user_attr(SEARCH_ENDED, {"by": ended_by, "settings": self._settings})
            why = budget_sentence(ended_by, self._settings, len(of_the_search(records)))
            runs = any(record.state == "RUNNING" for record in records)
            self._told.append(f"{why}; what is begun runs on as long as it can end in time" if runs else why)
        return ended_by

    def news(self) -> list[str]:
        """What the user is to be told of the budgets since it was asked for: that the search ends, or lacks room."""
        self._look_for_room()
        told, self._told = self._told, []
        return told

    def _look_for_room(self) -> None:
        """Once it is known how long a trial takes, say if the budget is too small for one and its confirmation."""
        if self._room_is_known or not self._settings:
            return
        records = self._newest()
        lacks_s = lacks_room_s(records, self._spec, self._meter.usage, self._pace)
        self._room_is_known = any(percent_of(record) >= SURE_PERCENT for record in records)
        if self._room_is_known and lacks_s > 0:
            self._told.append(
                f"note: the budget is too small by about {clock(lacks_s)} for a whole trial with its confirmation and "
                "score: there will be fewer fresh runs, or no result at all"
            )

    def must_stop(self, number: int, scored: EpochScores | RungScores | None) -> bool:
        """Whether a running trial is to be ended, for which nothing but time is missing.

        Args:
            number: The trial.
            scored: What it has just reported; None where that was no score.
        """
        found = self._ends()
        if found is None:
            return False
        record = next((record for record in self._newest() if record.number == number), None)
        if record is None or (self.ended_by is None and record.confirms is None):
            return False
        seconds, percent = 0.0, 0.0
        if scored is not None:  # the study may not have it yet
            earlier = [epoch for epoch in record.epochs if epoch.schedule_percent < scored.schedule_percent]
            seconds = sum(epoch.seconds for epoch in earlier) + scored.seconds
            percent = scored.schedule_percent
        is_fresh = record.confirms is not None
        return must_stop(seconds, percent, is_fresh, self._newest(), found, self._meter.usage)

    def no_time_for(self, is_fresh: bool) -> bool:
        """Whether a trial that waits to be run again is not to be run any more.

        Args:
            is_fresh: Whether it is a fresh run of a finalist.
        """
        found = self._ends()
        if found is None or (self.ended_by is None and not is_fresh):
            return False
        return self._meter.usage.wall_s > (found.training_s if is_fresh else found.search_s)

    def fits(self, finalist: Finalist) -> bool:
        """Whether there is time for a fresh run of a finalist."""
        return fits(finalist, self._ends(), self._meter.usage, self._pace)

    def left_s(self) -> float | None:
        """How long the sweep may still train; None where no budget says so."""
        found = self._ends()
        return None if found is None else max(0.0, found.training_s - self._meter.usage.wall_s)

    def _ends(self) -> BudgetEnds | None:
        if not self._settings:
            return None
        return ends(self._newest(), self._spec, self._meter.usage, self._pace)

    def _newest(self) -> tuple[TrialRecord, ...]:
        """Every trial, as the study had it a moment ago."""
        if self._read_at is None or time.monotonic() - self._read_at > NEWEST_FOR_S:
            self._records = read_records(self._study, self._spec.metric, self._spec.mode)
            self._read_at = time.monotonic()
        return self._records
