"""Train only the rows of the word embedding that the data uses.

A row whose token never occurs gets no gradient; weight decay is all that happens to it. We leave such rows out of the
model, which saves memory traffic, optimizer state and bytes on disk. When the model is written, the rows are put back
with the decay that they missed, which the optimizer knows; they differ from trained ones in the last bits at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

from trainable.data.tokens import TokenizedSplit


class SlicedEmbedding:
    """A model's word embedding, cut down in place to the rows that the splits use.

    Attributes:
        name: The embedding's name in the model's state dict.
        ids: The token ids whose rows are kept, int64 [rows kept], ascending.
    """

    def __init__(self, model: PreTrainedModel, splits: Sequence[TokenizedSplit], pad_id: int) -> None:
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)  # can_slice
        self.name = next(name for name, p in model.named_parameters() if p is embedding.weight)
        used = np.zeros(embedding.num_embeddings, dtype=bool)
        used[: _kept_below(model, pad_id)] = True
        for split in splits:
            used[split.ids] = True
        self.ids = np.flatnonzero(used)
        weight = embedding.weight.detach()
        self._unused_ids = torch.from_numpy(np.flatnonzero(~used))
        self._unused_rows = weight[self._unused_ids].clone()
        embedding.weight = nn.Parameter(weight[torch.from_numpy(self.ids)].clone())
        embedding.num_embeddings = len(self.ids)

    def renumber(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The row numbers in the small embedding of these token ids, all of which must be among those kept."""
        return np.searchsorted(self.ids, ids).astype(np.int64)

    def whole(self, weights: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
        """The model's weights with the whole embedding, which lies on the CPU.

        Args:
            weights: With the small embedding.
            decay: The factor by which weight decay would have shrunk the rows that were left out.
        """
        rows = torch.empty(len(self.ids) + len(self._unused_ids), self._unused_rows.shape[1])
        rows[torch.from_numpy(self.ids)] = weights[self.name].detach().cpu()
        rows[self._unused_ids] = self._unused_rows * decay
        return {**weights, self.name: rows}


def can_slice(model: PreTrainedModel, pad_id: int) -> bool:
    """Whether rows can be left out: the word embedding is a plain table, has rows to spare, and is tied to nothing.

    A second table with as many rows is looked up by the same ids, as T5Gemma's decoder does.
    """
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:  # CANINE's is made of hashes
        return False
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.sparse:
        return False
    if _kept_below(model, pad_id) >= embedding.num_embeddings:
        return False
    uses = [1 for _, parameter in model.named_parameters(remove_duplicate=False) if parameter is embedding.weight]
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and len(m.weight) == len(embedding.weight)]
    return len(uses) == 1 and len(tables) == 1


def _kept_below(model: PreTrainedModel, pad_id: int) -> int:
    """How many rows keep their numbers: models compare ids with those of special tokens, so none up to these moves."""
    embedding = model.get_input_embeddings()
    padding = embedding.padding_idx if isinstance(embedding, nn.Embedding) else None
    return max([pad_id, padding or 0, *_special_ids(model.config)]) + 1


def _special_ids(config: PretrainedConfig) -> list[int]:
    values = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if isinstance(item, int) and item >= 0]
