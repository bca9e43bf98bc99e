"""Train only the rows of the word embedding that the data uses.

A row that never occurs gets no gradient: AdamW does nothing to it but decay it. Left out of the model, it costs no
memory traffic, no optimizer state and no bytes in a state; put back with the decay it missed, it is as if it had
stayed (up to rounding in its last bits).
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
    """A model's word embedding cut down, in place, to the rows that the splits use.

    ids: int64 [rows kept], ascending; name: the embedding's in the state dict
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
        """Row numbers of the small embedding for token ids, all of which must be among those kept."""
        return np.searchsorted(self.ids, ids).astype(np.int64)

    def whole(self, weights: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
        """The model's weights with the whole embedding, on the CPU; `decay` is what the rows left out missed."""
        rows = torch.empty(len(self.ids) + len(self._unused_ids), self._unused_rows.shape[1])
        rows[torch.from_numpy(self.ids)] = weights[self.name].detach().cpu()
        rows[self._unused_ids] = self._unused_rows * decay
        return {**weights, self.name: rows}


def can_slice(model: PreTrainedModel, pad_id: int) -> bool:
    """Whether the word embedding is a plain table that nothing else in the model shares, and can become smaller."""
    embedding = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.sparse:
        return False
    if _kept_below(model, pad_id) >= embedding.num_embeddings:
        return False
    uses = [1 for _, parameter in model.named_parameters(remove_duplicate=False) if parameter is embedding.weight]
    return len(uses) == 1


def _kept_below(model: PreTrainedModel, pad_id: int) -> int:
    """Models compare ids with those of special tokens: these keep their numbers, and so do all below them."""
    embedding = model.get_input_embeddings()
    padding = embedding.padding_idx if isinstance(embedding, nn.Embedding) else None
    return max([pad_id, padding or 0, *_special_ids(model.config)]) + 1


def _special_ids(config: PretrainedConfig) -> list[int]:
    values = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if isinstance(item, int) and item >= 0]
