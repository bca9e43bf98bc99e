"""Collects what the page shows beside the scores, where all of it is at hand: at the sweep's end."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.data.tokens import TokenizedSplit
from trainable.job import Job
from trainable.redaction import plain
from trainable.storage.predictions import read_predictions
from tune.cluster.plan import Plan
from tune.prepare.identity import spec_document
from tune.report.answers import answers_of
from tune.report.details import Answers, DataSummary, Details, Provenance, SplitName, SplitSummary
from tune.report.importance import importance_of
from tune.report.timeline import timeline_of
from tune.run_dir.layout import TEST_PREDICTIONS, RunDir
from tune.run_dir.records import TrialRecord
from tune.sweep.hand_over import Model

if TYPE_CHECKING:
    from tune.prepare.inputs import Inputs


def details_of(
    inputs: Inputs,
    job: Job,
    plan: Plan | None,
    run_dir: RunDir,
    records: Sequence[TrialRecord],
    model: Model,
    command: str | None,
) -> Details:
    """Collect everything that can be known.

    Args:
        inputs: The sweep's checked input.
        job: What its trials shared.
        plan: What each of them was given; None where that is not known.
        run_dir: Where the sweep was run.
        records: Every trial of the study.
        model: The model that is handed over.
        command: As it was typed; None where Python called.
    """
    spec = inputs.spec
    document = spec_document(inputs, None, job.precision)
    resolved = document.pop("resolved")
    return Details(
        timeline=timeline_of(records),
        importance=importance_of(records, spec.space, spec.metric, spec.mode),
        answers=_answers(inputs, run_dir, model),
        data=DataSummary(
            text_columns=list(inputs.data.text_columns),
            label_column=inputs.data.label_column,
            max_length=inputs.max_length,
            splits={
                name: _summary(inputs, name, {"train": job.train, "validation": job.validation}.get(name))
                for name in inputs.data.splits
            },
            cut_from_train=list(inputs.data.cut),
        ),
        provenance=Provenance(
            command=None if command is None else plain(command),
            spec=without_secrets(document),
            model_fingerprint=resolved["model_fingerprint"],
            data_fingerprint=resolved["data_fingerprint"],
            environment={
                "driver": platform.node(),
                "system": platform.platform(),
                "cores of the driver's machine": str(os.cpu_count()),
                **({} if plan is None else {"plan": str(plan)}),
            },
        ),
    )


def without_secrets(value: Any) -> Any:
    """Values of a specification, with each text as it may be shown: a URL can hold a password."""
    if isinstance(value, dict):
        return {name: without_secrets(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(each) for each in value]
    return plain(value) if isinstance(value, str) else value


def _answers(inputs: Inputs, run_dir: RunDir, model: Model) -> Answers | None:
    """What the model answers on the test split; on validation where that is not known, unless it is an average."""
    names, splits = inputs.data.label_names, inputs.data.splits
    files: list[tuple[SplitName, Path]] = [("test", model.test_predictions)]
    if run_dir.best_trial() == model.run.number:  # an earlier run of the sweep scored it
        files.append(("test", run_dir.best / TEST_PREDICTIONS))
    if not model.averaged:
        files.append(("validation", run_dir.predictions(model.run.number)))
    for on, file in files:
        if on not in splits:
            continue
        run_dir.storage.fetch(file)
        rows = splits[on]
        predicted = read_predictions(file, len(rows), len(names))
        labels = np.asarray(rows.labels, dtype=np.int64)
        if predicted is not None and labels.ndim == 1:
            texts = None if inputs.spec.no_examples else rows.texts
            return answers_of(on, labels, predicted, names, texts)
    return None


def _summary(inputs: Inputs, name: str, tokens: TokenizedSplit | None) -> SplitSummary:
    names, split = inputs.data.label_names, inputs.data.splits[name]
    counts = np.bincount(np.asarray(split.labels, dtype=np.int64), minlength=len(names)).tolist()
    if tokens is None:
        return SplitSummary(rows=len(split), classes=dict(zip(names, counts, strict=True)))
    return SplitSummary(
        rows=len(split),
        classes=dict(zip(names, counts, strict=True)),
        median_tokens=float(np.median(tokens.lengths)),
        longest_tokens=int(tokens.lengths.max()),
        cut_rows=tokens.truncated,
    )
