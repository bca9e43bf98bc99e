"""The configurations that a sweep will try, as far as they are known before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.config import TrialConfig
from tune.run_dir.attributes import CONFIG
from tune.spec.space import Choice, Domain, Fixed, Float, Int, fixed_values
from tune.spec.sweep_spec import SweepSpec
from tune.spec.untuned import untuned_values

MOST_DRAWN = 300  # configurations; a larger sweep is taken to go on with the same ones
MOST_MEASURED = 5  # batch sizes of a range


def planned_configurations(spec: SweepSpec, number: int) -> list[TrialConfig]:
    """The configurations of the sweep's first trials, by their numbers.

    Those of the points, of the untuned default and of random search are exactly what the sweep will try, and so are
    those of a sampler that learns until it has learnt something. Its later ones are drawn at random here.

    Args:
        spec: The sweep's.
        number: How many.
    """
    import optuna

    from tune.sweep.proposals import Proposals

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    proposals = Proposals(spec.model_copy(update={"sampler": "random"}), study, point_waits=False)
    drawn: list[TrialConfig] = []
    for i in range(min(number, MOST_DRAWN)):
        trial = proposals.begin(i)
        drawn.append(proposals.propose(trial))
        trial.set_user_attr(CONFIG, drawn[-1].named())
    return [drawn[i % len(drawn)] for i in range(number)]


def measured_configurations(spec: SweepSpec) -> dict[int, TrialConfig]:
    """By batch size: the configuration whose steps are timed for it. A few stand for a long range of batch sizes."""
    values = {**fixed_values(spec.space), **untuned_values(spec)}
    sizes = {int(point.batch_size) for point in spec.points} | set(_sizes(spec.space.get("batch_size")))
    return {size: TrialConfig.from_values({**values, "batch_size": size}) for size in sorted(sizes)}


def _sizes(domain: Domain | None) -> Sequence[int]:
    match domain:
        case None:
            return [TrialConfig().batch_size]
        case Fixed(value):
            return [int(value or 0)]
        case Choice(values):
            return [int(value or 0) for value in values]
        case Int(low, high) | Float(low, high):
            low, high = int(low), int(high)
            many = min(MOST_MEASURED, high - low + 1)
            return sorted({round(low * (high / low) ** (i / max(1, many - 1))) for i in range(many)})
