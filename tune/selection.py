"""Which trial wins. Pure: records in, order out; validation data alone decides."""

from __future__ import annotations

from collections.abc import Iterable

from tune.records import TrialRecord


def rank(records: Iterable[TrialRecord], mode: str) -> list[TrialRecord]:
    """Trials that ran their whole schedule, best first; of equals the one with the smaller number."""
    complete = [record for record in records if record.state == "COMPLETE" and record.value is not None]
    sign = -1.0 if mode == "max" else 1.0
    return sorted(complete, key=lambda record: (sign * (record.value or 0.0), record.number))
