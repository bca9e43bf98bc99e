"""README.md of best/: the model card that people read where the model is published."""

from __future__ import annotations

import math
import re

import yaml

from trainable.data.sources import is_folder
from trainable.redaction import one_line
from tune.report.results import SweepReport
from tune.report.templating import rendered


def is_hub_id(model: str) -> bool:
    """Whether a model is named by its name on the hub, and not by a folder or as a built-in one."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) is not None and not is_folder(model)


def model_card(report: SweepReport) -> str:
    """Write the card: the fields that the hub reads, and a page in Markdown."""
    fields = {"library_name": "transformers", "pipeline_tag": "text-classification"}
    if is_hub_id(report.model):  # a local path would tell of the machine, and the hub refuses it
        fields["base_model"] = one_line(report.model)
    head = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{head}---\n\n{rendered('model_card.md.j2', report=report)}"
