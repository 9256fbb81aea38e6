"""stars: each pixel knows how near to the middle of its cell it is, and how far the border is in 32 directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_RAY_PX", "N_RAYS", "Stars"]

N_RAYS = 32
MAX_RAY_PX = 511.0
_LOG_RANGE = float(np.log1p(MAX_RAY_PX))


@final
@dataclass(frozen=True)
class Stars(Representation):
    """Star-convex polygons (StarDist): a probability and 32 distances to the border per pixel.

    The probability is the distance to the nearest pixel outside the cell, divided by the greatest such distance in
    the cell: 1 in its middle, near 0 at its border. Rays are distances from the pixel's centre to where the ray
    leaves the cell's pixels, the first to the right, the next ones below it. They are kept as
    log(1 + distance) / log(1 + MAX_RAY_PX), unlike in the paper: 8 bits then hold 1 + distance to 1.3 %, up to
    511 px, and an error costs as much, relative to the distance, in a small cell as in a large one. Rays end at the
    edge of the field; for the probability that edge is no border.

    Decoding takes every pixel above `probability_threshold` as a candidate, the likeliest first (of equals, the one
    with the longer rays: it sees more of its cell). Its polygon is drawn unless it overlaps the drawn ones too much;
    what is drawn stays (greedy non-maximum suppression, with overlaps measured on the drawing). What is not
    star-convex, or has features finer than the angle between rays, comes back in part or in pieces. The first-guess
    score is the probability of the candidate that was drawn.

    probability_threshold: probability in (0, 1).
    max_overlap: the share of a polygon that likelier ones may have taken, and the share of a likelier one that it
    may cover, in (0, 1).
    min_area_px: smaller cells are dropped.
    ray_weight: weight of the rays in the loss.

    Source: Schmidt et al. (2018), Cell detection with star-convex polygons, MICCAI; Weigert et al. (2020),
    Star-convex polyhedra for 3D object detection and segmentation in microscopy, WACV.
    """

    probability_threshold: float = 0.5
    max_overlap: float = 0.4
    min_area_px: int = 6
    ray_weight: float = 1.0

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("probability"),
        *(Channel(f"ray_{ray}") for ray in range(N_RAYS)),
    )
    decode_bytes: ClassVar[int] = 270
    margin_px: ClassVar[int] = 16
    needs_outlines: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "probability_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "max_overlap": (0.2, 0.3, 0.4, 0.5),
    }
    contract_bounds: ClassVar[Mapping[str, tuple[float, str]]] = {
        "rings": (0.61, "a ray ends at the hole: no polygon of a ring is better than 0.71, and its rest is another"),
        "bacteria": (0.59, "neighbouring rays leave a rod 20 times as long as wide after 15 px: 0.74 at the best"),
        "crescents": (0.58, "no pixel of a crescent sees both of its horns: 0.70 and 0.82 at the best, in two pieces"),
    }

    @property
    def reach_px(self) -> None:
        """No bound: a candidate may be suppressed by a cell that stands only because its own rival was suppressed."""
        return

    def targets(self, labels: Labels) -> FloatArray:
        """Probability and rays, of the visible part of each cell; see the class. UNKNOWN is not cell."""
        import fastremap

        from fewcell.representations import star_kernels
        from fewcell.representations.watershed_kernels import border_distance

        cells = fastremap.renumber(np.maximum(labels, 0))[0].astype(np.int32)
        height, width = cells.shape
        distance = border_distance(cells, height + width)
        greatest = np.ones(cells.max(initial=0) + 1, dtype=np.float32)  # of each cell
        np.maximum.at(greatest, cells, distance)
        targets = np.zeros((1 + N_RAYS, height, width), dtype=np.float32)
        targets[0] = distance / greatest[cells]
        steps, ends = star_kernels.ray_pixels(N_RAYS, MAX_RAY_PX)
        to_frame = np.minimum.outer(_to_end(height), _to_end(width))
        # From one pixel of a ray to the next it is at most a pixel's diagonal, and the cell goes on for `distance`.
        leap = 1 + (np.minimum(distance, to_frame) / np.sqrt(2) - 0.01).astype(np.int32)
        star_kernels.cast_rays(
            np.pad(cells, 1),
            np.pad(leap, 1, constant_values=1),
            steps[..., 0] * (width + 2) + steps[..., 1],
            (np.log1p(ends) / _LOG_RANGE).astype(np.float32),
            targets[1:],
        )
        return targets

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Cross entropy of the probability, plus the mean error of the rays, weighted by the true probability.

        The error of a ray is the difference of log(1 + distance), about its relative error.
        """
        from torch.nn import functional as F

        weight = known.float()
        output = output.float()
        cross = F.binary_cross_entropy_with_logits(output[:, 0], targets[:, 0], reduction="none")
        cross_entropy = (cross * weight).sum() / weight.sum().clamp(min=1)
        error = (output[:, 1:].sigmoid() - targets[:, 1:]).abs().mean(dim=1) * _LOG_RANGE
        weight = weight * targets[:, 0]
        return cross_entropy + self.ray_weight * (error * weight).sum() / weight.sum().clamp(min=1)

    def activate(self, output: Tensor) -> Tensor:
        """A sigmoid: all channels lie between 0 and 1."""
        return output.sigmoid()

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """The probability of a cell, which falls towards its outline."""
        return prediction[0]

    def decode(self, prediction: FloatArray) -> Instances:
        """Polygons, drawn from the likeliest to the least likely; see the class."""
        from fewcell.representations import star_kernels

        probability = prediction[0].ravel()
        candidates = np.flatnonzero(probability > self.probability_threshold)
        encoded = np.fmin(np.fmax(prediction[1:].reshape(N_RAYS, -1)[:, candidates], 0), 1)  # 0 where it is no number
        order = np.lexsort((-encoded.sum(axis=0), -probability[candidates]))
        candidates, encoded = candidates[order], np.ascontiguousarray(encoded[:, order].T)
        owners = np.zeros(prediction.shape[1:], dtype=np.int32)
        winners = star_kernels.draw_winners(
            np.stack(np.divmod(candidates, prediction.shape[2]), axis=1),
            np.exp(encoded * np.float32(_LOG_RANGE)) - 1,
            star_kernels.ray_directions(N_RAYS),
            owners,
            self.max_overlap,
            self.min_area_px,
        )
        scores = np.concatenate([[0], probability[candidates[winners]]]).astype(np.float32)
        return collect_instances(owners, scores[owners], self.min_area_px)

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """The rays change places as well: each direction becomes another one of the 32."""
        ray = np.arange(N_RAYS) + quarters * N_RAYS // 4  # where the direction was before the turn
        ray = (N_RAYS // 2 - ray if flip else ray) % N_RAYS
        return super().turn(prediction[np.concatenate([[0], 1 + ray])], quarters=quarters, flip=flip)


def _to_end(length: int) -> np.ndarray:
    """How many pixels it is from each pixel of a line to beyond its nearer end."""
    forth = np.arange(1, length + 1)
    return np.minimum(forth, forth[::-1])
