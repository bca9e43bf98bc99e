"""The ONNX file answers as the model does, whatever the batch; and a check that can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.train.onnx_export import CHECKED_ROWS, ROWS_AT_ONCE, _rows_to_check, export_onnx
from trainable.train.run import FineTuningRun

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained with our faster layers and a word embedding that was cut down."""
    run = FineTuningRun(make_job(tiny_model))
    run.reset(TrialConfig(learning_rate=3e-3, batch_size=8, epochs=1), seed=1)
    run.next_epoch()
    folder = tmp_path_factory.mktemp("trained") / "model"
    run.write_best(folder)
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    job = make_job(tiny_model)
    check = export_onnx(trained, file, job.validation, job.pad_id)
    assert check.rows == len(job.validation)
    assert check.largest_difference < 1e-5
    assert check.other_labels == 0
    return file


@pytest.mark.slow  # torch's exporter takes half a minute on one core
def test_it_takes_batches_of_any_size_and_length(exported: Path, trained: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    model = AutoModelForSequenceClassification.from_pretrained(trained).eval()
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    assert all(each.shape == ["batch", "sequence"] for each in session.get_inputs())
    random = np.random.default_rng(0)
    for rows, tokens in ((1, 2), (1, 40), (3, 9), (17, 64)):
        ids = random.integers(5, 60, (rows, tokens))
        mask = (np.arange(tokens) < random.integers(1, tokens + 1, (rows, 1))).astype(np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (logits,) = session.run(["logits"], inputs)
        with torch.inference_mode():
            ours = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits
        assert np.allclose(logits, ours.numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_found(
    trained: Path, tiny_model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check runs the file and not the model: with another model's file in its place it says so."""
    import shutil

    from trainable.train import onnx_export

    job = make_job(tiny_model)
    other = FineTuningRun(job)
    other.reset(TrialConfig(learning_rate=3e-3, batch_size=8, epochs=1), seed=2)
    other.next_epoch()
    other.write_best(tmp_path / "other")
    monkeypatch.setattr(onnx_export, "_export", lambda model, file, example: shutil.copyfile(exported, file))
    check = export_onnx(tmp_path / "other", tmp_path / "model.onnx", job.validation, job.pad_id)
    assert check.largest_difference > 1e-4


@pytest.mark.parametrize("count", [1, 2, 9, CHECKED_ROWS, 3 * CHECKED_ROWS])
def test_the_rows_that_are_checked_hold_the_longest(count: int) -> None:
    lengths = np.random.default_rng(count).integers(2, 500, count)
    rows = _rows_to_check(lengths)
    assert 2 <= len(rows) <= CHECKED_ROWS
    assert lengths[rows].max() == lengths.max()
    assert (np.diff(lengths[rows]) >= 0).all()
    assert ROWS_AT_ONCE < CHECKED_ROWS
