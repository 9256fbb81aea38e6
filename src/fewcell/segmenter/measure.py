"""How wide the cells of an image are: where it is likely, cells are sought in a part of it, and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.types import FloatArray, Instances, Labels

__all__ = ["LARGEST_FACTOR", "Look", "busiest_window", "look", "search_diameter", "weighted_median"]

LARGEST_FACTOR = 4.0  # images are never enlarged more than this
MEASURED_PX = 512  # side of the part of an image, at canonical scale, in which cells are measured
FEWEST_MEASURED = 4.0  # cells, each counted as its score; of fewer, the median says little
MOST_MEASUREMENTS = 4
FARTHEST = 1.6  # a measurement moves an estimate by at most this factor
NEAR = 1.15  # estimates that differ by less are the same
FINER = (2, 4)  # so many times smaller cells are sought, in a part of FINER_PX at canonical scale
FINER_PX = 320
MORE, AS_SURE = 2.0, 0.7  # so many times as many smaller cells are believed, if their mean score is so near

Find = Callable[[FloatArray, float], Instances]


@dataclass(frozen=True)
class Look:
    """The cells found in a part of an image that was brought to canonical scale as if they were `diameter_px` wide.

    part: (3, height, width) of the image; corner: where it lies. found: on the network's grid.
    """

    diameter_px: float
    part: FloatArray
    corner: tuple[int, int]
    found: Instances

    @property
    def n_cells(self) -> float:
        """The cells, each counted as its score."""
        return float(self.found.scores.sum())

    @property
    def measured_px(self) -> float | None:
        """How wide the median cell is, in pixels of the image; None if too few are found to tell."""
        if self.n_cells < FEWEST_MEASURED:
            return None
        grid_px = np.sqrt(self.part.shape[1] * self.part.shape[2] / self.found.labels.size)
        return weighted_median(2 * np.sqrt(self._areas(self.found.labels) / np.pi) * grid_px, self.found.scores)

    def n_cells_in(self, other: "Look") -> float:
        """The cells where a look at this part sees some, each counted as its score; of cut cells their share."""
        grid = np.array(self.found.labels.shape) / self.part.shape[1:]
        first = np.floor(other.corner * grid).astype(int)
        last = np.ceil((np.array(other.corner) + other.part.shape[1:]) * grid).astype(int)
        there = self.found.labels[first[0] : last[0], first[1] : last[1]]
        return float(self.found.scores @ (self._areas(there) / self._areas(self.found.labels)))

    def _areas(self, labels: Labels) -> NDArray[np.int64]:
        return np.bincount(labels.ravel(), minlength=len(self.found) + 1)[1:]


def search_diameter(pixels: FloatArray, likely: Sequence[float], find: Find, canonical_px: float) -> float | None:
    """Search for the diameter of the median cell of a normalised image, in px; None if nothing can be measured.

    likely: diameters to begin with, the likeliest first; the first counts at which enough cells are found to be
    measured. Where many more are found that are half or a quarter as wide, these are believed: glands and clumps are
    made of cells. Then they are measured, and again at the scale that they ask for while that is quite another.
    find: (part of the image, enlarged by what factor) -> cells on the network's grid.
    """
    looks = (look(pixels, px, find, canonical_px) for px in likely)
    seen = next((seen for seen in looks if seen.measured_px is not None), None)
    if seen is None:
        return None
    diameter = _smaller(seen, find, canonical_px)
    # Where smaller cells were found, the way back to what they make up is closed.
    most = np.inf if diameter == seen.diameter_px else FARTHEST * diameter
    for _ in range(MOST_MEASUREMENTS):
        if seen.diameter_px != diameter:
            seen = look(pixels, diameter, find, canonical_px)
        if seen.measured_px is None:
            break
        before, diameter = (
            diameter,
            float(np.clip(seen.measured_px, diameter / FARTHEST, min(diameter * FARTHEST, most))),
        )
        if abs(np.log(diameter / before)) < np.log(NEAR):
            break
    return diameter


def look(pixels: FloatArray, diameter_px: float, find: Find, canonical_px: float, side_px: int = MEASURED_PX) -> Look:
    """Find cells in the busiest part of a normalised image. side_px: of the part, at canonical scale."""
    factor = min(canonical_px / diameter_px, LARGEST_FACTOR)
    side = round(side_px / factor)
    top, left = busiest_window(pixels, side)
    part = np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
    return Look(diameter_px, part, (top, left), find(part, factor))


def _smaller(seen: Look, find: Find, canonical_px: float) -> float:
    """The diameter of a look, made smaller as long as many more cells are then found in the same place."""
    sizes = (seen.diameter_px / times for times in FINER)
    finer = (look(seen.part, px, find, canonical_px, FINER_PX) for px in sizes if px >= canonical_px / LARGEST_FACTOR)
    for other in finer:
        are_many = other.n_cells >= max(FEWEST_MEASURED, MORE * seen.n_cells_in(other))
        if are_many and other.found.scores.mean() >= AS_SURE * seen.found.scores.mean():
            return _smaller(other, find, canonical_px)
    return seen.diameter_px


def weighted_median(values: NDArray, weights: NDArray) -> float:
    """The value on both sides of which lies half of the weight."""
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])


def busiest_window(pixels: FloatArray, side: int) -> tuple[int, int]:
    """The top left corner of the window of `side` px with most contrast: cells may lie in one corner only.

    Contrast is the standard deviation in blocks; the strongest hundredth counts alike, so that a speck does not win.
    """
    block = max(1, min(side // 8, *pixels.shape[1:]))
    rows, columns = (extent // block for extent in pixels.shape[1:])
    high, wide = min(side // block, rows), min(side // block, columns)
    if (high, wide) == (rows, columns):
        return 0, 0
    gray = pixels[:, : rows * block, : columns * block].mean(axis=0)
    contrast = gray.reshape(rows, block, columns, block).std(axis=(1, 3))
    contrast = np.minimum(contrast, np.percentile(contrast, 99))
    total = np.pad(contrast.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top) * block, int(left) * block
