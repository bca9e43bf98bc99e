"""`--export onnx`: best/model.onnx beside the weights, after a search or of a finished one; only where it agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_pairs
from tests.tune.test_end_to_end import command
from tests.tune.test_reproduce import inputs_of
from tests.tune.test_shown import report_of
from trainable.storage.folders import is_whole
from trainable.train import onnx_export
from trainable.train.onnx_export import OnnxCheck
from tune.publish import make_publication
from tune.report.files import write_best
from tune.report.model_card import model_card
from tune.report.results import OnnxExport, SweepReport
from tune.report.words import conclusion
from tune.run_dir.layout import MODEL_ONNX, RunDir
from tune.search import main
from tune.sweep.onnx_model import AGREES_WITHIN, with_onnx

onnxruntime = pytest.importorskip("onnxruntime")


def exported(
    check: OnnxCheck | Exception, tmp_path: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SweepReport, str | None, list[str]]:
    """What comes of an export whose check gives this: the report, the file's text while it is there, what was said."""

    def export(folder: Path, file: Path, *_: Any) -> OnnxCheck:
        file.write_text("onnx")
        if isinstance(check, Exception):
            raise check
        return check

    monkeypatch.setattr(onnx_export, "export_onnx", export)
    inputs = inputs_of(model, data, export="onnx")
    run_dir, said = RunDir(tmp_path), []
    before = {path.name for path in tmp_path.iterdir()}
    with with_onnx(report_of("name"), inputs, inputs.tokenize("validation"), run_dir, model, said.append) as (
        report,
        file,
    ):
        text = None if file is None else file.read_text()
    assert {path.name for path in tmp_path.iterdir()} == before, "nothing is left beside the model"
    return report, text, said


def test_a_file_that_agrees_is_handed_over_and_told(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, text, _ = exported(OnnxCheck(48, 2e-7, 0), tmp_path, tiny_model, tiny_data, monkeypatch)
    assert text == "onnx"
    assert report.onnx == OnnxExport(rows=48, largest_difference=2e-7)
    assert report.warnings == report_of("name").warnings
    assert report.as_json()["onnx"] == {"rows": 48, "largest_difference": 2e-7, "problem": None}
    assert 'onnxruntime.InferenceSession("model.onnx")' in model_card(report)
    told = [line for line in conclusion(report, "run") if MODEL_ONNX in line]
    assert told == [
        "as ONNX      run/best/model.onnx   (its probabilities are those of the model within 2e-07, on 48 rows)"
    ]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (
            OnnxCheck(48, 2 * AGREES_WITHIN, 0),
            "its probabilities differ from the model's by up to 0.0002, and 0 of 48 rows get another class",
        ),
        (OnnxCheck(48, 1e-6, 1), "differ from the model's by up to 1e-06, and 1 of 48 rows get another class"),
        (OnnxCheck(48, float("inf"), 0), "differ from the model's by up to inf"),
        (RuntimeError("\nno such operator: x\nand more"), "it can't be exported (no such operator: x)"),
    ],
)
def test_a_file_that_does_not_agree_is_a_warning_and_not_handed_over(
    check: OnnxCheck | Exception,
    told: str,
    tmp_path: Path,
    tiny_model: Path,
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report, text, said = exported(check, tmp_path, tiny_model, tiny_data, monkeypatch)
    assert text is None
    assert report.onnx is not None
    assert told in str(report.onnx.problem)
    assert report.warnings[-1] == f"--export onnx: model.onnx was not handed over: {report.onnx.problem}"
    assert said[-1] == f"warning: {report.warnings[-1]}"
    assert "onnxruntime" not in model_card(report)
    assert not any(MODEL_ONNX in line and "as ONNX" in line for line in conclusion(report, "run"))
    json.dumps(report.as_json())


def test_the_file_stays_where_best_is_written_again_and_goes_with_its_model(tiny_model: Path, tmp_path: Path) -> None:
    run_dir, report, file = RunDir(tmp_path / "run"), report_of("name"), tmp_path / "made"
    run_dir.root.mkdir()
    file.write_text("onnx")
    write_best(run_dir, report, tiny_model, tmp_path / "no predictions", file)
    write_best(run_dir, report, run_dir.best, tmp_path / "no predictions")
    assert (run_dir.best / MODEL_ONNX).read_text() == "onnx"
    assert is_whole(run_dir.best)
    write_best(run_dir, report, tiny_model, tmp_path / "no predictions")
    assert not (run_dir.best / MODEL_ONNX).exists(), "the file is of the model that was there before"


def test_a_report_without_the_field_opens() -> None:
    whole = report_of("adamw").as_json()
    del whole["onnx"]
    assert SweepReport.from_json(whole).onnx is None


def test_missing_packages_are_told_at_once(
    tiny_model: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if "onnx" in name else real(name, *rest))
    flags = ["--dataset", str(tiny_data), "--model", str(tiny_model), "--out", str(tmp_path / "run")]
    assert main([*flags, "--export", "onnx", "--set", "num_gpus=-1"]) == 2
    told = capsys.readouterr().err
    assert (
        "--export onnx: onnx and onnxscript and onnxruntime are not installed; pip install 'finetune-search[onnx]'"
        in told
    )
    assert "num_gpus" in told, "with everything else that is wrong"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # two sweeps' worth of Ray, and torch's exporter, which takes half a minute on one core
def test_a_finished_sweep_gets_its_file_and_an_extended_one_keeps_the_wish(tiny_model: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
    flags = ("--num-trials", 1, "--space", "epochs=1", "--precision", "fp32", "--max-length", 48, "--confirm", "none")
    done = command(
        "tune.search", "--dataset", data, "--model", tiny_model, "--out", "run", *flags, cwd=tmp_path, limit_s=300
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    before = json.loads((run / "report.json").read_text())
    weights = (run / "best" / "model.safetensors").read_bytes()

    done = command("tune.search", "--out", "run", "--export", "onnx", cwd=tmp_path, limit_s=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "chatter"
    report = json.loads((run / "report.json").read_text())
    assert report["onnx"]["rows"] == 48
    assert report["onnx"]["largest_difference"] < 1e-5
    assert {**report, "onnx": None} == {**before, "onnx": None}
    assert is_whole(run / "best")
    assert (run / "best" / "model.safetensors").read_bytes() == weights
    assert MODEL_ONNX in make_publication(run, "user/name").files
    assert "as ONNX" not in done.stdout or "best/model.onnx" in done.stdout

    agrees(run, data)
    again = command("tune.search", "--out", "run", cwd=tmp_path, limit_s=300)
    assert "writing the model as ONNX" not in again.stdout, "it is there already"
    done = command("tune.search", "--out", "run", "--num-trials", 2, cwd=tmp_path, limit_s=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "report.json").read_text())["onnx"]["problem"] is None
    agrees(run, data)


def agrees(run: Path, data: Path) -> None:
    """What the card says: the tokenizer beside the file makes its inputs; the answers are those of `tune.predict`."""
    from transformers import AutoTokenizer

    from tune.predict import Predictor

    rows = [line.split(",") for line in (data / "test.csv").read_text().splitlines()[1:]]
    first, second = [row[0] for row in rows], [row[1] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(run / "best")
    session = onnxruntime.InferenceSession(str(run / "best" / MODEL_ONNX), providers=["CPUExecutionProvider"])
    inputs = tokenizer(first, second, truncation=True, padding=True, return_tensors="np")
    (logits,) = session.run(["logits"], dict(inputs))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(chances, Predictor(run).probabilities([first, second]), atol=1e-5)
