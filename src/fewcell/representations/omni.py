"""omni: each pixel of a cell says how far the cell's border is, and in which direction its skeleton lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.representations.boundary import boundary_pixels
from fewcell.representations.flow_field import FLOW_SCALE
from fewcell.representations.vectors import turn_vectors
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Omni"]


@final
@dataclass(frozen=True)
class Omni(Representation):
    """Distance to the border, its gradient, and the boundary: the representation of Omnipose, made for bacteria.

    Needs no centre, so cells may be long and bent. Decoding follows the flow from every pixel that the distance says
    is in a cell, by some px only, as steps get shorter and shorter: cells shrink towards their skeletons, which leaves
    gaps between them. What then hangs together is a cell; except where two pixels lie on a boundary and their
    flows part. Ends and arms of a cell that came off in shrinking are put back to it: the flow parts along the whole
    border of two cells, and not where one narrows (this is not in the source). The first-guess score is 1 where the
    distance says a cell for sure, and 0 where it says background.

    distance_threshold: distance, in units of `depth_px` (background is at -1), above which a pixel is in a cell.
    boundary_threshold: probability in (0, 1) above which flows that part divide cells.
    n_steps: how many steps a pixel goes; n steps go about 0.6 + log(n) px. More tell cells apart that touch along a
        badly predicted border, and break more cells along their skeletons.
    max_parting: pieces that touch are one cell if the directions of flow on either side of their border part by less
        than this on average: 2 if they point away from each other, 0 if they are equal.
    depth_px: deeper in a cell than this, the distance is not learned. Prediction and training must agree on it.
    min_area_px: smaller cells are dropped.

    Source: Omnipose (Cutler et al., 2022, Nature Methods 19, 1438-1448). The smooth distance is the solution of a
    screened diffusion, -log of which solves the eikonal equation (Varadhan, 1967).
    """

    distance_threshold: float = -0.4
    boundary_threshold: float = 0.5
    n_steps: int = 6
    max_parting: float = 0.5
    depth_px: float = 8.0
    min_area_px: int = 6

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("distance", -1.0, 1.0),
        Channel("flow_y", -1.0, 1.0),
        Channel("flow_x", -1.0, 1.0),
        Channel("boundary"),
    )
    margin_px: ClassVar[int] = 16
    needs_outlines: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "distance_threshold": (-0.6, -0.45, -0.3, -0.15, 0.0),
        "boundary_threshold": (0.3, 0.45, 0.6, 0.75),
    }
    contract_iou: ClassVar[float] = 0.99
    # The diffusion is settled up to a small rest, which depends on the order of the pixels.
    turn_tolerance: ClassVar[float] = 1e-5

    @property
    def reach_px(self) -> None:
        """No bound: what hangs together may be as long as a field is wide."""
        return None

    def targets(self, labels: Labels) -> FloatArray:
        """Distance (-1 outside, else 0 to 1), its gradient (y, x; 0 on skeletons and outside), and the boundary.

        The boundary is every pixel of a cell that touches another label, corners included. The frame is no border;
        UNKNOWN is a border for the distance, not for the boundary.
        """
        from fewcell.representations.cell_fields import smooth_distance

        fields = smooth_distance(labels)
        cell = labels > 0
        distance = np.where(cell, np.minimum(fields[0] / self.depth_px, 1), -1)
        return np.stack([distance, fields[1], fields[2], boundary_pixels(labels)]).astype(np.float32)

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Squared errors of distance, flow and its divergence, plus cross entropy of the boundary, over known pixels.

        Boundary pixels count double: there the flows of two cells part, and there they are hardest to learn.
        """
        from torch.nn import functional as F

        output = output.float()
        weight = known.float()
        per_pixel = (output[:, :3] - FLOW_SCALE * targets[:, :3]).square().sum(dim=1) / 2
        per_pixel = per_pixel * (1 + targets[:, 3])
        per_pixel = per_pixel + F.binary_cross_entropy_with_logits(output[:, 3], targets[:, 3], reduction="none")
        error = output[:, 1:3] - FLOW_SCALE * targets[:, 1:3]
        # The divergence is taken over 2 x 2 pixels, all of them known.
        along_y = error[:, 0, 1:] - error[:, 0, :-1]
        along_x = error[:, 1, :, 1:] - error[:, 1, :, :-1]
        divergence = (along_y[:, :, 1:] + along_y[:, :, :-1] + along_x[:, 1:] + along_x[:, :-1]) / 2
        all_known = weight[:, 1:, 1:] * weight[:, 1:, :-1] * weight[:, :-1, 1:] * weight[:, :-1, :-1]
        total = (per_pixel * weight).sum() + (divergence.square() * all_known).sum() / 2
        return total / weight.sum().clamp(min=1)

    def activate(self, output: Tensor) -> Tensor:
        """Distance and flow are scaled and clipped, the boundary probability is a sigmoid."""
        import torch

        return torch.cat([(output[:, :3] / FLOW_SCALE).clamp(-1, 1), output[:, 3:].sigmoid()], dim=1)

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """1 and the distance, which is -1 outside of cells and rises from 0 at their outlines, cut to 1."""
        return np.clip(1 + prediction[0], 0, 1)

    def decode(self, prediction: FloatArray) -> Instances:
        """Shrink cells along the flow, put together what still touches; see the class."""
        from fewcell.representations.flow_kernels import follow, join_ends

        distance, flow = prediction[0], prediction[1:3]
        ends = follow(flow, distance > self.distance_threshold, self.n_steps, True)
        labels = join_ends(ends, flow, prediction[3] > self.boundary_threshold)
        labels = _put_back(labels, flow, self.max_parting)
        return collect_instances(labels, np.clip(1 + distance, 0, 1), self.min_area_px)

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Moves all, and turns the flow as well."""
        moved = super().turn(prediction, quarters=quarters, flip=flip)
        moved[1:3] = turn_vectors(moved[1:3], quarters=quarters, flip=flip)
        return moved


def _put_back(labels: NDArray[np.int64], flow: FloatArray, max_parting: float) -> Labels:
    """Join pieces that touch where the direction of the flow, on average over their border, does not part."""
    import fastremap
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels, numbers = fastremap.renumber(labels)
    n = len(numbers) + 1
    direction = flow / np.maximum(np.hypot(*flow), 1e-3)
    pairs, partings = [], []
    for axis in (0, 1):
        ahead, behind = (np.s_[1:], np.s_[:-1]) if axis == 0 else (np.s_[:, 1:], np.s_[:, :-1])
        a, b = labels[behind].astype(np.int64), labels[ahead].astype(np.int64)
        touch = (a > 0) & (b > 0) & (a != b)
        a, b = a[touch], b[touch]
        pairs.append(np.minimum(a, b) * n + np.maximum(a, b))
        partings.append((direction[axis][ahead] - direction[axis][behind])[touch])
    names, pair = np.unique(np.concatenate(pairs), return_inverse=True)
    mean = np.bincount(pair, weights=np.concatenate(partings)) / np.bincount(pair)
    joined = np.divmod(names[mean < max_parting], n)
    graph = coo_array((np.ones(len(joined[0])), joined), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return np.where(labels > 0, component[labels] + 1, 0).astype(np.int32)
