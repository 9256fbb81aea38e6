"""watershed: distances to the centre and to the border of a cell, flooded from the centres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Watershed"]


@final
@dataclass(frozen=True)
class Watershed(Representation):
    """Inner distance (to the centre), outer distance (to the border), foreground: the deep watershed of Mesmer.

    The inner distance is 1 / (1 + alpha d / sqrt(area)), d the distance to the cell's centroid: one summit a cell,
    as steep for small cells as for large ones. If the centroid lies outside of the cell (rings, crescents), the
    cell's pixel nearest to it takes its place. The outer distance is that to the nearest pixel that is not of the
    cell, over `range_px`, 1 if further.

    Decoding marks the summits of the smoothed inner distance in the foreground: above `marker_threshold`, and
    separated from any higher one by a valley deeper than `prominence`. From the markers the watershed floods the
    foreground, from high to low: the height is the inner distance plus twice the outer one, which alone knows where two
    cells of different size meet. Foreground without a marker is dropped. The first-guess score is the mean foreground
    probability.

    foreground_threshold: the probability, in (0, 1), above which a pixel belongs to a cell.
    marker_threshold, prominence: of the inner distance, in (0, 1).
    smoothing_px: standard deviation of the Gaussian that smooths the inner distance for finding markers.
    min_area_px: smaller cells are dropped.
    alpha: how steep the inner distance is. range_px: from where on the outer distance is 1; a whole number up to 16.
    distance_weight: weight of the squared errors of distances against the cross entropy of the foreground.

    Source: Bai & Urtasun, Deep watershed transform for instance segmentation (CVPR 2017); Greenwald et al.,
    Whole-cell segmentation of tissue images with human-level performance (Nature Biotechnology 2022). Summits are
    told apart by their prominence here, not by a distance in pixels, which would not serve cells of all sizes.
    """

    foreground_threshold: float = 0.5
    marker_threshold: float = 0.2
    prominence: float = 0.1
    smoothing_px: float = 0.7
    min_area_px: int = 6
    alpha: float = 4.0
    range_px: int = 12
    distance_weight: float = 10.0

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("inner distance"),
        Channel("outer distance"),
        Channel("foreground"),
    )
    # The outer distance looks `range_px` far; the inner distance of a cell that is cut is that of the part seen.
    margin_px: ClassVar[int] = 16
    needs_outlines: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "foreground_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "prominence": (0.05, 0.1, 0.15, 0.2),
    }
    contract_iou: ClassVar[float] = 0.94
    turn_tolerance: ClassVar[float] = 1e-6  # the centroid, counted from another corner, is rounded differently

    @property
    def reach_px(self) -> None:
        """No bound: a flood runs as far as the foreground."""
        return None

    def targets(self, labels: Labels) -> FloatArray:
        """Inner distance, outer distance, foreground. UNKNOWN is not of any cell; the edge of the field is no border.

        At the edge a cell's centroid is that of the part inside.
        """
        import fastremap

        from fewcell.representations.watershed_kernels import border_distance, centre_closeness

        cells, numbers = fastremap.renumber(np.maximum(labels, 0))
        cells = cells.astype(np.int32)
        inner = centre_closeness(cells, max(numbers.values(), default=0), self.alpha)
        outer = border_distance(cells, self.range_px) / np.float32(self.range_px)
        return np.stack([inner, outer, (cells > 0).astype(np.float32)])

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Squared error of both distances, plus cross entropy of the foreground, over known pixels."""
        from torch.nn import functional as F

        output, targets, weight = output.float(), targets.float(), known.float()
        square = ((output[:, :2] - targets[:, :2]) ** 2).sum(dim=1)
        cross = F.binary_cross_entropy_with_logits(output[:, 2], targets[:, 2], reduction="none")
        return ((self.distance_weight * square + cross) * weight).sum() / weight.sum().clamp(min=1)

    def activate(self, output: Tensor) -> Tensor:
        """Distances as they are, cut to 0 to 1; the foreground as a probability."""
        import torch

        return torch.cat([output[:, :2].clamp(0, 1), output[:, 2:].sigmoid()], dim=1)

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """The probability of a cell."""
        return prediction[2]

    def decode(self, prediction: FloatArray) -> Instances:
        """Summits of the inner distance, flooded; see the class."""
        from scipy import ndimage
        from skimage.segmentation import watershed

        from fewcell.representations.watershed_kernels import prominent_summits

        inner, outer, probability = prediction
        foreground = probability > self.foreground_threshold
        smooth = ndimage.gaussian_filter(inner, self.smoothing_px)
        places = np.flatnonzero(foreground)
        order = places[np.argsort(-smooth.ravel()[places], kind="stable")]
        markers = prominent_summits(smooth, order, self.marker_threshold, self.prominence)
        # Corners connect, as they do for summits: else the ends of a thin slanted cell fall off.
        labels = watershed(-(inner + 2 * outer), markers, mask=foreground, connectivity=2)
        return collect_instances(labels.astype(np.int32), probability, self.min_area_px)
