"""Run directories as a driver leaves them, made without Ray: real models of random weights, and scores as wanted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from tests.tune.test_searcher import epoch, issue
from trainable.job import Assignment
from trainable.storage.folders import write_folder
from tune.prepare.check import check_request
from tune.prepare.identity import spec_document
from tune.run_dir.layout import RunDir
from tune.spec.flags import Request
from tune.spec.sources import Given
from tune.spec.sweep_spec import build_spec
from tune.sweep.trial_book import TrialBook


def begin(folder: Path, model: Path, data: Path, **fields: Any) -> TrialBook:
    """A sweep that has begun: spec.yaml and an empty study."""
    problems: list[str] = []
    values = {"model": str(model), "dataset": str(data), "space": {"epochs": "2..4"}, "precision": "fp32", **fields}
    spec = build_spec(Given(values), problems)
    run_dir = RunDir(folder)
    inputs, stored = check_request(Request(spec, folder), run_dir, problems)
    run_dir.root.mkdir(parents=True, exist_ok=True)
    run_dir.write_spec(spec_document(inputs, stored.sweep_id, "fp32"))
    return TrialBook(inputs.spec, run_dir)


def complete(book: TrialBook, f1: float) -> Assignment:
    """Run the next trial to its end: its score is given, and its model answers at random."""
    assignment = issue(book)
    leave_classifier(book.run_dir.model(assignment.number), Path(book.spec.model), assignment.seed)
    book.record_epochs(assignment.number, [epoch(1, f1 - 0.01), epoch(2, f1)])
    book.finish(assignment.number, TrialState.COMPLETE)
    return assignment


def leave_classifier(folder: Path, pretrained: Path, seed: int) -> None:
    """Write a classifier of two classes whose head is drawn at random."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig.from_pretrained(pretrained, id2label={0: "0", 1: "1"}, label2id={"0": 0, "1": 1})
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**31)
        classifier = BertForSequenceClassification(config)

    def write(aside: Path) -> None:
        classifier.save_pretrained(aside)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copy(pretrained / name, aside / name)

    write_folder(folder, write)
