"""The model that is handed over, as an ONNX file: exported, checked, and told in the report."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from trainable.data.tokens import TokenizedSplit
from trainable.redaction import one_line
from tune.prepare.identity import StoredSweep, spec_document
from tune.prepare.inputs import Inputs
from tune.report.files import write_best, write_report
from tune.report.results import OnnxExport, SweepReport
from tune.run_dir.layout import MODEL_ONNX, TEST_PREDICTIONS, RunDir

# Of probabilities. Rounding in another order makes a millionth of it; a layer that was exported wrong makes far more.
AGREES_WITHIN = 1e-4


@contextlib.contextmanager
def with_onnx(
    report: SweepReport, inputs: Inputs, rows: TokenizedSplit, run_dir: RunDir, model: Path, say: Callable[[str], None]
) -> Iterator[tuple[SweepReport, Path | None]]:
    """Export a model where the spec asks for it.

    Args:
        report: The sweep's result.
        inputs: Its checked input.
        rows: Rows with which the file is checked.
        run_dir: Its run directory.
        model: The model that is handed over.
        say: Shows a text to the user.

    Yields:
        The report, which says how the export went, and the file as long as the context is open; None where none is to
        be handed over.
    """
    if inputs.spec.export == "none":
        yield report, None
        return
    file = run_dir.root / f".{MODEL_ONNX}.{uuid.uuid4().hex[:8]}"  # what a killed driver leaves of it is swept away
    try:
        say("writing the model as ONNX, and checking it")
        made = _export(model, file, rows, cast(int, inputs.tokenizer.pad_token_id))
        told = report.model_copy(update={"onnx": made})
        if made.problem is not None:
            warning = f"--export onnx: {MODEL_ONNX} was not handed over: {made.problem}"
            told = told.model_copy(update={"warnings": [*report.warnings, warning]})
            say(f"warning: {warning}")
        yield told, file if made.problem is None else None
    finally:
        file.unlink(missing_ok=True)


def _export(model: Path, file: Path, rows: TokenizedSplit, pad_id: int) -> OnnxExport:
    from trainable.train.onnx_export import export_onnx

    try:
        check = export_onnx(model, file, rows, pad_id)
    except Exception as error:  # torch's exporter and the runtime raise errors of many kinds; the search has its result
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return OnnxExport(rows=0, largest_difference=None, problem=f"it can't be exported ({one_line(first)[:300]})")
    problem = None
    if check.largest_difference > AGREES_WITHIN or check.other_labels:
        problem = (
            f"its probabilities differ from the model's by up to {check.largest_difference:.2g}, and "
            f"{check.other_labels} of {check.rows} rows get another class"
        )
    finite = check.largest_difference if math.isfinite(check.largest_difference) else None
    return OnnxExport(rows=check.rows, largest_difference=finite, problem=problem)


def export_finished(
    report: SweepReport, inputs: Inputs, stored: StoredSweep, run_dir: RunDir, say: Callable[[str], None]
) -> SweepReport:
    """Add the file to a sweep that is finished, where the spec asks for it and best/ has none."""
    if inputs.spec.export == "none" or (run_dir.best / MODEL_ONNX).is_file():
        return report
    before = report.model_copy(update={"warnings": [text for text in report.warnings if "--export onnx" not in text]})
    rows = inputs.tokenize("validation")
    with run_dir.locked(), with_onnx(before, inputs, rows, run_dir, run_dir.best, say) as (told, file):
        run_dir.write_spec(spec_document(inputs, stored.sweep_id, stored.precision))
        write_best(run_dir, told, run_dir.best, run_dir.best / TEST_PREDICTIONS, file)
        write_report(run_dir, told)
    return told
