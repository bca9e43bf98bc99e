"""What makes a step fast changes nothing but rounding: 24 steps in float32 without dropout, each change taken away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.model import classifier as model_module
from trainable.train import run as run_module
from trainable.train.run import FineTuningRun

CONFIG = TrialConfig(
    learning_rate=2e-3, batch_size=8, epochs=2, warmup_fraction=0.1, weight_decay=0.3, max_grad_norm=0.5, dropout=0.0
)

# What takes each change away, as (module, name, plain form).
PLAIN = {
    "sliced embedding": (model_module, "can_slice", lambda model, pad_id: False),
    "first token only": (model_module, "compute_first_token_only", lambda model: False),
    "attention": (model_module, "attention_for", lambda model_type: "eager"),
    "pieces of a batch": (run_module, "CPU_TOKENS", 10**9),
    "padding to 8": (run_module, "PAD_TO", 1),
}


def trained(run: FineTuningRun, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    run.reset(CONFIG, 3)
    while not run.done:
        run.next_epoch()
    run.write_best(folder)
    return [loss for r in run.history for loss in (r.train_loss, r.scores["loss"])], load_file(
        folder / "model.safetensors"
    )


@pytest.mark.parametrize("taken_away", [[name] for name in PLAIN] + [list(PLAIN)], ids=lambda names: names[0])
def test_it_trains_what_the_plain_form_trains(
    taken_away: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tiny_model)
    monkeypatch.setattr(run_module, "CPU_TOKENS", 100)  # else no batch of these short rows is cut
    fast = FineTuningRun(job)
    losses, weights = trained(fast, tmp_path / "fast")
    for name in taken_away:
        module, attribute, plain_form = PLAIN[name]
        monkeypatch.setattr(module, attribute, plain_form)
    plain = FineTuningRun(job)
    assert (plain.classifier.sliced is None) == ("sliced embedding" in taken_away)
    assert plain.classifier.first_token_only == ("first token only" not in taken_away)
    assert (plain.classifier.module.config._attn_implementation == "eager") == ("attention" in taken_away)
    expected_losses, expected = trained(plain, tmp_path / "plain")
    check_that_rows_were_left_out_and_decayed(fast, expected, load_file(tiny_model / "model.safetensors"))
    assert losses == pytest.approx(expected_losses, abs=1e-4)
    assert weights.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, atol=2e-5, rtol=1e-4)


def check_that_rows_were_left_out_and_decayed(
    fast: FineTuningRun, expected: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> None:
    """Else the embedding's comparison would show nothing."""
    sliced = fast.classifier.sliced
    assert sliced is not None
    left_out = torch.ones(len(start[sliced.name]), dtype=torch.bool)
    left_out[sliced.ids] = False
    assert left_out.float().mean() > 0.2
    assert not torch.allclose(expected[sliced.name][left_out], start[sliced.name][left_out], atol=1e-4)
