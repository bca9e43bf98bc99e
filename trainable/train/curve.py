"""The training loss within an epoch: sums that stay on the device, and cross to the host with the segment's own sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainable.epoch_scores import CurvePoint
from trainable.train.loop import Rows
from trainable.train.state import BegunEpoch

POINTS_PER_EPOCH = 20


class SegmentCurve:
    """Keeps the epoch's loss sum at the steps of a segment at which its curve has points.

    These steps depend on the epoch alone, and not on where it is cut into segments: what the epoch before a cut left
    over of a point is in `BegunEpoch`.
    """

    def __init__(self, order: Sequence[Rows], begun: BegunEpoch) -> None:
        """Begin a segment.

        Args:
            order: The rows of each step of the whole epoch.
            begun: Where the segment begins.
        """
        self._order = order
        self._begun = begun
        self._steps = begun.steps
        self._kept: list[tuple[int, Tensor]] = []

    def step(self, loss_sum: Tensor) -> None:
        """Take notice of a step that was taken; `loss_sum` is the epoch's so far, on the device."""
        self._steps += 1
        an_epoch = len(self._order)
        if self._steps * POINTS_PER_EPOCH // an_epoch > (self._steps - 1) * POINTS_PER_EPOCH // an_epoch:
            self._kept.append((self._steps, loss_sum))

    def cross(self, loss_sum: Tensor) -> tuple[float, list[tuple[int, float]]]:
        """Wait for the device: the epoch's loss sum so far, and the sum at each step that has a point."""
        *sums, total = torch.stack([*(kept for _, kept in self._kept), loss_sum]).tolist()
        return total, [(step, kept) for (step, _), kept in zip(self._kept, sums, strict=True)]

    def points(self, sums: Sequence[tuple[int, float]], rates: Sequence[float], steps_before: int) -> list[CurvePoint]:
        """The segment's points.

        Args:
            sums: What `cross` gave.
            rates: The learning rate of each step of the epoch.
            steps_before: The trial's steps before this epoch.
        """
        points = []
        before, sum_before = self._begun.point_steps, self._begun.point_loss_sum
        for step, loss_sum in sums:
            rows = sum(map(len, self._order[before:step]))
            points.append(CurvePoint(steps_before + step, (loss_sum - sum_before) / rows, rates[step - 1]))
            before, sum_before = step, loss_sum
        return points
