"""Which trial wins. Scores on validation decide alone."""

from __future__ import annotations

from collections.abc import Iterable

from tune.run_dir.records import TrialRecord, of_the_search


def rank(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """The trials of the search that ran their whole schedule, best first.

    The objective at a trial's best epoch decides; between equals the lower validation loss of that epoch, then the
    smaller number. A worker compares its trial with the leader in the same way before it writes a model.

    Args:
        records: Trials in any state.
        metric: The objective's name.
        mode: "max" or "min".
    """
    merits = [
        (record.best.merit(metric, mode), record)
        for record in of_the_search([*records])
        if record.state == "COMPLETE" and record.best
    ]
    merits.sort(key=lambda pair: (-pair[0][0], -pair[0][1], pair[1].number))
    return [record for _, record in merits]
