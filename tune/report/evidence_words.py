"""What the fresh runs of the finalists have shown, in sentences for screen, page and card."""

from __future__ import annotations

from tune.report.results import SweepReport

LEAST_TOLD = 0.05  # points by which a score was too good


def evidence_lines(report: SweepReport) -> list[str]:
    """What the fresh runs of the finalists have shown, a line each."""
    lines = []
    if (recipe := report.recipe) is not None:
        ends = "" if recipe.interval is None else f" ({recipe.interval[0]:.4f} to {recipe.interval[1]:.4f})"
        spread = "" if recipe.sd_seed is None else f", {recipe.sd_seed:.4f} from seed to seed"
        seeds = f"{recipe.seeds} fresh seed{'' if recipe.seeds == 1 else 's'}"
        lines.append(f"trained again: {recipe.metric} {recipe.mean:.4f}{ends} on {recipe.on}, of {seeds}{spread}")
    if (optimism := report.optimism) is not None and optimism.seed is not None and optimism.total >= LEAST_TOLD:
        lines.append(f"the score that the search found it with was too good by about {optimism.total:.1f} points")
    if (default := report.default) is not None and not default.is_winner:
        better = default.probability_better
        sure = "" if better is None else f"; it is better with probability {better:.2f}"
        lines.append(
            f"over the untuned default (trial {default.trial}): {default.difference:+.4f} on {default.on}{sure}"
        )
    if default is not None and default.is_winner:
        lines.append("the winner is the untuned default: the search has found nothing better")
    if report.cheapest is not None:
        lines.append(f"as good: trial {report.cheapest.trial}, {report.cheapest.words}")
    return lines
