"""Images in which no cell is worth looking for: too small, even, or noise."""

import numpy as np

from fewcell.images import Pyramid
from fewcell.types import FloatArray

__all__ = ["is_blank", "is_noise"]

SMALLEST_SIDE_PX = 8  # an image with a shorter side than this holds no cell that could be judged
MIDDLE_PX = 512  # side of the middle of an image
UNLIKELY = 4.0  # standard deviations


def is_blank(image: Pyramid) -> bool:
    """Whether a normalised image is too small or too even to hold a cell."""
    return min(image.shape) < SMALLEST_SIDE_PX or not any(row.any() for row in image.overview().swapaxes(0, 1))


def is_noise(pixels: FloatArray) -> bool:
    """Whether neighbouring pixels of a normalised image have nothing to do with each other, nor blocks of pixels.

    Where those in the middle have, the rest is not looked at.
    """
    y, x = (max(side - MIDDLE_PX, 0) // 2 for side in pixels.shape[-2:])
    middle = pixels[:, y : y + MIDDLE_PX, x : x + MIDDLE_PX]
    parts = [pixels] if middle.shape == pixels.shape else [middle, pixels]
    return all(_are_unlike(_binned(channel, side)) for part in parts for side in (1, 4, 8) for channel in part)


def _binned(channel: FloatArray, side: int) -> FloatArray:
    """The means of blocks; faint cells stand out of the noise there."""
    height, width = (extent // side for extent in channel.shape)
    return channel[: height * side, : width * side].reshape(height, side, width, side).mean(axis=(1, 3))


def _are_unlike(values: FloatArray) -> bool:
    """Whether neighbours are no more alike than in noise."""
    values = values - values.mean() if values.size else values
    most = UNLIKELY / np.sqrt(max(values.size, 1)) * float(np.square(values).sum())
    alike = np.vdot(values[1:], values[:-1]), np.vdot(values[:, 1:], values[:, :-1])
    return max(float(np.real(a)) for a in alike) <= most
