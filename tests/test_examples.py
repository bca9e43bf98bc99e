"""The examples run as they stand, on fewer rows: the script, and the notebook in a kernel of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "sweep_on_demo.ipynb"
TRAIN_ROWS = 32
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.mark.timeout(600)
def test_the_script_searches_reads_the_report_and_labels_a_pair(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "sweep_on_demo.py", "run", "--train-rows", str(TRAIN_ROWS)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **QUIET}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert len([trial for trial in report["trials"] if trial["confirms"] is None]) == 2
    assert report["rows"]["train"] == TRAIN_ROWS
    for line in ("trial 0: ", "trial 1: ", f"test f1 {report['test']['f1']:.4f}; "):
        assert f"\n{line}" in done.stdout
    assert "-> {'label': '" in done.stdout.splitlines()[-1]


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_and_keeps_what_it_printed(tmp_path: Path) -> None:
    """Ray Tune's reporter for notebooks would clear the cell's output while trials run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["parameters"].source = f"OUT = 'run'\nTRAIN_ROWS = {TRAIN_ROWS}"
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    text = {name: "".join(_texts(cell)) for name, cell in cells.items() if cell.cell_type == "code"}
    places = [text["search"].find(line) for line in ("sweep demo: 2 trials ", "trial state", "best model ")]
    assert -1 < places[0] < places[1] < places[2], text["search"]
    assert text["search"].count("trial state") == 1, "the table is one output, which is updated"
    assert "2 done" in text["search"][places[1] : places[2]], "and shows the end"
    assert "Missing packages" not in text["search"]
    assert "accuracy" in text["report"]
    assert all(word in text["trials"] for word in ("COMPLETE", "config.learning_rate"))
    assert "learning_curves" in text["curves"]
    assert "application/vnd.plotly.v1+json" in json.dumps(cells["curves"].outputs)
    assert "'label': '" in text["label"]


def _texts(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows, as text."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in texts]
