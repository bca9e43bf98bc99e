"""The study as a sampler sees it: its trials are in the order of the winner's rule, and no two of them are equal.

Optuna orders trials that ran their whole schedule by their objective alone, and trials that were stopped early by their
last epoch. On small data many trials share a score, and an epoch is another part of every schedule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Iterable, Iterator, Mapping

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from tune.run_dir.attributes import CONFIRMS
from tune.run_dir.study import record_of

RUNG_PERCENT = 12.5  # stopped trials within the same eighth of their schedules have come equally far

Place = tuple[int, float]  # eighths of the schedule, and the score there


class RankedStudy(Study):
    """Shows a study's trials with scores that differ where the validation loss does.

    Of trials with equal scores, the one of lower loss is shown a score that is better by the smallest step that a float
    can take; of equals in that too, the one of the smaller number. A trial that was stopped early is shown with one
    intermediate value, its last score, whose step says how far it came in its own schedule.
    """

    def __init__(self, study: Study, metric: str, mode: str) -> None:
        """Look at a study.

        Args:
            study: The sweep's.
            metric: The objective's name.
            mode: "max" or "min".
        """
        super().__init__(study.study_name, study._storage)
        self._metric, self._mode = metric, mode
        self._shown: dict[int, FrozenTrial] = {}  # by number, trials that ended well

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        every = self._storage.get_all_trials(self._study_id, deepcopy=False)
        trials = [trial for trial in every if CONFIRMS not in trial.user_attrs]  # what was proposed, once
        ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(ended) != len(self._shown):  # what ended well stays as it is
            self._shown = self._ranked(ended)
        found = [self._shown.get(t.number, t) for t in trials if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _ranked(self, ended: Iterable[FrozenTrial]) -> dict[int, FrozenTrial]:
        shown = {trial.number: copy.copy(trial) for trial in ended}
        # By how far they came in their schedules, and their scores there: the losses and numbers of equal trials.
        done: dict[Place, list[tuple[float, int]]] = {}
        stopped: dict[Place, list[tuple[float, int]]] = {}
        for record in (record_of(trial, self._metric, self._mode) for trial in shown.values()):
            ran_to_its_end = record.state == "COMPLETE"
            scored = record.best if ran_to_its_end else next(iter(record.scored[-1:]), None)
            if scored is None:
                continue
            equals = done if ran_to_its_end else stopped
            eighths = 0 if ran_to_its_end else int(scored.schedule_percent // RUNG_PERCENT)
            place = eighths, scored.scores[self._metric]
            equals.setdefault(place, []).append((scored.scores["loss"], record.number))
        for number, (_, score) in self._told_apart(done):
            shown[number].value = score
        for number, (eighths, score) in self._told_apart(stopped):
            shown[number].intermediate_values = {eighths: score}
        return shown

    def _told_apart(self, equals: Mapping[Place, list[tuple[float, int]]]) -> Iterator[tuple[int, Place]]:
        """The number and the place of each trial, where equals follow one another from the worst to the best."""
        better = math.inf if self._mode == "max" else -math.inf
        for (eighths, score), trials in equals.items():
            for _, number in sorted(trials, reverse=True):
                yield number, (eighths, score)
                score = math.nextafter(score, better)
