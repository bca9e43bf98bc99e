"""Which rows train together, in which order, and as which tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.config import Batching
from trainable.data.tokens import TokenizedSplit
from trainable.model.sliced_embedding import SlicedEmbedding

WINDOW_BATCHES = 32  # rows are sorted by length within windows of this many batches
# Lengths are padded to a multiple of this. A CPU's library keeps a kernel for each shape of a matrix product: fewer
# shapes save 400 MiB. GPUs compute whole tiles.
PAD_TO = 8
# Tokens that a CPU computes at once. More would need more memory for activations and gain no speed. A step's gradient
# is the same however its rows are divided.
CPU_TOKENS = 1024
EVAL_TOKENS = {"cpu": CPU_TOKENS, "cuda": 16384}


@dataclass(frozen=True)
class Batch:
    """The tensors of some rows."""

    inputs: dict[str, Tensor]
    """Token ids, attention mask and token types by the model's names for them, int64 [rows, padded length]."""

    labels: Tensor
    """int64 [rows], or [rows, classes] where a row has several classes."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)


def train_order(
    lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int, batching: Batching = "bucketed"
) -> list[npt.NDArray[np.int64]]:
    """The batches of one epoch, as row numbers; every row stands in one of them.

    "bucketed" shuffles the rows, sorts them by length within windows of 32 batches, cuts them into batches and shuffles
    the batches. About 97 % of the padded tensors is text then; in random batches it is 64 to 74 %. "shuffled" shuffles
    the rows and cuts them into batches.

    Args:
        lengths: Tokens of each row, int64 [rows].
        batch_size: Rows of a batch; the last batch may be smaller.
        seed: The trial's seed; together with the epoch it alone decides the order.
        epoch: From 0.
        batching: One of the two ways above.
    """
    random = np.random.default_rng([seed, epoch])
    rows = random.permutation(len(lengths))
    if batching == "shuffled":
        return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    window = batch_size * WINDOW_BATCHES
    pieces = [rows[i : i + window] for i in range(0, len(rows), window)]
    in_order = np.concatenate([piece[np.argsort(lengths[piece], kind="stable")] for piece in pieces])
    batches = [in_order[i : i + batch_size] for i in range(0, len(in_order), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def eval_order(
    lengths: npt.NDArray[np.int64], tokens_at_once: int, batching: Batching = "bucketed"
) -> list[npt.NDArray[np.int64]]:
    """The batches of an evaluation, as row numbers; nothing about them is random.

    Args:
        lengths: Tokens of each row, int64 [rows].
        tokens_at_once: "bucketed" sorts the rows by length and takes as many at once as these tokens hold.
        batching: "shuffled" takes 64 rows at once in the file's order, as evaluations are usually written.
    """
    if batching == "shuffled":
        return np.array_split(np.arange(len(lengths)), range(64, len(lengths), 64))
    rows = np.argsort(lengths, kind="stable")
    pieces, end = [], len(rows)
    while end:  # from the longest down: a piece's size follows from its last row
        start = max(0, end - max(1, tokens_at_once // _padded(int(lengths[rows[end - 1]]), PAD_TO)))
        pieces.append(rows[start:end])
        end = start
    return pieces


def cut_evenly(
    rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], tokens_at_once: int
) -> list[npt.NDArray[np.int64]]:
    """Cut a batch into the fewest pieces of like size of which none has more than these tokens, padding included.

    A row is never cut, so that a piece of one row may have more.
    """
    size = max(1, tokens_at_once // _padded(int(lengths[rows].max()), PAD_TO))
    return np.array_split(rows, -(-len(rows) // size))


def pieces_of(rows: npt.NDArray[np.int64], size: int | None) -> list[npt.NDArray[np.int64]]:
    """Cut rows into pieces of at most `size`; None leaves them in one piece."""
    return [rows] if size is None else [rows[i : i + size] for i in range(0, len(rows), size)]


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


class Batches:
    """Cuts a split into padded batches on one device.

    The split moves to the device once, as flat arrays, and batches are gathered there. During an epoch only row numbers
    cross the bus to a GPU.
    """

    def __init__(
        self,
        split: TokenizedSplit,
        pad_id: int,
        device: torch.device,
        *,
        sliced: SlicedEmbedding | None = None,
        pad_to: int = PAD_TO,
        pads_left: bool = False,
    ) -> None:
        """Move the split to the device.

        Args:
            split: The tokenised rows.
            pad_id: The token id that fills short rows.
            device: Where batches are wanted.
            sliced: Renumbers token ids for a word embedding that was cut down.
            pad_to: Batches are padded to a multiple of this many tokens.
            pads_left: Whether the padding stands before the text.
        """
        self.lengths = split.lengths
        self.device = device
        self.pad_to = pad_to
        self.pads_left = pads_left
        self._longest = int(self.lengths.max())
        ids = split.ids if sliced is None else sliced.renumber(split.ids)
        # One element more than there are tokens: places behind a short row's end point to it.
        self.pad_at = len(split.ids)
        self.ids = torch.cat([torch.tensor(ids, dtype=torch.int64), torch.tensor([pad_id])]).to(device)
        self.types: Tensor | None = None
        if split.token_types is not None:
            types = torch.tensor(split.token_types, dtype=torch.int64)
            self.types = torch.cat([types, torch.zeros(1, dtype=torch.int64)]).to(device)
        self._starts = torch.tensor(split.offsets[:-1], dtype=torch.int64).to(device)
        self._lengths = torch.tensor(self.lengths, dtype=torch.int64).to(device)
        self.labels = torch.tensor(split.labels, dtype=torch.int64).to(device)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64], padded_as: npt.NDArray[np.int64] | None = None) -> Batch:
        """Make the batch of these rows, padded to the longest of them and then to a multiple of `pad_to`.

        Args:
            rows: Row numbers.
            padded_as: Pad to the longest of these rows instead.
        """
        longest = int(self.lengths[rows if padded_as is None else padded_as].max())
        # No longer than the longest row of the split: the model may have no positions beyond it.
        width = max(longest, min(_padded(longest, self.pad_to), self._longest))
        wanted = self._on_device(rows)
        starts, lengths = self._starts[wanted, None], self._lengths[wanted, None]
        in_row = torch.arange(width, device=self.device)[None, :]
        if self.pads_left:
            in_row = in_row - (width - lengths)
        at = torch.where((in_row >= 0) & (in_row < lengths), starts + in_row, self.pad_at)
        inputs = {"input_ids": self.ids[at], "attention_mask": (at != self.pad_at).to(torch.int64)}
        if self.types is not None:
            inputs["token_type_ids"] = self.types[at]
        return Batch(inputs, self.labels[wanted])

    def _on_device(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Row numbers on the device. From pinned memory they cross the bus while the host goes on."""
        numbers = torch.from_numpy(rows)
        return numbers.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else numbers
