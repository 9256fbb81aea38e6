"""affinities: whether a pixel lies in the same cell as its neighbours, near and further away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from fewcell.representations.base import Channel, Representation, collect_instances
from fewcell.types import UNKNOWN, FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OFFSETS", "STRIDES", "Affinities"]

# Rows, columns. With their negatives they are closed under quarter turns and flips, which `turn` relies on. The short
# ones follow the outline; 3 px bridges a blurred border, also of bacteria 6 px wide; 9 px nearly crosses a cell.
OFFSETS: tuple[tuple[int, int], ...] = ((0, 1), (1, 0), (0, 3), (3, 0), (3, 3), (3, -3), (0, 9), (9, 0))
FOREGROUND = len(OFFSETS)
# Decoding takes every pair, but of the longest only those that start at every second row and column: neighbours say
# nearly the same, and they cost the most.
STRIDES = tuple((2, 2) if max(np.abs(offset)) == 9 else (1, 1) for offset in OFFSETS)
# The target of a pair of which nobody knows whether it is one cell: no loss, neither attraction nor repulsion.
NO_TRUTH = 0.5


@final
@dataclass(frozen=True)
class Affinities(Representation):
    """Short and long range affinities: the probability that two pixels lie in one cell; and the foreground.

    Decoding is the mutex watershed. Pairs of foreground pixels at one of the OFFSETS attract (affinity above the
    threshold) or repel. From the surest pair to the least sure, attraction joins two pieces unless a pair that
    was surer keeps them apart. So a weak bridge between two cells does not join them, and no seeds are needed; a cell
    may have any shape and even lie in two parts. The first-guess score is the mean foreground probability.

    affinity_threshold: the affinity, in (0, 1), above which a pair attracts.
    foreground_threshold: the probability, in (0, 1), above which a pixel belongs to a cell.
    min_area_px: smaller cells are dropped; 2 at least, as single pixels are not always told from background.
    dice_weight: weight of the Dice loss against the cross entropy.

    Source: Lee et al., Superhuman accuracy on the SNEMI3D connectomics challenge (2017), for long range affinities;
    Wolf et al., The mutex watershed (ECCV 2018), and, for signed graphs as here, The mutex watershed and its objective
    (TPAMI 2020).
    """

    affinity_threshold: float = 0.5
    foreground_threshold: float = 0.5
    min_area_px: int = 6
    dice_weight: float = 1.0

    channels: ClassVar[tuple[Channel, ...]] = (
        *(Channel(f"affinity {dy} {dx}") for dy, dx in OFFSETS),
        Channel("foreground"),
    )
    decode_bytes: ClassVar[int] = 650
    margin_px: ClassVar[int] = 9  # the longest offset
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "affinity_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "foreground_threshold": (0.3, 0.4, 0.5, 0.6),
    }
    contract_iou: ClassVar[float] = 0.98

    @property
    def reach_px(self) -> None:
        """No bound: a pair far away may decide which of two pieces a third one joins, and so on."""
        return None

    def targets(self, labels: Labels) -> FloatArray:
        """1 where a pixel and the one at the offset lie in the same cell, 0 where not, 0.5 where nobody knows.

        Nobody knows if one of the two is UNKNOWN or lies beyond the edge. Two pixels of background are not the same.
        """
        targets = np.full((len(self.channels), *labels.shape), NO_TRUTH, dtype=np.float32)
        cell, known = labels > 0, labels != UNKNOWN
        for number, offset in enumerate(OFFSETS):
            here, there = _pairs(labels.shape, offset)
            same = (labels[here] == labels[there]) & cell[here]
            targets[number][here] = np.where(known[here] & known[there], same, NO_TRUTH)
        targets[FOREGROUND] = cell
        return targets

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Cross entropy of affinities and of foreground, plus one minus the soft Dice of the pairs to be cut.

        A pair counts where both its ends are known. Dice looks at pairs that start in a cell, where the few pairs
        across an outline matter as much as the many inside.
        """
        from torch.nn import functional as F

        output, targets = output.float(), targets.float()
        weight = (known[:, None] & (targets != NO_TRUTH)).float()
        cross = F.binary_cross_entropy_with_logits(output, targets, weight, reduction="none")
        total, count = cross.sum(dim=(0, 2, 3)), weight.sum(dim=(0, 2, 3)).clamp(min=1)
        cross_entropy = (total / count)[:FOREGROUND].mean() + (total / count)[FOREGROUND]

        in_cell = weight[:, :FOREGROUND] * (targets[:, FOREGROUND:] > NO_TRUTH)
        p = (1 - output[:, :FOREGROUND].sigmoid()) * in_cell
        t = (1 - targets[:, :FOREGROUND]) * in_cell
        dice = (2 * (p * t).sum(dim=(0, 2, 3)) + 1) / ((p + t).sum(dim=(0, 2, 3)) + 1)
        return cross_entropy + self.dice_weight * (1 - dice.mean())

    def activate(self, output: Tensor) -> Tensor:
        """Each channel is a probability of its own."""
        return output.sigmoid()

    def foreground(self, prediction: FloatArray) -> FloatArray:
        """The probability of a cell."""
        return prediction[FOREGROUND]

    def decode(self, prediction: FloatArray) -> Instances:
        """The mutex watershed of the foreground; see the class."""
        import mwatershed

        foreground = prediction[FOREGROUND] > self.foreground_threshold
        height, width = foreground.shape
        # mwatershed panics if the image is smaller than an offset. A weight of 0 is no edge; one that is not a number
        # would make it panic too.
        side = self.margin_px + 1
        weights = np.zeros((len(OFFSETS), max(height, side), max(width, side)))
        for channel, weight, offset in zip(prediction, weights, OFFSETS, strict=False):
            here, there = _pairs(foreground.shape, offset)
            inside = foreground[here] & foreground[there] & ~np.isnan(channel[here])
            weight[here] = np.where(inside, channel[here] - self.affinity_threshold, 0)
        pieces = mwatershed.agglom(weights, OFFSETS, strides=STRIDES)[:height, :width]
        return collect_instances(pieces.astype(np.int32), prediction[FOREGROUND], self.min_area_px)

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Turn the image, and with it the offsets: affinities change channels, and the end at which they stand.

        Pairs with an end beyond the edge, of which only the image's other side could know, become 0.5.
        """
        moved = super().turn(prediction, quarters=quarters, flip=flip)
        turned = np.full_like(moved, NO_TRUTH)
        turned[FOREGROUND] = moved[FOREGROUND]
        for channel, offset in zip(moved, OFFSETS, strict=False):
            dy, dx = _turn_offset(offset, quarters, flip)
            here, there = _pairs(channel.shape, (dy, dx))
            if (dy, dx) in OFFSETS:
                turned[OFFSETS.index((dy, dx))][here] = channel[here]
            else:
                turned[OFFSETS.index((-dy, -dx))][there] = channel[here]
        return turned


def _pairs(shape: tuple[int, ...], offset: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The parts of an image (height, width) where pairs at this offset start, and where they end."""
    here = tuple(slice(max(0, -d), max(0, size - max(0, d))) for size, d in zip(shape, offset, strict=True))
    there = tuple(slice(max(0, d), max(0, size - max(0, -d))) for size, d in zip(shape, offset, strict=True))
    return (here[0], here[1]), (there[0], there[1])


def _turn_offset(offset: tuple[int, int], quarters: int, flip: bool) -> tuple[int, int]:
    """Where an offset points after a flip (left to right) and quarter turns (counter-clockwise)."""
    dy, dx = offset
    if flip:
        dx = -dx
    for _ in range(quarters % 4):
        dy, dx = -dx, dy
    return dy, dx
