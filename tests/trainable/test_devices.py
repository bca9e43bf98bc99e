"""The precision is measured, and a measurement leaves nothing behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from trainable.hub.model_folder import encoder_widths
from trainable.train.devices import EncoderShape, cpu_threads, measure_precision


def test_precision_is_measured_for_both() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    seconds = measure_precision(EncoderShape(64, 128, 4), threads=1, use_gpu=False)
    assert set(seconds) == {"fp32", "bf16"}
    assert all(0 < value < 10 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), cpu_threads(before + 3):
        assert torch.get_num_threads() == before + 3
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("config", "widths"),
    [
        ('{"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12}', (384, 1536, 12)),
        ('{"dim": 64, "hidden_dim": 100, "n_heads": 4}', (64, 100, 4)),
        ('{"d_model": 10}', (10, 40, 1)),
        ("{}", (768, 3072, 12)),
    ],
)
def test_widths_are_read_from_the_models_configuration(config: str, widths: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    assert encoder_widths(tmp_path) == widths
