"""A saved model gives new texts their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch

from trainable.data.tokens import tokenize
from trainable.model.classifier import Classifier
from trainable.tasks import DEFAULT_TASK, TASKS
from trainable.train.batching import EVAL_TOKENS, Batch, Batches, eval_order, pieces_of
from trainable.train.devices import cpu_threads, pick_device
from trainable.train.loop import Rows, evaluate
from trainable.train.memory import MicroBatchLimit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Labeller:
    """A model that is loaded once and labels any number of texts, in float32."""

    def __init__(
        self,
        folder: str,
        label_names: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        threads: int,
        use_gpu: bool = True,
    ) -> None:
        """Load a model.

        Args:
            folder: The model in Hugging Face's format.
            label_names: The classes' names by id.
            tokenizer: The model's.
            max_length: Longer texts are cut to so many tokens, as in training.
            threads: CPU threads to compute with.
            use_gpu: Whether to compute on a GPU where there is one.
        """
        self._tokenizer, self._max_length, self._threads = tokenizer, max_length, threads
        self._device, self._task = pick_device(use_gpu), TASKS[DEFAULT_TASK]
        self._pad_id = cast(int, tokenizer.pad_token_id)
        with cpu_threads(threads):
            self._classifier = Classifier(folder, label_names, self._device, pad_id=self._pad_id, task=self._task)
        self._limit = MicroBatchLimit()

    def probabilities(self, columns: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
        """The probability of each class for each text, float64 [rows, classes].

        Args:
            columns: The texts; or the first and the second text of each pair.
        """
        split = tokenize(columns, [0] * len(columns[0]), self._tokenizer, self._max_length)
        batches = Batches(split, self._pad_id, self._device, pads_left=self._classifier.pads_left)
        order = eval_order(batches.lengths, EVAL_TOKENS[self._device.type])

        def take(rows: Rows) -> list[Batch]:
            return [batches.take(piece) for piece in pieces_of(rows, self._limit.rows)]

        with cpu_threads(self._threads):
            _, logits = evaluate(
                self._classifier.module,
                order,
                take,
                self._limit.halve,
                count=lambda logits, labels: torch.zeros(1, device=logits.device),
                precision="fp32",
                keep=lambda logits, labels: logits,
            )
        if logits is None:
            raise ValueError("no text is to be labelled")
        probabilities: npt.NDArray[np.float64] = self._task.probabilities(logits.double()).cpu().numpy()
        return probabilities
