"""report.html: the report as one page that needs nothing else."""

from __future__ import annotations

from tune.report.evidence_words import evidence_lines
from tune.report.results import SweepReport
from tune.report.templating import rendered


def html_page(report: SweepReport) -> str:
    """Write the page."""
    return rendered("page.html.j2", report=report, shown=evidence_lines(report))
