"""What the numbers of a finished sweep call for: few sentences, each with its number and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tune.prepare.inputs import Inputs
from tune.run_dir.records import TrialRecord
from tune.spec.space import Float, Int, Space

ENOUGH_TRIALS = 3  # of fewer, nothing follows
CUT_PERCENT = 5.0  # of the training rows, from which on a larger --max-length is worth a try
EDGE = 0.05  # of a range, which counts as its edge
THIRD = 1 / 3


def advice(
    inputs: Inputs, records: Sequence[TrialRecord], winner: TrialRecord, truncated: int, never_predicted: Sequence[str]
) -> list[str]:
    """Say what to try next.

    Args:
        inputs: The sweep's.
        records: Every trial.
        winner: The best of them.
        truncated: How many training rows lost tokens.
        never_predicted: Classes that the winner gives no row of the test split, although some rows have them.
    """
    done = [record for record in records if record.state == "COMPLETE"]
    if len(never_predicted) >= len(inputs.data.label_names) - 1:
        never_predicted = []  # it answers one class alone, which the report warns of
    return [
        *_longer_schedules(inputs.spec.space, done),
        *_edges(inputs.spec.space, done, winner),
        *_longer_rows(inputs, truncated),
        *(
            f"the winner never answers class {name} on the test split, where rows have it: more rows of it would help"
            for name in never_predicted[:3]
        ),
    ]


def _longer_schedules(space: Space, done: Sequence[TrialRecord]) -> list[str]:
    telling = [record for record in done if record.config.epochs > 1]  # the last of one epoch is always the best
    if len(telling) < ENOUGH_TRIALS or any(record.best_epoch != record.config.epochs for record in telling):
        return []
    most = max(record.config.epochs for record in telling)
    return [
        f"each of the {len(telling)} trials of two epochs or more that ran to their end was best in its last epoch: "
        f"widen epochs, as in --space epochs={most}..{2 * most}"
    ]


def _edges(space: Space, done: Sequence[TrialRecord], winner: TrialRecord) -> list[str]:
    """The ranges at whose end the winner lies."""
    if len(done) < ENOUGH_TRIALS:
        return []
    found = []
    for name, domain in space.items():
        value = winner.config.named().get(name)
        if name == "epochs" or not isinstance(domain, Float | Int) or not isinstance(value, int | float):
            continue
        low, high, at = ((math.log(n) if domain.log and n > 0 else float(n)) for n in (domain.low, domain.high, value))
        share = (at - low) / (high - low)
        if min(share, 1 - share) <= EDGE:
            end = "lower" if share < 0.5 else "upper"
            found.append(f"the winner's {name} {value:.3g} lies at the {end} end of {domain}: widen the range there")
    return found


def _longer_rows(inputs: Inputs, truncated: int) -> list[str]:
    percent = 100 * truncated / max(1, len(inputs.data.splits["train"]))
    if percent < CUT_PERCENT:
        return []
    longer = min(2 * inputs.max_length, inputs.longest_row or 2 * inputs.max_length)
    cut = f"{percent:.0f} % of the training rows were cut to {inputs.max_length} tokens"
    return (
        [f"{cut}: try --max-length {longer}"] if longer > inputs.max_length else [f"{cut}, the most that the model has"]
    )


def validation_note(train_tokens: int, validation_tokens: int, validation_rows: int) -> str:
    """Say that validation takes more than a third of each epoch; empty where it does not.

    A token costs three times as much in training as in validation: forward, and twice that backward.

    Args:
        train_tokens: Tokens of the training split.
        validation_tokens: Tokens of the validation split.
        validation_rows: Rows of the validation split.
    """
    share = validation_tokens / max(1, validation_tokens + 3 * train_tokens)
    if share <= THIRD:
        return ""
    rows = max(2, int(validation_rows * (3 * train_tokens / 4) / validation_tokens))  # a fifth of the epoch
    return (
        f"note: validation takes about {100 * share:.0f} % of each epoch's time ({validation_rows} rows): "
        f"--validation-rows {rows} makes it a fifth"
    )
