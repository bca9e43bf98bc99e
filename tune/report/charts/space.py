"""What the hyperparameters have to do with the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune.report.charts.style import (
    BLUE,
    FROM_LOW_TO_HIGH,
    MARKERS,
    kind_of,
    layout,
    metric_title,
    room_for,
    score_of,
    shown,
    told,
)
from tune.report.results import SweepReport, TrialRow
from tune.report.text import compact

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_TICKS = 8  # of a hyperparameter, where each value gets its own
CROWD = 40  # trials, from which those of one batch size are drawn side by side
GOLDEN = 0.618  # steps of this length fall evenly into [0, 1)
Values = list[Any]


def parallel_coordinates(report: SweepReport) -> Figure | str:
    """A line for each trial through its hyperparameters to its score."""
    import plotly.graph_objects as go

    rows = [row for row in report.searched if score_of(row, report.metric) is not None]
    varied = _varied(rows)
    if len(rows) < 2 or not varied:
        return "Nothing differs between the trials that have a score."
    scores = [score_of(row, report.metric) for row in rows]
    title = metric_title(report)
    figure = go.Figure(layout=layout("Hyperparameters and score of each trial", "", "", height=440))
    figure.update_layout(margin={"l": 70, "r": 50, "t": 90, "b": 30})
    figure.add_parcoords(
        line={"color": scores, "colorscale": FROM_LOW_TO_HIGH, "reversescale": report.mode == "min"},
        dimensions=[
            *[{"label": name, **_axis(values, _is_logarithmic(name, report))} for name, values in varied.items()],
            {"label": title, "values": scores, "tickformat": ".3f"},
        ],
        unselected={"line": {"opacity": 0.08}},
    )
    return figure


def importance(report: SweepReport) -> Figure | str:
    """How much of the differences each hyperparameter explains."""
    import plotly.graph_objects as go

    found = report.importance
    if found is None:
        return "Too few trials ran their whole schedule, or they differ in nothing: there is nothing to compare."
    names = list(found.shares)[::-1]
    figure = go.Figure(
        layout=layout(
            f"Which hyperparameter the differences come from ({found.method}, {found.trials} trials)",
            "part of the variance explained",
            "",
            height=130 + 36 * len(names),
            xaxis={"range": [0, 1.12 * max(found.shares.values())], "tickformat": ".0%"},
        )
    )
    figure.add_bar(
        x=[found.shares[name] for name in names],
        y=names,
        orientation="h",
        marker={"color": BLUE},
        text=[f"{found.shares[name]:.0%}" for name in names],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    return figure


def rate_and_batch(report: SweepReport) -> Figure | str:
    """Where in the plane of learning rate and batch size the good trials lie."""
    import plotly.graph_objects as go

    found = [(row, row.config.named()) for row in report.searched if score_of(row, report.metric) is not None]
    found = [(row, given) for row, given in found if given.get("learning_rate") and given.get("batch_size")]
    if len({given["batch_size"] for _, given in found}) < 2 or len({given["learning_rate"] for _, given in found}) < 2:
        return "The trials have one learning rate or one batch size."
    sizes = sorted({given["batch_size"] for _, given in found})
    rates = [given["learning_rate"] for _, given in found]
    ticks = round_values(min(rates), max(rates))
    title = metric_title(report)
    scores = [score_of(row, report.metric) for row, _ in found]
    ends = dict(zip(("cmin", "cmax"), room_for(scores) or (), strict=False))  # none where the scores differ
    spread = 0.4 if len(found) > CROWD else 0.0  # of the step to the double
    figure = go.Figure(
        layout=layout(
            "Learning rate and batch size",
            "learning rate",
            "batch size",
            xaxis={"type": "log", "tickvals": ticks, "ticktext": [compact(value) for value in ticks]},
            yaxis={"type": "log", "tickvals": sizes, "ticktext": [str(size) for size in sizes]},
        )
    )
    figure.add_scatter(
        x=rates,
        y=[given["batch_size"] * (2 ** (spread * (i * GOLDEN % 1 - 0.5))) for i, (_, given) in enumerate(found)],
        hovertext=[told(row, report) for row, _ in found],
        hovertemplate="%{hovertext}<extra></extra>",
        mode="markers",
        marker={
            "color": scores,
            **ends,
            "colorscale": FROM_LOW_TO_HIGH,
            "reversescale": report.mode == "min",
            "symbol": [MARKERS[kind_of(row, report)][1] for row, _ in found],
            "size": 13 if len(found) <= CROWD else 8,
            "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 14, "tickformat": ".2f"},
        },
        showlegend=False,
    )
    return figure


def _varied(rows: Sequence[TrialRow]) -> dict[str, Values]:
    """The values of each hyperparameter that differs between trials."""
    named = [row.config.named() for row in rows]
    names = dict.fromkeys(name for given in named for name in given)
    values = {name: [given.get(name) for given in named] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def _is_logarithmic(name: str, report: SweepReport) -> bool:
    """Whether a hyperparameter was searched on a logarithmic scale; a learning rate always is."""
    space = {} if report.provenance is None else report.provenance.spec.get("space", {})
    return name == "learning_rate" or str(space.get(name, "")).startswith("log:")


def _axis(values: Values, log: bool) -> dict[str, Any]:
    """One dimension: numbers as they are, or their logarithms; few numbers each with its own tick; words by place."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        words = sorted({"none" if value is None else str(value) for value in values})
        places = [words.index("none" if value is None else str(value)) for value in values]
        return {"values": places, "tickvals": list(range(len(words))), "ticktext": [shown(word, 16) for word in words]}
    different = sorted(set(numbers))
    if log and different[0] > 0:
        low, high = different[0], different[-1]
        inside = [value for value in round_values(low, high) if low * 1.3 < value < high / 1.3]
        ticks = different if len(different) <= MOST_TICKS else [low, *inside, high]
        return {
            "values": [math.log10(value) for value in numbers],
            "tickvals": [math.log10(value) for value in ticks],
            "ticktext": [compact(value) for value in ticks],
        }
    if len(different) <= MOST_TICKS:
        return {"values": numbers, "tickvals": different, "ticktext": [compact(value) for value in different]}
    return {"values": numbers}


def round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from `low` to `high`; the powers alone where those are many."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high / low < 1000 else (1,)
    return [value for power in powers for digit in digits if low / 1.3 < (value := digit * 10.0**power) < high * 1.3]
