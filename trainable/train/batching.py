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
# Lengths are padded to a multiple of this: fewer shapes of matrix products, for each of which a CPU's library keeps
# a kernel (400 MiB without it), and whole tiles on GPUs.
PAD_TO = 8


@dataclass(frozen=True)
class Batch:
    """Tensors of some rows: ids, mask and types are int64 [rows, padded length], labels int64 [rows]."""

    inputs: dict[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def train_order(
    lengths: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int, batching: Batching = "bucketed"
) -> list[npt.NDArray[np.int64]]:
    """The batches of one epoch, as row numbers: every row once.

    bucketed: rows are shuffled, sorted by length within windows of 32 batches, cut into batches, and the batches are
    shuffled again: about 97 % of the padded tensor is text where random batches have 64 to 74 %.
    shuffled: rows are shuffled and cut into batches.
    The order depends on (seed, epoch) alone.
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
    """The batches of an evaluation, nothing random: all rows by length, as many at once as fit into the tokens.

    shuffled: 64 rows at once in the file's order, as evaluations are usually written.
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
    """Cut a batch into as few pieces of like size as hold no more tokens each when padded; a row is never cut."""
    size = max(1, tokens_at_once // _padded(int(lengths[rows].max()), PAD_TO))
    return np.array_split(rows, -(-len(rows) // size))


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


class Batches:
    """Cuts a split into padded batches on one device.

    The split itself is moved to the device once, flat; a batch is gathered there, so that on a GPU nothing
    but row numbers crosses the bus during an epoch.
    """

    def __init__(
        self,
        split: TokenizedSplit,
        pad_id: int,
        device: torch.device,
        *,
        sliced: SlicedEmbedding | None = None,
        pad_to: int = PAD_TO,
    ) -> None:
        self.lengths = split.lengths
        self.device = device
        self.pad_to = pad_to
        self._longest = int(self.lengths.max())
        ids = split.ids if sliced is None else sliced.renumber(split.ids)
        # One more element than there are tokens: what lies behind a short row's end points there.
        self.pad_at = len(split.ids)
        self.ids = torch.cat([torch.tensor(ids, dtype=torch.int64), torch.tensor([pad_id])]).to(device)
        self.types: Tensor | None = None
        if split.token_types is not None:
            types = torch.tensor(split.token_types, dtype=torch.int64)
            self.types = torch.cat([types, torch.zeros(1, dtype=torch.int64)]).to(device)
        self.offsets = np.asarray(split.offsets)
        self.labels = torch.tensor(split.labels, dtype=torch.int64).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64], padded_as: npt.NDArray[np.int64] | None = None) -> Batch:
        """The batch of these rows, padded to the longest of them and on to a multiple of `pad_to`.

        padded_as: pad to the longest of these rows instead
        """
        lengths = self.lengths[rows]
        longest = int(self.lengths[rows if padded_as is None else padded_as].max())
        # Never longer than a row of the split: models have positions for those only.
        columns = np.arange(max(longest, min(_padded(longest, self.pad_to), self._longest)))
        inside = columns[None, :] < lengths[:, None]
        places = np.where(inside, self.offsets[rows][:, None] + columns[None, :], self.pad_at)
        at = torch.from_numpy(places).to(self.device, non_blocking=True)
        inputs = {"input_ids": self.ids[at], "attention_mask": (at != self.pad_at).to(torch.int64)}
        if self.types is not None:
            inputs["token_type_ids"] = self.types[at]
        return Batch(inputs, self.labels[torch.from_numpy(rows).to(self.device, non_blocking=True)])
