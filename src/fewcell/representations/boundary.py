"""boundary: each pixel is background, the interior of a cell, or its boundary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.types import UNKNOWN, FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Boundary", "boundary_pixels"]


@final
@dataclass(frozen=True)
class Boundary(Representation):
    """Three classes: background, interior, boundary. The baseline of the NeurIPS 2022 challenge.

    Decoding takes the connected pieces where the interior is likely as cells, and grows them into the foreground
    around them (interior or boundary) by at most `grow_px`: each pixel goes to the nearest cell, if it is connected
    with it through pixels that do so too; so the growth is the same on a tile and on the whole. Foreground that
    holds no interior at all (cells too small to have one) counts as a cell too. The first-guess score is the mean
    foreground probability.

    interior_threshold, foreground_threshold: probabilities in (0, 1).
    grow_px: how far a cell may grow beyond its interior.
    min_area_px: smaller cells are dropped.
    boundary_weight: weight of the boundary class in the cross entropy.

    Source: DCAN (Chen et al., 2016) and the three-class U-Net of Caicedo et al. (2019); Ma et al. (2024) for
    the challenge.
    """

    interior_threshold: float = 0.5
    foreground_threshold: float = 0.5
    grow_px: int = 3
    min_area_px: int = 6
    boundary_weight: float = 1.0

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("background"),
        Channel("interior"),
        Channel("boundary"),
    )
    margin_px: ClassVar[int] = 1
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "interior_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "foreground_threshold": (0.3, 0.4, 0.5, 0.6),
    }
    contract_iou: ClassVar[float] = 0.95

    @property
    def reach_px(self) -> int:
        """A pixel next to the cell may belong to another, whose interior lies within `grow_px` of that pixel."""
        return self.grow_px + 1

    def targets(self, labels: Labels) -> FloatArray:
        """One-hot classes; see `boundary_pixels` for what is boundary."""
        cell, border = labels > 0, boundary_pixels(labels)
        return np.stack([~cell, cell & ~border, border]).astype(np.float32)

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Cross entropy plus one minus the soft Dice of each class, over known pixels."""
        from torch.nn import functional as F

        weight = known.float()
        log_p = F.log_softmax(output.float(), dim=1)
        class_weight = output.new_tensor([1.0, 1.0, self.boundary_weight], dtype=log_p.dtype).view(1, -1, 1, 1)
        cross = -(class_weight * targets * log_p).sum(dim=1)
        cross_entropy = (cross * weight).sum() / weight.sum().clamp(min=1)
        p, t = log_p.exp() * weight[:, None], targets * weight[:, None]
        overlap = 2 * (p * t).sum(dim=(0, 2, 3))
        size = (p + t).sum(dim=(0, 2, 3))
        dice = ((overlap + 1) / (size + 1)).mean()
        return cross_entropy + 1 - dice

    def activate(self, output: Tensor) -> Tensor:
        """Softmax over the three classes."""
        return output.softmax(dim=1)

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """All that is not background."""
        return 1 - prediction[0]

    def decode(self, prediction: FloatArray) -> Instances:
        """Interior pieces, grown into their foreground; see the class."""
        import cc3d
        from scipy import ndimage

        foreground = 1 - prediction[0]
        inside = foreground > self.foreground_threshold
        # Corners connect an interior, as they do in `targets`: else the ends of a thin slanted cell fall off.
        seeds = cc3d.connected_components(
            (prediction[1] > self.interior_threshold) & inside, connectivity=8, out_dtype=np.uint32
        ).astype(np.int32)
        blobs = cc3d.connected_components(inside, connectivity=4, out_dtype=np.uint32)
        has_seed = np.zeros(int(blobs.max(initial=0)) + 1, dtype=bool)
        has_seed[blobs[seeds > 0]] = True
        seedless = inside & ~has_seed[blobs]

        distance, (row, column) = ndimage.distance_transform_edt(  # pyright: ignore[reportGeneralTypeIssues]
            seeds == 0, return_indices=True
        )
        claimed = np.where(inside & (distance <= self.grow_px), seeds[row, column], 0)
        # Connected among the claimed, not by way of the blob, whose parts may meet far beyond reach_px.
        pieces = cc3d.connected_components(claimed, connectivity=4, out_dtype=np.uint32)
        grown = np.zeros(int(pieces.max(initial=0)) + 1, dtype=bool)
        grown[pieces[seeds > 0]] = True
        labels = np.where(grown[pieces], claimed, 0)
        labels[seedless] = blobs[seedless].astype(np.int32) + seeds.max(initial=0)
        return collect_instances(labels, foreground, self.min_area_px)


def boundary_pixels(labels: Labels) -> NDArray[np.bool_]:
    """Every pixel of a cell that touches another label, corners included: (height, width) bool.

    The edge of the field and UNKNOWN are no boundary.
    """
    padded = np.pad(labels, 1, mode="edge")
    height, width = labels.shape
    touches = np.zeros(labels.shape, dtype=bool)
    for dy, dx in product(range(3), range(3)):
        other = padded[dy : dy + height, dx : dx + width]
        touches |= (other != labels) & (other != UNKNOWN)
    return touches & (labels > 0)
