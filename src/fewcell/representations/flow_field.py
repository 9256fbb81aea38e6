"""What `flows`, `canopy` and `trails` predict: where the centre of a cell lies from here, and whether there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fewcell.representations.base import Channel, Representation
from fewcell.representations.vectors import turn_vectors
from fewcell.types import FloatArray, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CELL", "FLOW", "FLOW_SCALE", "N_CLIMBS", "FlowField", "without_false_flows"]

FLOW, CELL = slice(0, 2), 2
"""The channels."""

FLOW_SCALE = 5.0
"""A network's raw output is the flow times this, so that flows and logits are of one size."""

N_CLIMBS = 2
"""How often an end point moves on to the densest place around it: sinks of noisy flows are some px wide."""


@dataclass(frozen=True)
class FlowField(Representation):
    """Flows to the centre of each cell, and the probability of a cell: what Cellpose predicts. Not how it is read.

    The target is the direction in which heat runs that is put in at the cell's centre (its pixel nearest to its mean
    position) and lost at its border. Where the source simulates the diffusion for some steps, the target here is what
    it settles at.

    Source: Cellpose (Stringer et al., 2021, Nature Methods 18, 100-106).
    """

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("flow_y", -1.0, 1.0),
        Channel("flow_x", -1.0, 1.0),
        Channel("cell"),
    )
    margin_px: ClassVar[int] = 16
    # The heat is settled up to a small rest, which depends on the order of the pixels.
    turn_tolerance: ClassVar[float] = 3e-4

    def targets(self, labels: Labels) -> FloatArray:
        """Unit vectors (y, x) along the heat's gradient, 0 at centres and outside; and 1 in cells.

        Pieces of a cell that do not touch have a centre each. UNKNOWN is no cell.
        """
        from fewcell.representations.cell_fields import heat_flow

        return np.concatenate([heat_flow(labels), (labels > 0)[None].astype(np.float32)])

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Half the mean squared error of the flow times 5, plus binary cross entropy, over known pixels."""
        from torch.nn import functional as F

        weight = known.float()
        output = output.float()
        flow = (output[:, FLOW] - FLOW_SCALE * targets[:, FLOW]).square().mean(dim=1)
        cell = F.binary_cross_entropy_with_logits(output[:, CELL], targets[:, CELL], reduction="none")
        return ((flow / 2 + cell) * weight).sum() / weight.sum().clamp(min=1)

    def activate(self, output: Tensor) -> Tensor:
        """Flows are scaled and clipped (a tanh would never reach 1), the cell probability is a sigmoid."""
        import torch

        return torch.cat([(output[:, FLOW] / FLOW_SCALE).clamp(-1, 1), output[:, CELL:].sigmoid()], dim=1)

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """The probability of a cell."""
        return prediction[CELL]

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Moves all, and turns the flow as well."""
        moved = super().turn(prediction, quarters=quarters, flip=flip)
        moved[FLOW] = turn_vectors(moved[FLOW], quarters=quarters, flip=flip)
        return moved


def without_false_flows(labels: Labels, flow: FloatArray, largest_error: float) -> Labels:
    """Without the cells whose shape would have another flow than the one predicted, by more than a mean squared error.

    labels: (height, width). flow: (2, height, width). Source: Cellpose, as above.
    """
    from fewcell.representations.cell_fields import heat_flow

    error = np.square(heat_flow(labels) - flow).sum(axis=0)
    area = np.bincount(labels.ravel())
    total = np.bincount(labels.ravel(), weights=error.ravel())
    good = total <= largest_error * area
    return np.where(good[labels], labels, 0)
