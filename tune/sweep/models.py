"""Which trials lead, and which models stay on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainable.errors import UserError
from trainable.storage.folders import write_folder, write_text
from tune.run_dir.integrity import leaders_model_is_gone
from tune.run_dir.layout import RunDir
from tune.run_dir.ranking import rank
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec


class ModelKeeper:
    """Keeps the models of the best `keep_top` trials, and removes those of all others.

    It also tells the workers, through incumbent.json, which score a trial must beat for its model to be written at all.
    """

    def __init__(self, spec: SweepSpec, run_dir: RunDir, records: Sequence[TrialRecord]) -> None:
        """Bring the models on disk in line with the study.

        Args:
            spec: The sweep.
            run_dir: Its run directory.
            records: Every trial of the study.

        Raises:
            UserError: The best trial's model is gone or damaged.
        """
        self._spec = spec
        self._run_dir = run_dir
        self._leaders = rank(records, spec.metric, spec.mode)[: spec.keep_top]
        again = {record.confirms for record in records}
        self.gone = [
            each.number
            for each in self._leaders[1:]
            if each.number not in again and not run_dir.storage.folders(run_dir.model(each.number))
        ]
        """Leaders whose models were removed while fewer were kept."""
        if not any(record.confirms is not None for record in records):  # else a finalist's run is handed over
            self._restore_leaders_model()
        for record in records:
            if record.state != "RUNNING" and run_dir.storage.folders(run_dir.trial(record.number)):
                self._remove(record, with_model=record not in self._leaders and record.confirms is None)
        self._write_incumbent()

    @property
    def leader(self) -> TrialRecord | None:
        """The best trial so far; None as long as no trial has finished its schedule."""
        return self._leaders[0] if self._leaders else None

    @property
    def leaders(self) -> list[TrialRecord]:
        """The best `keep_top` trials so far, best first."""
        return list(self._leaders)

    def trial_finished(self, record: TrialRecord) -> None:
        """Rank a trial that has just finished, and remove what does not have to stay."""
        if record.confirms is not None:  # any of a finalist's runs may be the one that is handed over
            self._remove(record, with_model=record.state != "COMPLETE")
            return
        candidates = [*(leader for leader in self._leaders if leader.number != record.number), record]
        self._leaders = rank(candidates, self._spec.metric, self._spec.mode)[: self._spec.keep_top]
        if record in self._leaders:
            self._remove(record, with_model=False)
            self._write_incumbent()
        for loser in candidates:
            if loser not in self._leaders:
                self._remove(loser)

    def keep_only_what_was_asked_for(self, records: Sequence[TrialRecord]) -> None:
        """Remove the models of the winner and of the finalists' runs, now that best/ has the one that is handed over.

        Those of the next `keep_top` - 1 trials of the search stay.
        """
        handed_over = next((record for record in records if record.number == self._run_dir.best_trial()), None)
        if handed_over is None:
            return
        found_by = handed_over.number if handed_over.confirms is None else handed_over.confirms
        others = [leader.number for leader in self._leaders if leader.number != found_by]
        kept = others[: self._spec.keep_top - 1]
        for record in records:
            if record.confirms is not None or (record in self._leaders and record.number not in kept):
                self._remove(record)

    def _restore_leaders_model(self) -> None:
        """Copy the leader's model back from best/ if the trial's own folder has lost it."""
        if self.leader is None:
            return
        found = self._run_dir.model_of(self.leader.number, self.leader.model_sha256)
        if found is None:
            raise UserError([leaders_model_is_gone(self._run_dir, self.leader.number)])
        if found == self._run_dir.best:
            write_folder(self._run_dir.model(self.leader.number), self._run_dir.copy_best_model)

    def _write_incumbent(self) -> None:
        """Tell the running trials which score they have to beat."""
        if len(self._leaders) < self._spec.keep_top:  # every trial may win; an old file may be another study's
            self._run_dir.storage.remove(self._run_dir.incumbent_file)
            return
        last = self._leaders[-1]
        if last.best is not None:
            reached = last.best.merit(self._spec.metric, self._spec.mode)
            facts = {"trial": last.number, "value": last.value, "merit": reached}
            write_text(self._run_dir.incumbent_file, json.dumps(facts) + "\n")
            self._run_dir.storage.publish(self._run_dir.incumbent_file)

    def _remove(self, record: TrialRecord, with_model: bool = True) -> None:
        """Remove a finished trial's states, which nobody needs any more, and its model if it can't win any more."""
        if with_model:
            self._run_dir.storage.remove(self._run_dir.model(record.number))
            self._run_dir.storage.remove(self._run_dir.soup(record.number))
        self._run_dir.storage.remove(self._run_dir.state(record.number))
