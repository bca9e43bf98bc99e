"""Which trial wins. Pure: records in, order out; validation data alone decides."""

from __future__ import annotations

from collections.abc import Iterable

from trainable.metrics import merit
from tune.run_dir.records import TrialRecord


def rank(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Trials that ran their whole schedule, best first: by the objective of their best epoch, then its loss, then age.

    The same order decides in a worker whether a trial can still win.
    """

    def order(record: TrialRecord) -> tuple[float, float, int]:
        objective, loss = merit(record.best or {}, metric, mode)
        return -objective, -loss, record.number

    return sorted((record for record in records if record.state == "COMPLETE" and record.best), key=order)
