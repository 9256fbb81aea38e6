"""trails: each pixel points some way ahead on the shortest path to its cell's centre; all that meet are one cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.representations.vectors import turn_vectors
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Trails"]


@final
@dataclass(frozen=True)
class Trails(Representation):
    """Steps, each to the place at most `step_px` ahead on the shortest path inside the cell to its centre; foreground.

    Decoding joins every pixel of the foreground with the pixel that its step leads to (if that is outside: half of the
    step, or a quarter), by union-find in one pass: no integration, linear in pixels. Where steps end lie a few pixels
    that lead nowhere or to and fro; neighbours of that kind whose steps end at the same place are joined too. Except
    where a step leaves the tile, which pixel a pixel leads to is the same on a tile and on the whole, whatever the size
    of the cell. The first-guess score is the mean foreground probability.

    foreground_threshold: the probability, in (0, 1), above which a pixel belongs to a cell.
    sink_px: a pixel whose step is no longer has arrived.
    step_px: how far a step leads at most, in [1, 15].
    min_area_px: smaller cells are dropped.
    step_weight: weight of the error of steps against the cross entropy.

    Source: ours.
    """

    foreground_threshold: float = 0.5
    sink_px: float = 2.0
    step_px: float = 8.0
    min_area_px: int = 6
    step_weight: float = 10.0

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("step_y", -1.0, 1.0),
        Channel("step_x", -1.0, 1.0),
        Channel("foreground"),
    )
    margin_px: ClassVar[int] = 16
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "foreground_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "sink_px": (1.0, 1.5, 2.0, 3.0),
    }
    contract_iou: ClassVar[float] = 0.97
    # Of equally short paths and equally near centres, one is taken.
    turn_tolerance: ClassVar[float] = 5e-3

    @property
    def reach_px(self) -> None:
        """No bound: step by step, a trail leads through the whole cell."""
        return None

    def targets(self, labels: Labels) -> FloatArray:
        """Steps (y, x), foreground. UNKNOWN is no cell; pieces of a cell that do not touch have a centre each.

        The centre of a cell cut by the edge is that of the part inside.
        """
        from fewcell.representations.cell_fields import number_pieces
        from fewcell.representations.trail_kernels import steps_ahead

        steps = steps_ahead(*number_pieces(labels), self.step_px)
        return np.concatenate([steps, (labels > 0)[None].astype(np.float32)])

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Squared length of the error of steps, which are 0 outside cells, plus cross entropy of the foreground."""
        from torch.nn import functional as F

        output, targets, weight = output.float(), targets.float(), known.float()
        square = ((output[:, :2] - targets[:, :2]) ** 2).sum(dim=1)
        cross = F.binary_cross_entropy_with_logits(output[:, 2], targets[:, 2], reduction="none")
        return ((self.step_weight * square + cross) * weight).sum() / weight.sum().clamp(min=1)

    def activate(self, output: Tensor) -> Tensor:
        """Steps cut to their range, the foreground as a probability."""
        import torch

        return torch.cat([output[:, :2].clamp(-1, 1), output[:, 2:].sigmoid()], dim=1)

    def decode(self, prediction: FloatArray) -> Instances:
        """Pixels that lead to the same place; see the class."""
        from fewcell.representations.trail_kernels import join_trails

        inside = prediction[2] > self.foreground_threshold
        ends = join_trails(prediction[:2], inside, self.step_px, self.sink_px)
        return collect_instances((ends + 1).astype(np.int32), prediction[2], self.min_area_px)

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Moves all, and turns the steps as well."""
        moved = super().turn(prediction, quarters=quarters, flip=flip)
        moved[:2] = turn_vectors(moved[:2], quarters=quarters, flip=flip)
        return moved
