"""Write a saved model as an ONNX file, and check that file's answers against the model's own."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainable.data.tokens import TokenizedSplit
from trainable.model.classifier import LAST_TOKEN_AT_THE_END
from trainable.train.batching import Batches

CHECKED_ROWS = 256
ROWS_AT_ONCE = 8
EXAMPLE_TOKENS = 16  # of the batch that the exporter follows through the model; other lengths are checked afterwards


@dataclass(frozen=True)
class OnnxCheck:
    """How far the answers of an ONNX file are from those of the model."""

    rows: int
    """How many rows were asked of both."""
    largest_difference: float
    """Of the probabilities of any class of any row."""
    other_labels: int
    """Rows that the two give different classes."""


class _Logits(nn.Module):
    """A classifier that takes its inputs in the order of their names, and answers with the logits alone."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """The logits, [rows, classes]."""
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def export_onnx(folder: Path, file: Path, split: TokenizedSplit, pad_id: int) -> OnnxCheck:
    """Export a model as transformers opens it, without this project's faster layers, and check the file.

    Args:
        folder: The model in Hugging Face's format.
        file: The ONNX file. It takes batches of any size and length.
        split: Rows to check it with; at most CHECKED_ROWS of them are used, and the longest is among them.
        pad_id: The token id that fills short rows.

    Raises:
        Exception: The exporter knows no form for something in the model, or the runtime does not take the file.
    """
    from transformers import AutoModelForSequenceClassification

    with _quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
        pads_left = model.config.model_type in LAST_TOKEN_AT_THE_END
        batches = Batches(split, pad_id, torch.device("cpu"), pads_left=pads_left)
        rows = _rows_to_check(batches.lengths)
        example = {name: tensor[:, :EXAMPLE_TOKENS] for name, tensor in batches.take(rows[-2:]).inputs.items()}
        _export(model, file, example)
        return _check(model, file, batches, rows)


def _rows_to_check(lengths: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first rows and the longest one, in the order of their lengths; a single row twice."""
    rows = np.unique([*range(min(CHECKED_ROWS - 1, len(lengths))), int(lengths.argmax())])
    return np.repeat(rows, 2) if len(rows) == 1 else rows[np.argsort(lengths[rows], kind="stable")]


def _export(model: nn.Module, file: Path, example: Mapping[str, Tensor]) -> None:
    names = tuple(example)
    torch.onnx.export(
        _Logits(model, names).eval(),
        tuple(example.values()),
        str(file),
        input_names=list(names),
        output_names=["logits"],
        dynamic_shapes=(tuple({0: "batch", 1: "sequence"} for _ in names),),
        external_data=False,
        dynamo=True,
        verbose=False,
    )


@torch.inference_mode()
def _check(model: nn.Module, file: Path, batches: Batches, rows: np.ndarray[Any, np.dtype[np.int64]]) -> OnnxCheck:
    """Ask both, in batches of rows of like length, whose last one is smaller."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences, others = [], 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        inputs = batches.take(rows[start : start + ROWS_AT_ONCE]).inputs
        (answered,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
        ours, theirs = model(**inputs).logits.softmax(dim=-1), torch.from_numpy(answered).softmax(dim=-1)
        differences.append(float((ours - theirs).abs().max()))
        others += int((ours.argmax(dim=-1) != theirs.argmax(dim=-1)).sum())
    # A number that is not finite compares with nothing: it must not pass.
    largest = max(differences) if np.isfinite(differences).all() else float("inf")
    return OnnxCheck(len(rows), largest, others)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns of deprecated parts of its own, and of packages that are not needed."""
    from transformers.utils import logging as their_logging

    verbosity, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        their_logging.set_verbosity(verbosity)
        if bars:
            their_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
