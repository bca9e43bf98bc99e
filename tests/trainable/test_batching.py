"""Which rows train together, and as which tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainable.config import Batching
from trainable.data.tokens import TokenizedSplit
from trainable.train.batching import PAD_TO, Batches, cut_evenly, eval_order, train_order


def make_split(lengths: list[int], *, types: bool = True) -> TokenizedSplit:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offsets[-1])
    return TokenizedSplit(
        ids=np.arange(1, total + 1, dtype=np.int32),
        offsets=offsets,
        token_types=(np.arange(total) % 2).astype(np.uint8) if types else None,
        labels=(np.arange(len(lengths)) % 3).astype(np.int64),
    )


LENGTHS = np.random.default_rng(0).integers(5, 90, size=1000)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000, 5000])
def test_every_row_trains_once_an_epoch(batch_size: int) -> None:
    batches = train_order(LENGTHS, batch_size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert all(len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-1000 // batch_size)


def test_the_order_hangs_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for batch in train_order(LENGTHS, 16, seed, epoch) for row in batch]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_little_is_padded() -> None:
    batches = train_order(LENGTHS, 16, seed=0, epoch=0)
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
    assert LENGTHS.sum() / padded > 0.93
    shuffled = np.random.default_rng(1).permutation(1000).reshape(-1, 20)
    at_random = sum(int(LENGTHS[batch].max()) * len(batch) for batch in shuffled)
    assert LENGTHS.sum() / at_random < 0.65


@pytest.mark.parametrize("batching", ["bucketed", "shuffled"])
@pytest.mark.parametrize("tokens", [1, 100, 2048, 10**6])
def test_eval_order_has_every_row_once(tokens: int, batching: Batching) -> None:
    batches = eval_order(LENGTHS, tokens, batching)
    assert sorted(np.concatenate(batches)) == list(range(1000))
    if batching == "bucketed":
        assert all(padded_tokens(batch) <= tokens or len(batch) == 1 for batch in batches)


@pytest.mark.parametrize("tokens", [1, 100, 1024, 10**6])
def test_a_batch_is_cut_into_as_few_even_pieces_as_fit(tokens: int) -> None:
    rows = np.argsort(LENGTHS)[300:331]
    pieces = cut_evenly(rows, LENGTHS, tokens)
    assert np.concatenate(pieces).tolist() == rows.tolist()
    assert all(padded_tokens(piece) <= tokens or len(piece) == 1 for piece in pieces)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert len(pieces) == 1 or (len(pieces) - 1) * tokens < padded_tokens(rows) + 90 * len(pieces)


def padded_tokens(rows: np.ndarray) -> int:
    return len(rows) * -(-int(LENGTHS[rows].max()) // PAD_TO) * PAD_TO


def test_shuffled_batches_are_the_same_rows_in_no_order_of_length() -> None:
    batches = train_order(LENGTHS, 16, seed=0, epoch=0, batching="shuffled")
    assert sorted(np.concatenate(batches)) == list(range(1000))
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
    assert LENGTHS.sum() / padded < 0.65


def test_lengths_are_padded_to_a_multiple() -> None:
    batch = Batches(make_split([3, 9, 4, 30]), pad_id=0, device=torch.device("cpu")).take(np.array([2, 1]))
    assert batch.inputs["input_ids"].shape == (2, 16)
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [4, 9]


@pytest.mark.parametrize("types", [True, False])
def test_a_batch_holds_its_rows_padded_to_the_longest(types: bool) -> None:
    split = make_split([3, 1, 4], types=types)
    batch = Batches(split, pad_id=0, device=torch.device("cpu"), pad_to=1).take(np.array([2, 0]))
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 7, 8], [1, 2, 3, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.labels.tolist() == [2, 0]
    assert ("token_type_ids" in batch.inputs) == types
    if types:
        assert batch.inputs["token_type_ids"].tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]


def test_a_real_token_that_is_the_padding_token_stays_visible() -> None:
    split = make_split([2, 3])
    batch = Batches(split, pad_id=1, device=torch.device("cpu"), pad_to=1).take(np.array([0, 1]))
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_no_batch_is_padded_beyond_the_longest_row_there_is() -> None:
    batch = Batches(make_split([3, 13, 4]), pad_id=0, device=torch.device("cpu")).take(np.array([1, 2]))
    assert batch.inputs["input_ids"].shape == (2, 13)
