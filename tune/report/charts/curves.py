"""Learning curves, and what the search found as it went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune.report.charts.style import (
    DONE,
    FAILED,
    FRESH,
    INK_OF_LINES,
    MANY,
    MARKERS,
    WINNER,
    kind_of,
    layout,
    metric_title,
    room_for,
    score_of,
    told,
)
from tune.report.details import EpochRow, RungRow
from tune.report.results import SweepReport, TrialRow

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_CURVES = 100  # of more nobody can follow one
MOST_POINTS = 1500
NO_EPOCHS = "The report holds no scores of single epochs: an earlier version wrote it, or no trial was scored."


Point = tuple[float | None, float | None, str | None]  # x, y, the trial in words


def learning_curves(report: SweepReport) -> Figure | str:
    """The objective on validation after each epoch, a line for each trial."""
    title = metric_title(report)
    return _curves(report, f"Learning curves: {title} on validation", title, [(report.metric, "solid")])


def loss_curves(report: SweepReport) -> Figure | str:
    """The loss on validation and in training after each epoch: where they part, the model learns rows by heart."""
    title = "Loss on validation (lines) and in training (dots)"
    return _curves(report, title, "loss, nats", [("loss", "solid"), ("", "dot")])


def curves_drawn(report: SweepReport) -> list[TrialRow]:
    """The trials whose curves are drawn: all, or of many the best half, and others at even distances in their order."""
    rows = [row for row in report.trials if row.epochs or row.rungs]
    most = min(MOST_CURVES, MOST_POINTS * len(rows) // max(1, sum(len(row.epochs) + len(row.rungs) for row in rows)))
    if len(rows) <= most:
        return rows
    sign = 1 if report.mode == "max" else -1
    ranked = sorted(rows, key=lambda row: (row.number != report.best.trial, -sign * (row.value or 0.0), row.number))
    best, others = ranked[: most // 2], sorted(ranked[most // 2 :], key=lambda row: row.number)
    places = most - len(best)
    chosen = best + [others[i * len(others) // places] for i in range(places)]
    return sorted(chosen, key=lambda row: row.number)


def _curves(report: SweepReport, title: str, y: str, lines: Sequence[tuple[str, str]]) -> Figure | str:
    """A line for each trial and each score, "" being the training loss; the trials of a kind are one trace."""
    import plotly.graph_objects as go

    rows = curves_drawn(report)
    if not rows:
        return NO_EPOCHS
    figure = go.Figure(layout=layout(title, "epochs", y))
    for kind, (colour, symbol) in MARKERS.items():
        of_kind = [row for row in rows if kind_of(row, report) == kind]
        for name, dash in lines if of_kind else ():
            points = [
                point
                for row in of_kind
                for point in [*_points(row, name, report), (None, None, None)]  # an empty point ends the trial's line
            ]
            figure.add_scatter(
                x=[point[0] for point in points],
                y=[point[1] for point in points],
                hovertext=[point[2] for point in points],
                mode="lines+markers",
                hovertemplate="%{hovertext}<br>after %{x} epochs: "
                f"{name or 'training loss'} %{{y:.4f}}<extra></extra>",
                name=kind,
                legendgroup=kind,
                showlegend=name == lines[0][0],
                line={"color": colour, "width": 3 if kind == WINNER else 1.5, "dash": dash},
                marker={"color": colour, "symbol": symbol, "size": 9 if kind in (WINNER, FAILED) else 6},
                opacity=1.0 if kind in (WINNER, FRESH) else 0.75,
            )
    most = max((row.epochs[-1].epoch for row in rows if row.epochs), default=1)
    drawn = [point[1] for row in rows for name, _ in lines for point in _points(row, name, report)]
    figure.update_xaxes(dtick=1 if most <= 12 else None, range=[0, 1.03 * most])
    figure.update_yaxes(range=room_for(drawn))
    return figure


def _points(row: TrialRow, name: str, report: SweepReport) -> list[Point]:
    """Where a trial's line goes: the epochs that were done, the score, and what the pointer is told."""
    at: list[tuple[float, EpochRow | RungRow]] = [(float(epoch.epoch), epoch) for epoch in row.epochs]
    at += [(rung.schedule_percent / 100 * row.config.epochs, rung) for rung in row.rungs]
    points: list[Point] = []
    text = told(row, report)
    for epochs, scored in sorted(at, key=lambda each: each[0]):
        score = scored.scores.get(name) if name else scored.train_loss
        if score is not None:
            points.append((round(epochs, 3), score, text))
    return points


def history(report: SweepReport) -> Figure | str:
    """The objective of each trial in their order, and the best until then."""
    import plotly.graph_objects as go

    rows = [row for row in report.searched if score_of(row, report.metric) is not None]
    if not rows:
        return "No trial of the search has a score."
    title = metric_title(report)
    figure = go.Figure(layout=layout(f"What the search found: {title} on validation", "trial", title))
    best = max if report.mode == "max" else min
    so_far: list[float | None] = []  # None until a trial has run its whole schedule
    for row in rows:
        known = [score for score in (*so_far[-1:], row.value if row.state == "COMPLETE" else None) if score is not None]
        so_far.append(best(known) if known else None)
    figure.add_scatter(
        x=[row.number for row in rows],
        y=so_far,
        mode="lines",
        line={"color": INK_OF_LINES, "shape": "hv", "dash": "dot"},
        name="best so far",
        hoverinfo="skip",
    )
    scores = [score_of(row, report.metric) for row in rows]
    add_kinds(figure, report, rows, [row.number for row in rows], scores)
    figure.update_xaxes(dtick=1 if rows[-1].number <= 20 else None)
    figure.update_yaxes(range=room_for(scores))
    return figure


def add_kinds(
    figure: Figure, report: SweepReport, rows: Sequence[TrialRow], x: Sequence[object], y: Sequence[object]
) -> None:
    """Add a point for each trial, with colour and symbol of its kind."""
    for kind, (colour, symbol) in MARKERS.items():
        at = [i for i, row in enumerate(rows) if kind_of(row, report) == kind]
        if at:
            figure.add_scatter(
                x=[x[i] for i in at],
                y=[y[i] for i in at],
                hovertext=[told(rows[i], report) for i in at],
                mode="markers",
                hovertemplate="%{hovertext}<extra></extra>",
                name=kind,
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": 14 if kind == WINNER else 9 if len(rows) <= MANY else 6,
                    "opacity": 1.0 if kind in (WINNER, DONE) else 0.85,
                },
            )
