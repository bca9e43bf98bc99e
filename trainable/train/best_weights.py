"""The weights of a trial's best epoch so far, held in memory until the trial ends."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class BestWeights:
    """A copy of the weights after the best epoch.

    Writing them to disk after every improvement would cost more than the training of small models. They stay in
    memory, on the device, and are written once, at the end, if the trial can still win.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        """By name; empty before the first epoch."""

    def copy(self, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy; the memory of the copy before is used again."""
        for name, tensor in weights.items():
            if name in self.tensors:
                self.tensors[name].copy_(tensor)
            else:
                self.tensors[name] = tensor.detach().clone()

    def refer_to(self, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights themselves, which nobody may change any more until they are written."""
        self.tensors = dict(weights)
