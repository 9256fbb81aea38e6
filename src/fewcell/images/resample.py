"""Images and labels on another grid. Grids cover the same field: pixel edges, not centres, are aligned."""

from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from fewcell.types import FloatArray, Labels, Shape, Window

__all__ = ["Rows", "are_alike", "resample", "resize_image", "resize_labels", "resize_labels_part"]

ROWS = 64  # seen at a time

_Between = tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]
"""For new pixels along one axis: the old pixels before and after their centres, and how far between they are."""


def are_alike(pixels: FloatArray) -> bool:
    """Whether all channels of an image (channel, height, width) are the same, as those of a gray one are."""
    if pixels.strides[0] == 0:
        return True
    rows = (pixels[1:, top : top + ROWS] == pixels[:1, top : top + ROWS] for top in range(0, pixels.shape[1], ROWS))
    return all(same.all() for same in rows)  # of most colour images the first rows tell


def resize_image(pixels: FloatArray, shape: Shape) -> FloatArray:
    """Resample an image to (height, width) = shape, without aliasing when it shrinks.

    pixels: (channel, height, width) float32, finite. Bilinear (a triangle as wide as the step when shrinking). Returns
    the image itself where the shape stays.
    """
    if pixels.shape[-2:] == tuple(shape):
        return pixels
    size, bilinear = (shape[1], shape[0]), PillowImage.Resampling.BILINEAR
    different = pixels[:1] if are_alike(pixels) else pixels
    new = np.stack([np.asarray(PillowImage.fromarray(channel).resize(size, bilinear)) for channel in different])
    return new if len(new) == len(pixels) else np.repeat(new, len(pixels), axis=0)


@dataclass(frozen=True)
class Rows:
    """How rows (or columns) are made of others, of those from `first` to `stop`.

    starts: (row,) uint32, where those begin of which a row is made, counted from `first`. weights: (n, row) float32, of
    n that follow one another. Whatever others are made at the same time, those of one are the same.
    """

    first: int
    stop: int
    starts: NDArray[np.uint32]
    weights: FloatArray

    @classmethod
    def resampled(cls, start: float, step: float, count: int, made: tuple[int, int], size: int) -> Self:
        """`count` rows that are `step` apart, the zeroth from `start` on, bilinear (a triangle as wide as the step).

        made: the first of those that are made, and the end; beyond the last of `count` they are mirrored, to and fro.
        size: how many rows there are to make them of; beyond those is nothing.
        """
        reach = max(step, 1.0)
        n = min(int(np.ceil(2 * reach)), size)
        place = np.arange(*made) % (2 * count)
        centre = start + (np.minimum(place, 2 * count - 1 - place) + 0.5) * step
        starts = np.clip(np.floor(centre - reach + 0.5).astype(np.intp), 0, size - n)
        weights = np.maximum(1 - np.abs(np.arange(n)[:, None] + starts + 0.5 - centre) / reach, 0)
        weights /= weights.sum(axis=0)
        first = int(starts.min())
        return cls(first, int(starts.max()) + n, (starts - first).astype(np.uint32), weights.astype(np.float32))


def resample(plane: FloatArray, rows: Rows, columns: Rows, made: FloatArray) -> None:
    """Fill in an image (height, width) that is another on a new grid.

    plane: of the other, its rows and columns from the first to the last that are needed.
    """
    from fewcell.images.resample_kernels import blend

    blend(np.ascontiguousarray(plane), rows.starts, rows.weights, columns.starts, columns.weights, made)


def resize_labels(labels: Labels, shape: Shape) -> Labels:
    """Resample labels to (height, width) = shape; outlines stay smooth when they grow.

    Each new pixel takes the label that has the largest bilinear weight among its four neighbours on the old
    grid, so a diagonal outline does not turn into stairs. When labels shrink these are the four pixels around
    its centre: a cell smaller than a new pixel can vanish. No label is ever invented, and UNKNOWN is treated
    as one more label. Returns the labels themselves where the shape stays.
    """
    height, width = labels.shape
    return resize_labels_part(labels, (0, 0), (height, width), shape, (0, 0, *shape))


def resize_labels_part(labels: Labels, first: Shape, whole: Shape, shape: Shape, window: Window) -> Labels:
    """A window of what `resize_labels` makes of large labels, from a part of these.

    labels: the part, whose first pixel is `first` in labels of shape `whole`; it must reach at least one pixel beyond
    what the window shows, or to the edge. shape: of the large labels once resampled. window: top, left, bottom and
    right there, ends excluded.
    """
    y0, x0, y1, x1 = window
    if whole == tuple(shape):
        return labels[y0 - first[0] : y1 - first[0], x0 - first[1] : x1 - first[1]]
    top, bottom, fy = _neighbours(whole[0], shape[0], first[0], y0, y1)
    left, right, fx = _neighbours(whole[1], shape[1], first[1], x0, x1)
    beside, below = np.append(labels[:, 1:], labels[:, -1:], axis=1), np.append(labels[1:], labels[-1:], axis=0)
    differs = (labels != beside) | (labels != below) | (beside != np.append(beside[1:], beside[-1:], axis=0))
    resized = np.empty((y1 - y0, x1 - x0), dtype=labels.dtype)
    for start in range(0, y1 - y0, ROWS):  # few enough to stay in the cache meanwhile
        rows = slice(start, start + ROWS)
        above, under, f = top[rows], bottom[rows], fy[rows]
        np.take(labels[above], left, axis=1, out=resized[rows], mode="clip")
        # Only where the four differ, they vote.
        y, x = np.nonzero(np.take(differs[above], left, axis=1))
        resized[rows][y, x] = _voted(labels, (above[y], under[y], f[y]), (left[x], right[x], fx[x]))
    return resized


def _voted(labels: Labels, rows: _Between, columns: _Between) -> Labels:
    """The label with the largest bilinear weight among four neighbours; of such that are alike, the first: (n,)."""
    (top, bottom, fy), (left, right, fx) = rows, columns
    ids = [labels[y, x] for y in (top, bottom) for x in (left, right)]
    weights = [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]
    alike = {(i, j): ids[i] == ids[j] for i, j in combinations(range(4), 2)}
    best, most = ids[0], np.full(len(fy), -1, dtype=np.float32)
    for i in range(4):
        votes = np.zeros(len(fy), dtype=np.float32)
        for j in range(4):
            votes += weights[j] if i == j else weights[j] * alike[min(i, j), max(i, j)]
        more = votes > most
        best, most = np.where(more, ids[i], best), np.where(more, votes, most)
    return best


def _neighbours(old: int, new: int, first: int, start: int, stop: int) -> _Between:
    """For new pixels from start to stop along one axis: the old pixels before and after their centres, how far between.

    first: the old pixel that counts as 0.
    """
    centre = np.clip((np.arange(start, stop) + 0.5) * old / new - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.intp)
    return before - first, np.minimum(before + 1, old - 1) - first, (centre - before).astype(np.float32)
