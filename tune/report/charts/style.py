"""How the charts look: one set of colours and one layout, which can be read on white, on black and on paper."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from trainable.metrics import METRICS
from trainable.redaction import one_line
from tune.report.results import SweepReport, TrialRow
from tune.report.text import short

CLEAR = "rgba(0,0,0,0)"
FAINT = "rgba(128,128,128,0.22)"  # a grid line on white and on black
INK_OF_LINES = "rgba(128,128,128,0.8)"
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#3b82c4", "#e8590c", "#2b9e72", "#d6455d", "#9c6ade", "#8b949e"
FROM_LOW_TO_HIGH = [[0.0, "#a3adb8"], [0.5, "#3b82c4"], [1.0, "#e8590c"]]
MANY = 200  # trials, from which marks are smaller
LABEL_CHARACTERS = 26
HOVER_CHARACTERS = 120

WINNER, DONE, STOPPED, COLLAPSED, FAILED, FRESH = (
    "winner", "whole schedule", "stopped early", "collapsed to one class", "failed", "fresh seed of a finalist",
)  # fmt: skip
MARKERS: dict[str, tuple[str, str]] = {
    STOPPED: (GREY, "circle-open"),
    DONE: (BLUE, "circle"),
    FRESH: (GREEN, "diamond"),
    COLLAPSED: (PURPLE, "square"),
    FAILED: (RED, "x"),
    WINNER: (ORANGE, "star"),
}
"""Colour and symbol of each kind of trial, in the order in which they are drawn."""


def kind_of(row: TrialRow, report: SweepReport) -> str:
    """Which kind of trial a row is."""
    if row.number == winner_of(report):
        return WINNER
    if row.state == "FAIL":
        return FAILED
    if row.collapsed:
        return COLLAPSED
    if row.confirms is not None:
        return FRESH
    return DONE if row.state == "COMPLETE" else STOPPED


def winner_of(report: SweepReport) -> int:
    """The trial of the search that found the winner's configuration."""
    best = report.best
    return best.trial if best.confirms is None else best.confirms


def metric_title(report: SweepReport) -> str:
    """The objective as an axis names it."""
    return shown(METRICS[report.metric].heading(report.f1_average))


def shown(text: str, characters: int = HOVER_CHARACTERS) -> str:
    """Text from elsewhere, in which a chart finds no markup."""
    line = one_line(text)
    return html.escape(line if len(line) <= characters else f"{line[: characters - 1]}…", quote=False)


def told(row: TrialRow, report: SweepReport) -> str:
    """What the pointer is told of a trial, in every chart the same: the page then holds it once."""
    score = score_of(row, report.metric)
    where = (
        f"epoch {row.best_epoch}" if row.best_epoch else f"{row.rungs[-1].schedule_percent:.0f} %" if row.rungs else ""
    )
    scored = "" if score is None else f"<br>{metric_title(report)} {score:.4f} at {where}"
    words = shown(short(row.config), 4 * HOVER_CHARACTERS).split(" ")
    lines = [" ".join(words[i : i + 3]) for i in range(0, len(words), 3)]
    again = "" if row.confirms is None else f", trial {row.confirms} again"
    return "<br>".join([f"<b>trial {row.number}</b>: {kind_of(row, report)}{again}{scored}", *lines])


def score_of(row: TrialRow, metric: str) -> float | None:
    """The objective of a trial: at its best epoch, else where it was stopped within its first."""
    if row.value is not None or not row.rungs:
        return row.value
    return row.rungs[-1].scores.get(metric)


def room_for(values: Sequence[float | None]) -> list[float] | None:
    """The range of an axis whose values are all alike, which Plotly would stretch over impossible ones; else None."""
    found = {value for value in values if value is not None}
    if len(found) != 1:
        return None
    (value,) = found
    return [value - 0.05, value + 0.05]


def layout(title: str, x: str, y: str, **others: Any) -> dict[str, Any]:
    """The layout that all charts share. Its ink has no colour: that is the page's or the notebook's.

    Args:
        title: Of the chart.
        x: The title of the horizontal axis.
        y: The title of the vertical axis.
        others: Further settings of Plotly's layout; those of an axis are put into that axis.
    """
    axis = {"gridcolor": FAINT, "linecolor": INK_OF_LINES, "zeroline": False, "automargin": True}
    axes = {
        "xaxis": {**axis, "title": {"text": x}, **others.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **others.pop("yaxis", {})},
    }
    return {
        "template": "none",
        "title": {"text": title},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 10, "r": 10, "t": 60, "b": 10},
        "height": 420,
        "hoverlabel": {"align": "left", "namelength": -1},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": CLEAR},
        **axes,
        **others,
    }


def named_ticks(names: Sequence[str], characters: int = LABEL_CHARACTERS) -> dict[str, Any]:
    """Settings of an axis on which place i is the i-th name. Names that look alike when they are cut stay apart."""
    return {"tickvals": list(range(len(names))), "ticktext": [short_name(name, characters) for name in names]}


def short_name(name: str, characters: int = LABEL_CHARACTERS) -> str:
    """A name in which the middle is left out where it is long: many names begin alike and differ at their ends."""
    line = one_line(name)
    if len(line) > characters:
        end = characters // 3
        line = f"{line[: characters - end - 1]}…{line[len(line) - end :]}"
    return shown(line)
