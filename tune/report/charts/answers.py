"""What the model in best/ answers: confusion, classes, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tune.report.charts.style import (
    BLUE,
    CLEAR,
    GREEN,
    INK_OF_LINES,
    LABEL_CHARACTERS,
    ORANGE,
    layout,
    named_ticks,
    shown,
)
from tune.report.results import SweepReport

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_CLASSES = 160  # of more classes no cell can be seen, and their names fill the page
MOST_CLASSES_WITH_COUNTS = 20  # whose cells have room for a number
PAGE_WIDTH = 1068  # pixels that a chart has on a wide screen
UNKNOWN = "The predictions of the model in best/ are not known: an earlier version wrote the report, or they are gone."
TOO_MANY = "There are too many classes to draw them; report.json has every number."


def confusion(report: SweepReport) -> Figure | str:
    """A row for each class, a column for each answer; a cell's colour is its part of the class."""
    import plotly.graph_objects as go

    of = report.answers
    if of is None:
        return UNKNOWN
    names = [each.name for each in of.classes]
    if len(names) > MOST_CLASSES:
        return TOO_MANY
    place = {name: i for i, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for each in of.confusion:
        counts[place[each.label]][place[each.answer]] = each.rows
    parts = [[count / max(1, of.classes[i].rows) for count in row] for i, row in enumerate(counts)]
    few = len(names) <= MOST_CLASSES_WITH_COUNTS
    size = 12 if few else 9
    longest = max(min(len(name), LABEL_CHARACTERS) for name in names)
    edge = 24 + round(longest * size * 0.62)
    cell = 46 if few else min(16, max(11, (PAGE_WIDTH - edge - 20) // len(names)))
    side = max(240, cell * len(names))
    figure = go.Figure(
        layout=layout(
            f"Confusion matrix on {of.on}: rows are classes, columns are answers", "", "",
            width=side + edge + 20, height=side + edge + 70,
            margin={"l": edge, "r": 20, "t": 50, "b": edge + 20},
            xaxis={**named_ticks(names), "tickangle": -90 if len(names) > 4 or longest > 8 else 0, "showgrid": False,
                   "tickfont": {"size": size}, "automargin": False},
            yaxis={**named_ticks(names), "autorange": "reversed", "showgrid": False, "tickfont": {"size": size},
                   "automargin": False},
        )
    )  # fmt: skip
    figure.add_heatmap(
        z=parts,
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=[[0, "rgba(59,130,196,0.05)"], [1, "rgba(59,130,196,1)"]],
        showscale=False,
        hovertext=[
            [
                f"{shown(names[i], 60)}<br>answered {shown(names[j], 60)}: {count} of {of.classes[i].rows} rows"
                if count or few
                else ""
                for j, count in enumerate(row)
            ]
            for i, row in enumerate(counts)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        text=[[str(count or "") for count in row] for row in counts] if few else None,
        texttemplate="%{text}" if few else None,
    )
    return figure


def classes(report: SweepReport) -> Figure | str:
    """Precision, recall and F1 of each class, the worst F1 first."""
    import plotly.graph_objects as go

    of = report.answers
    if of is None:
        return UNKNOWN
    if len(of.classes) > MOST_CLASSES:
        return TOO_MANY
    rows = sorted(of.classes, key=lambda each: (-each.f1, each.name))  # the lowest place is drawn last, at the top
    names = [f"{each.name} ({each.rows})" for each in rows]
    figure = go.Figure(
        layout=layout(
            f"Each class on {of.on}, with its rows", "", "", height=130 + (34 if len(rows) < 25 else 17) * len(rows),
            xaxis={"range": [-0.02, 1.02]},
            yaxis={**named_ticks(names, LABEL_CHARACTERS + 8), "range": [-0.7, len(rows) - 0.3],
                   "tickfont": {"size": 12 if len(rows) < 25 else 10}},
        )
    )  # fmt: skip
    ends = [value for each in rows for value in (each.precision, each.recall, None)]  # None ends a line
    figure.add_scatter(
        x=ends, y=[i for i in range(len(rows)) for _ in range(3)], mode="lines", hoverinfo="skip", showlegend=False,
        line={"color": INK_OF_LINES, "width": 1},
    )  # fmt: skip
    for name, colour, symbol in (
        ("precision", GREEN, "triangle-left"),
        ("recall", ORANGE, "triangle-right"),
        ("f1", BLUE, "circle"),
    ):
        figure.add_scatter(
            x=[getattr(each, name) for each in rows],
            y=list(range(len(rows))),
            mode="markers",
            name="F1" if name == "f1" else name,
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertext=[
                f"<b>{shown(each.name, 60)}</b><br>precision {each.precision:.3f}, recall {each.recall:.3f}, F1 "
                f"{each.f1:.3f}<br>{each.rows} rows, {each.answers} answers"
                for each in rows
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    return figure


def reliability(report: SweepReport) -> Figure | str:
    """How often answers are right, by how sure the model is of them."""
    import plotly.graph_objects as go

    of = report.answers
    if of is None:
        return UNKNOWN
    bins = of.calibration.bins
    figure = go.Figure(
        layout=layout(
            f"Reliability on {of.on}: expected calibration error {of.calibration.error:.3f}",
            "probability of the answer", "answers that are right",
            xaxis={"range": [0, 1]}, yaxis={"range": [0, 1.04]}, barmode="overlay", bargap=0,
        )
    )  # fmt: skip
    figure.add_bar(
        x=[(each.low + each.high) / 2 for each in bins], y=[each.rows / of.rows for each in bins],
        width=[each.high - each.low for each in bins], name="part of all rows",
        marker={"color": "rgba(139,148,158,0.35)", "line": {"color": CLEAR}},
        hovertext=[f"{each.low:.1f} to {each.high:.1f}: {each.rows} of {of.rows} rows" for each in bins],
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as sure as it is right", hoverinfo="skip",
        line={"color": INK_OF_LINES, "dash": "dot"},
    )  # fmt: skip
    figure.add_scatter(
        x=[each.confidence for each in bins],
        y=[each.accuracy for each in bins],
        mode="lines+markers",
        name="the model",
        line={"color": BLUE, "width": 2},
        marker={"color": BLUE, "size": 10},
        hovertext=[
            f"{each.rows} rows: the model is sure by {each.confidence:.3f}, and right in {each.accuracy:.3f}"
            for each in bins
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return figure
