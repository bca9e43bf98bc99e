"""README.md of best/: the model card that people read where the model is published."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainable.data.sources import is_folder
from trainable.metrics import METRICS
from trainable.redaction import one_line
from tune.report.evidence_words import evidence_lines
from tune.report.results import SweepReport
from tune.report.templating import rendered

TASK = "text-classification"


def is_hub_id(model: str) -> bool:
    """Whether a model is named by its name on the hub, and not by a folder or as a built-in one."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) is not None and not is_folder(model)


def without_folders(name: str) -> str:
    """A model's or a data set's name on the hub; of a path the last part alone: the rest would tell of the machine."""
    return Path(name).name if is_folder(name) else name


def _model_index(report: SweepReport) -> list[dict[str, Any]]:
    """The scores as the hub shows them: those on the test split, or on validation where there is none."""
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    split, scores = ("validation", report.best.validation)
    if report.test is not None:
        split, scores = ("test", report.test.scores)
    dataset = one_line(without_folders(report.dataset)) or "a folder"
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=name,
            metric_name=one_line(METRICS[name].heading(report.f1_average)),
            metric_value=value,
        )
        for name, value in scores.items()
        if name in METRICS
    ]
    found: list[dict[str, Any]] = eval_results_to_model_index(one_line(report.name), results)
    return found


def model_card(report: SweepReport) -> str:
    """Write the card: the fields that the hub reads, and a page in Markdown."""
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": TASK}
    if is_hub_id(report.model):  # a local path would tell of the machine, and the hub refuses it
        fields["base_model"] = one_line(report.model)
    fields["model-index"] = _model_index(report)
    head = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=math.inf)
    shown = [*report.why_it_ended, *evidence_lines(report)]
    return f"---\n{head}---\n\n{rendered('model_card.md.j2', report=report, shown=shown)}"


def public_card(report: SweepReport, spec: Mapping[str, Any], repo: str) -> str:
    """Write the card for the hub: under the repository's name, and without a path of this machine.

    Args:
        report: The finished sweep.
        spec: What spec.yaml says; its paths are absolute, wherever the command was given.
        repo: NAMESPACE/NAME.
    """
    names = {name: without_folders(str(spec.get(name) or getattr(report, name))) for name in ("model", "dataset")}
    public = report.model_copy(update={"name": repo.rpartition("/")[2], **names})
    return model_card(public).replace("FOLDER OR NAME", repo)
