"""Images and labels on another grid. Grids cover the same field: pixel edges, not centres, are aligned."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from fewcell.types import FloatArray, Labels

__all__ = ["resize_image", "resize_labels"]

Shape = tuple[int, int]


def resize_image(pixels: FloatArray, shape: Shape) -> FloatArray:
    """Resample an image to (height, width) = shape, without aliasing when it shrinks.

    pixels: (channel, height, width) float32, finite. Bilinear (a triangle as wide as the step when shrinking).
    """
    if pixels.shape[-2:] == tuple(shape):
        return pixels
    size = (shape[1], shape[0])
    resized = [PillowImage.fromarray(c).resize(size, PillowImage.Resampling.BILINEAR) for c in pixels]
    return np.stack([np.asarray(c, dtype=np.float32) for c in resized])


def resize_labels(labels: Labels, shape: Shape) -> Labels:
    """Resample labels to (height, width) = shape; outlines stay smooth when they grow.

    Each new pixel takes the label that has the largest bilinear weight among its four neighbours on the old
    grid, so a diagonal outline does not turn into stairs. When labels shrink this is the nearest label. No
    label is ever invented; one smaller than a new pixel can vanish.
    """
    if labels.shape == tuple(shape):
        return labels
    top, bottom, fy = _neighbours(labels.shape[0], shape[0])
    left, right, fx = _neighbours(labels.shape[1], shape[1])
    nearest = labels[np.where(fy < 0.5, top, bottom)][:, np.where(fx < 0.5, left, right)]
    corners = [labels[rows][:, columns] for rows in (top, bottom) for columns in (left, right)]
    y, x = np.nonzero((corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3]))
    if not len(y):
        return nearest
    ids = np.stack([c[y, x] for c in corners])
    wy, wx = np.stack([1 - fy[y], fy[y]]), np.stack([1 - fx[x], fx[x]])
    weights = np.stack([wy[0] * wx[0], wy[0] * wx[1], wy[1] * wx[0], wy[1] * wx[1]])
    votes = np.stack([(weights * (ids == ids[i])).sum(axis=0) for i in range(4)])
    nearest[y, x] = ids[votes.argmax(axis=0), np.arange(len(y))]
    return nearest


def _neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """For each new pixel along one axis: the old pixels before and after its centre, and how far between."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    before = np.floor(centre).astype(np.intp)
    return before, np.minimum(before + 1, old - 1), (centre - before).astype(np.float32)
