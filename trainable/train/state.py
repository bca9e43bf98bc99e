"""A trial's whole state on disk: all that its next step depends on, so that a resumed trial ends bit-equal.

A state folder holds `state.safetensors` (weights, optimizer, random numbers), `best.safetensors` (the weights of the
best epoch) and `state.json` (whose state it is, and the epochs so far).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainable.config import TrialConfig
from trainable.epoch_scores import EpochScores, RungScores
from trainable.model.weights import read_tensors, write_tensors
from trainable.storage.folders import is_whole, recorded_sha256, write_folder

TENSORS, BEST, FACTS = "state.safetensors", "best.safetensors", "state.json"
LOSS_SUM = "epoch.loss_sum"
BEGUN_FACTS = ("steps", "began_at", "train_s", "eval_s", "point_steps", "point_loss_sum")


@dataclass(frozen=True)
class Owner:
    """Whose state it is. A state with another owner is never loaded."""

    sweep_id: str | None
    """The sweep; another sweep may have a trial with the same configuration and seed."""

    config: TrialConfig
    """The trial's hyperparameters."""

    seed: int
    """The trial's seed."""


@dataclass(frozen=True)
class BegunEpoch:
    """An epoch that is not finished yet."""

    steps: int
    """Its optimizer steps so far."""

    loss_sum: Tensor | None
    """The training loss summed over the rows of these steps, nats; None before the first one."""

    began_at: float
    """When its training began, seconds since 1970."""

    train_s: float
    """How long it was trained so far, seconds."""

    eval_s: float = 0.0
    """How long its evaluations at rungs took so far, seconds."""

    point_steps: int = 0
    """Its steps at the last point of its curve."""

    point_loss_sum: float = 0.0
    """What `loss_sum` was at that point."""

    def on(self, device: torch.device) -> BegunEpoch:
        """The same, with the loss on a device."""
        return self if self.loss_sum is None else replace(self, loss_sum=self.loss_sum.to(device))


@dataclass(frozen=True)
class SavedState:
    """A trial's state, in memory and on disk."""

    history: list[EpochScores]
    """All epochs so far."""

    rungs: list[RungScores]
    """All evaluations within epochs so far."""

    begun: BegunEpoch | None
    """The epoch that is not finished; None at the end of one."""

    rows_at_once: int | None
    """The most rows that are computed together since memory ran out; None where it never did."""

    best: EpochScores | None
    """The best of them."""

    weights: Mapping[str, Tensor]
    """The model's weights by name."""

    optimizer: Mapping[int, dict[str, Tensor]]
    """The optimizer's state: of each parameter by its number, tensors by name."""

    random: Mapping[str, Tensor]
    """The state of torch's random numbers: "cpu" and, where a GPU trained, "cuda"."""

    scaler: Mapping[str, float]
    """How the losses are scaled; empty where they are not."""

    best_weights: Mapping[str, Tensor]
    """The weights after the best epoch, by name."""


def save_state(folder: Path, owner: Owner, state: SavedState) -> int:
    """Write a state folder, all or nothing; returns the bytes written."""

    def write(aside: Path) -> None:
        """Fill the folder that takes the state's place once it is complete."""
        tensors = {f"model.{name}": tensor for name, tensor in state.weights.items()}
        for i, of_parameter in state.optimizer.items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in of_parameter.items()}
        tensors |= {f"random.{name}": tensor for name, tensor in state.random.items()}
        if state.begun is not None and state.begun.loss_sum is not None:
            tensors[LOSS_SUM] = state.begun.loss_sum
        write_tensors(aside / TENSORS, tensors)
        write_tensors(aside / BEST, state.best_weights)
        (aside / FACTS).write_text(json.dumps(_as_json(owner, state)), encoding="utf-8")

    return write_folder(folder, write)


def read_state(folder: Path, owner: Owner) -> SavedState | None:
    """Read a state folder; None where it is damaged, or another trial's."""
    if not is_whole(folder) or recorded_sha256(folder, FACTS) is None:
        return None
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if (facts.get("sweep"), facts.get("seed")) != (owner.sweep_id, owner.seed):
        return None
    if TrialConfig.from_values(facts["config"]) != owner.config:
        return None
    history = [EpochScores.from_json(flat) for flat in facts["history"]]
    tensors = read_tensors(folder / TENSORS)
    begun = facts.get("begun_epoch")  # earlier versions wrote states at the end of epochs only
    return SavedState(
        history=history,
        rungs=[RungScores.from_json(flat) for flat in facts.get("rungs", ())],  # earlier versions have none
        begun=None if begun is None else BegunEpoch(loss_sum=tensors[LOSS_SUM], **begun),
        rows_at_once=facts.get("rows_at_once"),
        best=next((epoch for epoch in history if epoch.epoch == facts["best_epoch"]), None),
        weights=_under("model", tensors),
        optimizer=_by_parameter(_under("optimizer", tensors)),
        random=_under("random", tensors),
        scaler=facts.get("scaler", {}),
        best_weights=read_tensors(folder / BEST),
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[int, dict[str, Tensor]]) -> None:
    """Give an optimizer the saved state of its parameters."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(state)})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Where torch's random numbers stand: on the CPU and, where it trains, on the GPU."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if device.type == "cuda" else state


def restore_random(random: Mapping[str, Tensor], device: torch.device) -> None:
    """Let torch's random numbers go on where they stood."""
    torch.set_rng_state(random["cpu"])
    if device.type == "cuda" and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"])


def _as_json(owner: Owner, state: SavedState) -> dict[str, Any]:
    begun = state.begun
    return {
        "sweep": owner.sweep_id,
        "config": owner.config.all_values(),
        "seed": owner.seed,
        "history": [epoch.as_json() for epoch in state.history],
        "rungs": [rung.as_json() for rung in state.rungs],
        "begun_epoch": begun and {name: getattr(begun, name) for name in BEGUN_FACTS},
        "best_epoch": state.best.epoch if state.best else None,
        "rows_at_once": state.rows_at_once,
        "scaler": dict(state.scaler),
    }


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + ".")}


def _by_parameter(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors named "3.exp_avg" as {3: {"exp_avg": ...}}."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, field = name.split(".", 1)
        found.setdefault(int(number), {})[field] = tensor
    return found
