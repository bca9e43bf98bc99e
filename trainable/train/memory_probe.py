"""How much of a GPU's memory one trial takes at most, by doing the heaviest of it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from trainable.errors import OutOfMemory
from trainable.hub.shipping import Files
from trainable.job import Job, with_model_at_hand
from trainable.train.devices import pick_device
from trainable.train.memory import is_out_of_memory
from trainable.train.run import FineTuningRun


@dataclass(frozen=True)
class MemoryUse:
    """What was measured, in MiB.

    tensors_mib: the most that was reserved for tensors; None where the whole GPU is too small
    gpu_mib: all that the GPU has; gpu: its name
    """

    tensors_mib: float | None
    gpu_mib: float
    gpu: str


def measure_memory(job: Job, rows: int, fetch: Callable[[Any], Files]) -> MemoryUse | None:
    """What a trial takes that computes so many rows at once; None where torch has no GPU here.

    To be called in a process that has a whole GPU. fetch: as with_model_at_hand has it
    """
    if pick_device(True).type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(0)
    used = None
    try:
        run = FineTuningRun(replace(with_model_at_hand(job, fetch), gpus_per_trial=1.0))
        run.take_most_memory(rows)
        used = torch.cuda.max_memory_reserved() / 2**20
    except Exception as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
    return MemoryUse(used, properties.total_memory / 2**20, properties.name)
