"""How wide the cells of an image are: where it is likely, cells are sought in a part of it, and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.images import Pyramid
from fewcell.types import FloatArray, Instances, Window

__all__ = ["FARTHEST", "LARGEST_FACTOR", "Find", "Look", "busiest_window", "look", "search_diameter", "weighted_median"]

LARGEST_FACTOR = 4.0  # images are never enlarged more than this
MEASURED_PX = 512  # side of the part of an image, at canonical scale, in which cells are measured
FEWEST_MEASURED = 4.0  # cells, each counted as its score; of fewer, the median says little
SURE = 0.7  # score of a cell that is enough where all of an image is seen: it may show no more than one
MOST_MEASUREMENTS = 4
FARTHEST = 1.6  # a measurement moves an estimate by at most this factor
NEAR = 1.15  # estimates that differ by less are the same
FINER = (2, 4, 8)  # so many times smaller cells are sought, in a part of FINER_PX at canonical scale
FINER_PX = 320
SEEN_PX = 256  # side of a window when it is sought
BLOCKS = 8  # along its side
FAINT = 0.01  # contrast of a block that is next to none
MORE, AS_SURE = 2.0, 0.7  # so many times as many smaller cells are believed, if their mean score is so near

Find = Callable[[Window, float], Instances]
"""(part of an image, enlarged by what factor) -> the cells in it, on the network's grid."""


@dataclass(frozen=True)
class Look:
    """The cells found in a part of an image that was brought to canonical scale as if they were `diameter_px` wide.

    found: on the network's grid. sees_all: whether the part is the whole image.
    """

    diameter_px: float
    window: Window
    found: Instances
    sees_all: bool

    @property
    def n_cells(self) -> float:
        """The cells, each counted as its score."""
        return float(self.found.scores.sum())

    @property
    def measured_px(self) -> float | None:
        """How wide the median cell is, in pixels of the image; None if too few are found to tell."""
        if self.n_cells < FEWEST_MEASURED:
            return None
        top, left, bottom, right = self.window
        grid_px = np.sqrt((bottom - top) * (right - left) / self.found.labels.size)
        return weighted_median(2 * np.sqrt(self.found.areas_px() / np.pi) * grid_px, self.found.scores)

    @property
    def is_all_there_is(self) -> bool:
        """Whether few cells are found because the image shows no more: the surest of them is sure."""
        return self.sees_all and self.n_cells < FEWEST_MEASURED and bool(self.found.scores.max(initial=0) >= SURE)

    def n_cells_in(self, window: Window) -> float:
        """The cells in a part of what is seen, each counted as its score; of cut cells their share."""
        here = np.array(self.window)
        grid = np.array(self.found.labels.shape) / (here[2:] - here[:2])
        first = np.floor((window[:2] - here[:2]) * grid).astype(int)
        last = np.ceil((window[2:] - here[:2]) * grid).astype(int)
        there = self.found.labels[first[0] : last[0], first[1] : last[1]]
        areas_there = np.bincount(there.ravel(), minlength=len(self.found) + 1)[1:]
        return float(self.found.scores @ (areas_there / self.found.areas_px()))


def search_diameter(image: Pyramid, likely: Sequence[float], find: Find, canonical_px: float) -> float | None:
    """Search for the diameter of the median cell of a normalised image, in px; None if nothing can be measured.

    likely: diameters to begin with, the likeliest first; the first counts at which enough cells are found to be
    measured. If few but sure ones are found at the likeliest, in the whole image, there is no more to be had, and
    nothing is measured. Where many more are found that are a half to an eighth as wide, these are believed: glands and
    clumps are made of cells. Then they are measured, and again at the scale that they ask for while that is quite
    another.
    """
    looks = (look(image, px, find, canonical_px) for px in likely)
    seen: Look | None = next(looks)
    if seen.is_all_there_is:
        return None
    if seen.measured_px is None:
        seen = next((seen for seen in looks if seen.measured_px is not None), None)
    if seen is None:
        return None
    diameter = _smaller(image, seen, find, canonical_px)
    # Where smaller cells were found, the way back to what they make up is closed.
    most = np.inf if diameter == seen.diameter_px else FARTHEST * diameter
    for _ in range(MOST_MEASUREMENTS):
        if seen.diameter_px != diameter:
            seen = look(image, diameter, find, canonical_px)
        if seen.measured_px is None:
            break
        before, diameter = (
            diameter,
            float(np.clip(seen.measured_px, diameter / FARTHEST, min(diameter * FARTHEST, most))),
        )
        if abs(np.log(diameter / before)) < np.log(NEAR):
            break
    return diameter


def look(
    image: Pyramid,
    diameter_px: float,
    find: Find,
    canonical_px: float,
    side_px: int = MEASURED_PX,
    within: Window | None = None,
) -> Look:
    """Find cells in the busiest part of an image. side_px: of the part, at canonical scale. within: by default all."""
    factor = min(canonical_px / diameter_px, LARGEST_FACTOR)
    window = busiest_window(image, round(side_px / factor), within)
    return Look(diameter_px, window, find(window, factor), window == image.whole)


def _smaller(image: Pyramid, seen: Look, find: Find, canonical_px: float) -> float:
    """The diameter of a look, made smaller as long as many more cells are then found in the same place."""
    for times in FINER:
        px = seen.diameter_px / times
        if px < canonical_px / LARGEST_FACTOR:
            continue
        other = look(image, px, find, canonical_px, FINER_PX, seen.window)
        are_many = other.n_cells >= max(FEWEST_MEASURED, MORE * seen.n_cells_in(other.window))
        if are_many and other.found.scores.mean() >= AS_SURE * seen.found.scores.mean():
            return _smaller(image, other, find, canonical_px)
    return seen.diameter_px


def weighted_median(values: NDArray, weights: NDArray) -> float:
    """The value on both sides of which lies half of the weight."""
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])


def busiest_window(image: Pyramid, side: int, within: Window | None = None) -> Window:
    """The window of `side` px, or less where there is no more, with most contrast: cells may lie in one corner only.

    Contrast is the standard deviation in blocks, of the image as large as the window is looked at. Beyond what most
    blocks have it counts by its logarithm, so that a speck does not win over many cells.
    """
    top, left, bottom, right = within or image.whole
    gray, step = image.gray(min(1.0, SEEN_PX / side))
    part = gray[top // step : -(-bottom // step), left // step : -(-right // step)]
    block = max(1, min(side // step // BLOCKS, *part.shape))
    rows, columns = (extent // block for extent in part.shape)
    high, wide = (min(round(side / step / block), count) for count in (rows, columns))
    y = x = 0
    if (high, wide) != (rows, columns):
        contrast = _block_deviations(part[: rows * block, : columns * block], block)
        contrast = np.log1p(contrast / max(float(np.median(contrast)), FAINT))
        total = np.pad(contrast.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
        y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    y, x = (int(place) * block * step for place in (y, x))
    y, x = max(top, min(top + y, bottom - side)), max(left, min(left + x, right - side))
    return y, x, min(y + side, bottom), min(x + side, right)


def _block_deviations(gray: FloatArray, block: int) -> FloatArray:
    """The standard deviation of each block of `block` x `block` pixels, of which the image has a whole number."""
    rows, columns = (side // block for side in gray.shape)
    mean, mean_square = (
        of_rows.mean(axis=1).reshape(rows, columns, block).mean(axis=2)
        for of_rows in (each.reshape(rows, block, -1) for each in (gray, gray**2))
    )
    return np.sqrt(np.maximum(mean_square - mean**2, 0))
