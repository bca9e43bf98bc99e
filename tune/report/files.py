"""The result as files: best/ with its model card, report.html and report.json."""

from __future__ import annotations

import json
from pathlib import Path

from trainable.storage.folders import MANIFEST, link, write_folder, write_text
from tune.report.html_page import html_page
from tune.report.model_card import model_card
from tune.report.results import SweepReport
from tune.run_dir.layout import MODEL_ONNX, OF_BEST, TEST_PREDICTIONS, RunDir


def write_best(
    run_dir: RunDir, report: SweepReport, model: Path, test_predictions: Path, onnx: Path | None = None
) -> None:
    """Write best/: the winner's model as transformers opens it, the model card, the scores.

    Args:
        run_dir: Where the sweep was run.
        report: Its result.
        model: The model that is handed over; it may lie in best/ already.
        test_predictions: What the model predicts of the test split; the file need not be there.
        onnx: The model as an ONNX file; None where there is none. One that lies in best/ stays there with its model.
    """

    def write(aside: Path) -> None:
        for path in model.iterdir():
            if path.name not in (MANIFEST, *OF_BEST):
                link(path, aside / path.name)
        if test_predictions.is_file():
            link(test_predictions, aside / TEST_PREDICTIONS)
        if (file := run_dir.best / MODEL_ONNX if onnx is None and model == run_dir.best else onnx) and file.is_file():
            link(file, aside / MODEL_ONNX)
        (aside / "README.md").write_text(model_card(report), encoding="utf-8")
        (aside / "metrics.json").write_text(json.dumps(report.best_as_json(), indent=2) + "\n", encoding="utf-8")

    write_folder(run_dir.best, write)
    run_dir.storage.publish(run_dir.best)


def write_report(run_dir: RunDir, report: SweepReport) -> None:
    """Write report.html, then report.json, which says that the sweep is finished: nothing is written after it."""
    write_text(run_dir.report_html, html_page(report))
    run_dir.publish_progress()
    run_dir.storage.publish(run_dir.report_html)
    write_text(run_dir.report_json, json.dumps(report.as_json(), indent=2) + "\n")
    run_dir.storage.publish(run_dir.report_json)
