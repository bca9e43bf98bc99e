"""report.html: the report as one page that needs nothing else, with charts that answer to the pointer."""

from __future__ import annotations

import functools
import json
from typing import Any

from tune.report.answer_words import answer, troubles
from tune.report.charts import CHARTS
from tune.report.charts.curves import curves_drawn
from tune.report.charts.style import kind_of
from tune.report.details import Confused
from tune.report.evidence_words import evidence_lines
from tune.report.results import SweepReport
from tune.report.templating import Verbatim, rendered

MOST_TABLE_ROWS = 300  # of a table: more make a page that opens slowly, and nobody reads them
MOST_CONFUSED = 15
ROOM_OF_TITLE = 30  # pixels: a title of the page stands in place of a chart's own


def html_page(report: SweepReport) -> str:
    """Write the page."""
    drawn = {name: draw(report) for name, draw in CHARTS.items()}
    texts: dict[str, int] = {}
    charts = {name: _as_json(figure.to_dict(), texts) for name, figure in drawn.items() if not isinstance(figure, str)}
    whole = json.dumps({"texts": list(texts), "charts": charts}, separators=(",", ":"))
    return rendered(
        "page.html.j2",
        report=report,
        answer=answer(report),
        troubles=troubles(report),
        shown=evidence_lines(report),
        charts=charts,
        missing={name: why for name, why in drawn.items() if isinstance(why, str)},
        charts_json=Verbatim(whole.replace("<", "\\u003c")),
        plotly=_plotly(),
        kind_of=lambda row: kind_of(row, report),
        thinned=len([row for row in report.trials if row.epochs or row.rungs]) - len(curves_drawn(report)),
        unplaced=len({row.number for row in report.trials} - {span.trial for span in report.timeline}),
        most_rows=MOST_TABLE_ROWS,
        confused=_most_confused(report),
    )


@functools.cache
def _plotly() -> Verbatim:
    """Plotly's script, whole."""
    from plotly.offline import get_plotlyjs

    return Verbatim(get_plotlyjs().replace("</script", "<\\/script"))


def _as_json(figure: dict[str, Any], texts: dict[str, int]) -> dict[str, Any]:
    """A figure without its title, which the page has as a heading.

    Args:
        figure: As Plotly has it.
        texts: What pointers are told, with its place in the page's list of them; gets the figure's. Several charts
            tell the same of a trial.
    """
    for trace in figure["data"]:
        told = trace.get("hovertext", ())
        if any(isinstance(text, str) for text in told):
            trace["told"] = [None if text is None else texts.setdefault(text, len(texts)) for text in told]
            del trace["hovertext"]
    layout = dict(figure["layout"])
    layout.pop("title", None)
    margin = layout.get("margin", {})
    layout["margin"] = {**margin, "t": max(10, margin.get("t", 0) - ROOM_OF_TITLE)}
    return {"data": figure["data"], "layout": layout}


def _most_confused(report: SweepReport) -> list[Confused]:
    """The pairs of class and wrong answer that most rows have."""
    pairs = [] if report.answers is None else [each for each in report.answers.confusion if each.label != each.answer]
    return sorted(pairs, key=lambda each: (-each.rows, each.label, each.answer))[:MOST_CONFUSED]
