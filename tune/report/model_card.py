"""README.md of best/: the model card that people read where the model is published."""

from __future__ import annotations

import math

import yaml

from trainable.redaction import one_line
from tune.report.results import SweepReport
from tune.report.templating import rendered


def model_card(report: SweepReport) -> str:
    """Write the card: the fields that the hub reads, and a page in Markdown."""
    fields = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": one_line(report.model),
    }
    head = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{head}---\n\n{rendered('model_card.md.j2', report=report)}"
