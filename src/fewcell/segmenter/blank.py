"""Images in which no cell is worth looking for: too small, even, or noise."""

import numpy as np

from fewcell.images import Pyramid
from fewcell.types import FloatArray

__all__ = ["is_blank", "is_noise"]

SMALLEST_SIDE_PX = 8  # an image with a shorter side than this holds no cell that could be judged
UNLIKELY = 4.0  # standard deviations


def is_blank(image: Pyramid) -> bool:
    """Whether a normalised image is too small or too even to hold a cell."""
    return min(image.shape) < SMALLEST_SIDE_PX or not image.overview().any()


def is_noise(pixels: FloatArray) -> bool:
    """Whether neighbouring pixels of a normalised image have nothing to do with each other, nor blocks of pixels."""
    return all(_are_unlike(_binned(channel, side)) for side in (1, 4, 8) for channel in pixels)


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
