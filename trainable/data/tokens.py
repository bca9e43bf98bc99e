"""Tokenise a split once for all trials, as flat arrays that Ray's object store shares without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainable.data.splits import Label

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizedSplit:
    """The rows of one split, one after another."""

    ids: npt.NDArray[np.int32]
    """[tokens]: the token ids of all rows."""
    offsets: npt.NDArray[np.int64]
    """[rows + 1]: row i is `ids[offsets[i]:offsets[i + 1]]`."""
    token_types: npt.NDArray[np.uint8] | None
    """[tokens], or None if the model has no such input."""
    labels: npt.NDArray[np.int64]
    """[rows]: class ids; or [rows, classes] of 0 and 1 where a row has several classes."""
    truncated: int = 0
    """How many rows were longer than the limit and lost tokens."""
    whole_lengths: npt.NDArray[np.int64] | None = None
    """[rows]: tokens of each row before it was cut; None where it is not known any more."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per row, int64 [rows]."""
        return np.diff(self.offsets)

    def counts(self, num_labels: int) -> list[int]:
        """Rows per class."""
        return [int(n) for n in np.bincount(self.labels, minlength=num_labels)]


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model's folder without running code from the folder.

    One that has no padding token, as many decoders' have none, pads with its end token.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def borrowed_pad_token(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The end token where it is the padding token, too; else None."""
    return str(tokenizer.pad_token) if tokenizer.pad_token_id == tokenizer.eos_token_id else None


def tokenize(
    columns: Sequence[Sequence[str]], labels: Sequence[Label], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenizedSplit:
    """Tokenise the rows of a split.

    Args:
        columns: One or two text columns. Two make pairs; of a pair that is too long, the longer text is cut first.
        labels: One for each row.
        tokenizer: The model's.
        max_length: The largest number of tokens that a row keeps, special tokens included.
    """
    # We tokenise whole rows first and cut in a second pass, to know how many rows lost tokens.
    encoded: Any = tokenizer(
        *[list(column) for column in columns],
        truncation=False,
        add_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
    )
    limit = min(max_length, int(tokenizer.model_max_length))
    whole_lengths = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
    too_long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > limit]
    rows: list[list[int]] = list(encoded["input_ids"])
    has_types = "token_type_ids" in encoded
    types: list[list[int]] = list(encoded["token_type_ids"]) if has_types else []
    if too_long:
        cut: Any = tokenizer(
            *[[column[i] for i in too_long] for column in columns],
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            verbose=False,
        )
        for place, i in enumerate(too_long):
            rows[i] = cut["input_ids"][place]
            if has_types:
                types[i] = cut["token_type_ids"][place]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return TokenizedSplit(
        ids=_flat(rows, np.int32),
        offsets=offsets,
        token_types=_flat(types, np.uint8) if has_types else None,
        labels=np.asarray(labels, dtype=np.int64),
        truncated=len(too_long),
        whole_lengths=whole_lengths,
    )


def _flat(rows: Sequence[Sequence[int]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(row, dtype=dtype) for row in rows]) if rows else np.zeros(0, dtype=dtype)
