"""The charts of a sweep, built from its report: the page shows them, and so can a notebook.

Plotly is imported by what builds a chart, not before: it takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tune.report.charts import answers, choice, curves, space
from tune.report.results import SweepReport

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CHARTS: dict[str, Callable[[SweepReport], Figure | str]] = {
    "learning_curves": curves.learning_curves,
    "loss_curves": curves.loss_curves,
    "history": curves.history,
    "parallel_coordinates": space.parallel_coordinates,
    "importance": space.importance,
    "rate_and_batch": space.rate_and_batch,
    "finalists": choice.finalists,
    "ties": choice.ties,
    "timeline": choice.timeline,
    "confusion": answers.confusion,
    "classes": answers.classes,
    "reliability": answers.reliability,
}
"""What makes each chart, in the order of the page. Where there is nothing to show, it says why instead."""


def figures(report: SweepReport) -> dict[str, Figure]:
    """Draw the charts of a sweep; one that has nothing to show is left out."""
    drawn = {name: draw(report) for name, draw in CHARTS.items()}
    return {name: figure for name, figure in drawn.items() if not isinstance(figure, str)}
