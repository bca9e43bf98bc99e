"""Finalists and their seeds, the trials that can't be told from the winner, and the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tune.report.charts.curves import add_kinds
from tune.report.charts.style import (
    GREEN,
    INK_OF_LINES,
    MANY,
    MARKERS,
    ORANGE,
    kind_of,
    layout,
    metric_title,
    room_for,
    short_name,
    shown,
    told,
    winner_of,
)
from tune.report.details import WorkerSpan
from tune.report.results import SweepReport
from tune.report.text import clock, short

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

IDLE_PART = 0.1  # of the working time: a longer pause, as between two drivers, is cut out
LEAST_PAUSE_S = 60.0


def finalists(report: SweepReport) -> Figure | str:
    """What each finalist scores from fresh seeds, and what it was found with."""
    import plotly.graph_objects as go

    if not report.finalists:
        return "No configuration was trained again from fresh seeds."
    title = metric_title(report)
    groups = report.finalists[::-1]
    special = {"winner": winner_of(report), "default": report.default.trial if report.default is not None else None}
    names = [
        f"trial {each.trial}{f' ({marks})' if marks else ''}"
        for each in groups
        for marks in [", ".join(mark for mark, trial in special.items() if trial == each.trial)]
    ]
    figure = go.Figure(
        layout=layout(
            f"Finalists, trained again: {title} on validation", title, "", height=150 + 48 * len(groups),
            yaxis={"tickvals": list(range(len(groups))), "ticktext": names, "range": [-0.6, len(groups) - 0.4]},
        )
    )  # fmt: skip
    for i, each in enumerate(groups):
        values = [run.value for run in each.runs]
        figure.add_scatter(
            x=[min(values), max(values)], y=[i, i], mode="lines", line={"color": GREEN, "width": 2},
            showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=[run.value for each in groups for run in each.runs],
        y=[i for i, each in enumerate(groups) for _ in each.runs],
        hovertext=[
            f"<b>trial {run.trial}</b>: trial {each.trial} again<br>{title} {run.value:.4f} at epoch {run.epoch}, "
            f"{run.seconds:.1f} s, seed {run.seed}<br>{shown(short(each.config))}"
            for each in groups
            for run in each.runs
        ],
        mode="markers", name="fresh seed", marker={"color": GREEN, "symbol": "diamond", "size": 10},
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[each.mean for each in groups], y=list(range(len(groups))), mode="markers", name="mean of fresh seeds",
        marker={"color": GREEN, "symbol": "line-ns-open", "size": 22, "line": {"width": 3, "color": GREEN}},
        hovertemplate="mean of fresh seeds: %{x:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[each.found for each in groups], y=list(range(len(groups))), mode="markers", name="found with in the search",
        marker={"color": ORANGE, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        hovertemplate="found with: %{x:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(range=room_for([value for e in groups for value in (e.found, *(run.value for run in e.runs))]))
    return figure


def ties(report: SweepReport) -> Figure | str:
    """Score against the time of a training, for trials that ran their whole schedule; ties have a ring."""
    import plotly.graph_objects as go

    rows = [row for row in report.searched if row.state == "COMPLETE" and row.value is not None]
    if len(rows) < 2:
        return "Only one trial ran its whole schedule: there is nothing that it could be tied with."
    title = metric_title(report)
    figure = go.Figure(
        layout=layout(f"{title} on validation against training time", "seconds of training and evaluation", title)
    )
    figure.update_xaxes(type="log" if max(r.seconds for r in rows) > 20 * min(r.seconds for r in rows) > 0 else None)
    add_kinds(figure, report, rows, [row.seconds for row in rows], [row.value for row in rows])
    figure.update_yaxes(range=room_for([row.value for row in rows]))
    tied = [row for row in rows if row.number in report.ties]
    if tied:
        figure.add_scatter(
            x=[row.seconds for row in tied], y=[row.value for row in tied], mode="markers",
            name="can't be told from the winner", hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 20, "color": ORANGE, "line": {"width": 2}},
        )  # fmt: skip
    return figure


def timeline(report: SweepReport) -> Figure | str:
    """Which worker ran which trial when; pauses between drivers are cut out."""
    import plotly.graph_objects as go

    spans = report.timeline
    if not spans:
        return "The report does not say which worker ran what: an earlier version wrote it, or no epoch was finished."
    rows = {row.number: row for row in report.trials}
    lanes = sorted({(span.host, span.slot) for span in spans}, reverse=True)
    hosts = {span.host for span in spans}
    names = [f"worker {slot}" if len(hosts) == 1 else f"{host}, worker {slot}" for host, slot in lanes]
    few = len(spans) <= MANY  # so that bars have room for an edge and a number
    starts, pauses = _without_pauses(spans)
    longest = max(start + span.ended_at - span.began_at for span, start in zip(spans, starts, strict=True))
    unit, seconds = next(
        ((name, s) for name, s in (("hours", 3600), ("minutes", 60)) if longest >= 2 * s), ("seconds", 1)
    )
    figure = go.Figure(
        layout=layout(
            "Workers", unit, "", height=150 + 40 * len(lanes), barmode="overlay",
            uniformtext={"minsize": 9, "mode": "hide"},
            yaxis={"tickvals": list(range(len(lanes))), "ticktext": [short_name(name, 34) for name in names],
                   "range": [-1.3 if pauses else -0.6, len(lanes) - 0.4]},
        )
    )  # fmt: skip
    for kind, (colour, _) in MARKERS.items():
        of_kind = [(s, start) for s, start in zip(spans, starts, strict=True) if kind_of(rows[s.trial], report) == kind]
        if of_kind:
            figure.add_bar(
                base=[start / seconds for _, start in of_kind],
                x=[(span.ended_at - span.began_at) / seconds for span, _ in of_kind],
                y=[lanes.index((span.host, span.slot)) for span, _ in of_kind],
                orientation="h", name=kind, width=0.7,
                marker={"color": colour, "line": {"width": int(few), "color": "rgba(255,255,255,0.7)"}},
                text=[str(span.trial) for span, _ in of_kind] if few else None,
                textposition="inside", insidetextanchor="middle",
                textangle=0, textfont={"color": "white"}, constraintext="inside",
                hovertext=[told(rows[span.trial], report) for span, _ in of_kind],
                customdata=[
                    f"{clock(span.ended_at - span.began_at)} on {shown(span.host)}, process {span.pid}"
                    for span, _ in of_kind
                ],
                hovertemplate="%{hovertext}<br>%{customdata}<extra></extra>",
            )  # fmt: skip
    for at, length in pauses:
        figure.add_vline(
            x=at / seconds, line={"dash": "dot", "width": 1, "color": INK_OF_LINES},
            annotation={"text": f" paused {clock(length)}", "font": {"size": 11}}, annotation_position="bottom right",
        )  # fmt: skip
    return figure


def _without_pauses(spans: list[WorkerSpan]) -> tuple[list[float], list[tuple[float, float]]]:
    """When each span began after the first, seconds, with long pauses cut out; and where these were, and how long."""
    ordered = sorted(spans, key=lambda span: span.began_at)
    working = sum(span.ended_at - span.began_at for span in spans) / len({(span.host, span.slot) for span in spans})
    longest = max(LEAST_PAUSE_S, IDLE_PART * working)
    begin = until = ordered[0].began_at
    cut: list[tuple[float, float, float]] = []  # when the pause ended, where it is shown, how long it was
    for span in ordered:
        if (length := span.began_at - until) > longest:
            cut.append((span.began_at, until - begin - sum(pause[2] for pause in cut), length))
        until = max(until, span.ended_at)
    starts = [
        span.began_at - begin - sum(length for ended, _, length in cut if ended <= span.began_at) for span in spans
    ]
    return starts, [(at, length) for _, at, length in cut]
