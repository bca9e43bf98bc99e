"""The configuration of each trial: the user's points, the fixed values of the space, and what the sampler proposes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import Trial

from trainable.config import TrialConfig
from tune.run_dir.attributes import CONFIG, CONFIRMS, POINT
from tune.samplers import SAMPLERS
from tune.spec.space import Choice, Fixed, Float, Int, Space, Value, all_configurations, fixed_values
from tune.spec.sweep_spec import SweepSpec, trials_of_all_configurations
from tune.spec.untuned import untuned_values
from tune.sweep.ranked_study import RankedStudy

FIXED = "fixed_params"  # Optuna's own name of the values that a trial gets whatever the sampler says


def derived_seed(seed: int, number: int, what: str) -> int:
    """A 31-bit seed for one purpose of one trial.

    Args:
        seed: The sweep's.
        number: The trial.
        what: The purpose, for example "training".
    """
    digest = hashlib.sha256(f"{seed}/{number}/{what}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


class Proposals:
    """Proposes the configurations of new trials.

    Each hyperparameter of each trial has a sampler of its own, seeded by both. A driver that is started again therefore
    does not propose the same configurations again, and random search gives trial N the same one whatever happened
    before.
    """

    def __init__(self, spec: SweepSpec, study: Study, point_waits: bool) -> None:
        """Propose for a study.

        Args:
            spec: The sweep.
            study: The study; Optuna notes in it each trial that is begun, and each hyperparameter that is proposed.
            point_waits: Whether a dead driver has enqueued the next point in the study but did not begin its trial.
        """
        self._spec = spec
        self._study = study
        self._ranked = RankedStudy(study, spec.metric, spec.mode)
        self._point_waits = point_waits
        self._searched = IntersectionSearchSpace(include_pruned=True)
        # Where not all configurations will be tried, the sampler says which are worth it.
        tries_all = spec.repeat_configurations or trials_of_all_configurations(spec) == spec.num_trials
        self._grid = all_configurations(spec.space) if tries_all else None
        self._points: dict[int, Mapping[str, Value]] = {}  # by trial, of those that this driver begins
        self._unused = _unused_points(spec, study)

    def begin(self, number: int) -> Trial:
        """Begin the study's next trial, which gets this number."""
        if not self._point_waits:
            point = self._unused.pop(0) if self._unused else {}
            searched = distributions(self._spec.space, point)
            given = {**self._least_tried(point), **point}
            fixed = {name: value for name, value in given.items() if name in searched}
            if point or fixed:
                self._study.enqueue_trial(fixed, user_attrs={POINT: point} if point else None)
        trial = self._study.ask()
        point = self._point(trial)
        if self._point_waits and POINT not in trial.user_attrs and point in self._unused:
            self._unused.remove(point)
        self._point_waits = False
        return trial

    def _least_tried(self, point: Mapping[str, Value]) -> Mapping[str, Value]:
        """Of a space with few configurations, one that fits the point and was tried least, at random among several."""
        fitting = [each for each in self._grid or () if point.items() <= each.items()]
        if not fitting:
            return {}
        searched = [t for t in self._study.get_trials(deepcopy=False) if CONFIRMS not in t.user_attrs]
        tried = [trial.user_attrs.get(CONFIG, {}) for trial in searched]
        counts = [sum(each.items() <= config.items() for config in tried) for each in fitting]
        least = [each for each, count in zip(fitting, counts, strict=True) if count == min(counts)]
        return random.Random(derived_seed(self._spec.seed, len(tried), "configuration")).choice(least)

    def _points_by_position(self, trial: Trial) -> Mapping[str, Value]:
        """The point of a trial that an earlier version of this program began: trial N had point N."""
        if trial.number >= len(self._spec.points):
            return {}
        point = self._spec.points[trial.number].named()
        fixed = self._study.get_trials(deepcopy=False)[trial.number].system_attrs.get(FIXED)
        return point if fixed and fixed.items() <= point.items() else {}

    def propose(self, trial: Trial) -> TrialConfig:
        """The configuration of a trial. What a driver that died midway has proposed stays."""
        values = {**fixed_values(self._spec.space), **self._suggest(trial), **self._point(trial)}
        return TrialConfig.from_values(values)

    def _suggest(self, trial: Trial) -> dict[str, Any]:
        searched = distributions(self._spec.space, self._point(trial))
        trial = self._with_all_drawn(trial, searched)
        suggested: dict[str, Any] = {}
        for name, domain in searched.items():
            match domain:
                case FloatDistribution():
                    suggested[name] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
                case IntDistribution():
                    suggested[name] = trial.suggest_int(name, domain.low, domain.high, log=domain.log)
                case CategoricalDistribution():
                    suggested[name] = trial.suggest_categorical(name, domain.choices)
        return suggested

    def _with_all_drawn(self, trial: Trial, searched: Mapping[str, BaseDistribution]) -> Trial:
        """Draw every hyperparameter that is still to be drawn, and note them in one write, as values that are fixed.

        A driver that dies here leaves all of a trial's values or none. Optuna itself notes one after another, and the
        rest would be drawn later, when the study knows more.
        """
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        fixed = dict(frozen.system_attrs.get(FIXED, {}))
        drawn: dict[str, Any] = {}
        for name, domain in searched.items():
            if name in frozen.params or name in fixed:
                continue
            if domain.single():
                continue
            seed = derived_seed(self._spec.seed, trial.number, f"sampler {name}")
            sampler = SAMPLERS[self._spec.sampler].make(seed, self._searched)
            drawn[name] = sampler.sample_independent(self._ranked, frozen, name, domain)
        if drawn:
            storage = self._study._storage
            storage.set_trial_system_attr(trial._trial_id, FIXED, {**fixed, **drawn})
        return Trial(self._study, trial._trial_id)

    def _point(self, trial: Trial) -> Mapping[str, Value]:
        if trial.number not in self._points:  # a dead driver has begun it
            self._points[trial.number] = trial.user_attrs.get(POINT) or self._points_by_position(trial)
        return self._points[trial.number]


def _unused_points(spec: SweepSpec, study: Study) -> list[Mapping[str, Value]]:
    """The points that no trial has begun yet, in their order: the user's, or the untuned default where there are none.

    Points may have been added since the sweep began.
    """
    points: list[Mapping[str, Value]] = [point.named() for point in spec.points] or [untuned_values(spec)]
    for trial in study.get_trials(deepcopy=False):
        point = trial.user_attrs.get(POINT)
        if point is None and trial.number < len(spec.points):  # an earlier version began it: trial N had point N
            named, config = spec.points[trial.number].named(), trial.user_attrs.get(CONFIG)
            point = named if config is not None and named.items() <= config.items() else None
        if point in points:
            points.remove(point)
    return points


def distributions(space: Space, point: Mapping[str, Value]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of the hyperparameters that are searched.

    Optuna allows one set of choices per hyperparameter, and no logarithm of 0. A point may give a value that is none of
    the choices, or that a logarithmic range can't hold. The hyperparameter is then left out, and its value stands in
    the trial's configuration alone.

    Args:
        space: The search space.
        point: Values that the user has given for this trial; ranges are widened to hold them.
    """
    result: dict[str, BaseDistribution] = {}
    for name, domain in space.items():
        given = point.get(name)
        match domain:
            case Choice(values) if name not in point or given in values:
                result[name] = CategoricalDistribution(values)
            case Choice() | Fixed():
                continue
            case Float(low, high, log) | Int(low, high, log):
                if name in point and not isinstance(given, (int, float)):
                    continue
                if isinstance(given, (int, float)):
                    low, high = min(low, given), max(high, given)
                if log and low <= 0:
                    continue
                if isinstance(domain, Int):
                    result[name] = IntDistribution(int(low), int(high), log=log)
                else:
                    result[name] = FloatDistribution(low, high, log=log)
    return result
