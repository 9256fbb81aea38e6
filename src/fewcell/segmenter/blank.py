"""Images in which no cell is worth looking for: too small, even, or noise."""

import numpy as np

from fewcell.images import Pyramid
from fewcell.types import FloatArray

__all__ = ["is_blank", "is_noise"]

SMALLEST_SIDE_PX = 8  # an image with a shorter side than this holds no cell that could be judged
MIDDLE_PX = 512  # side of the middle of an image
UNLIKELY = 4.0  # standard deviations
JPEG_BLOCK_PX = 8


def is_blank(image: Pyramid) -> bool:
    """Whether a normalised image is too small or too even to hold a cell."""
    return min(image.shape) < SMALLEST_SIDE_PX or not any(row.any() for row in image.overview().swapaxes(0, 1))


def is_noise(pixels: FloatArray) -> bool:
    """Whether neighbouring pixels of a normalised image have nothing to do with each other, nor blocks of pixels.

    Only neighbours in different JPEG_BLOCKs are looked at: compression makes noise alike within one. Where those in the
    middle of the image are alike, the rest is not looked at.
    """
    y, x = (max(side - MIDDLE_PX, 0) // 2 // JPEG_BLOCK_PX * JPEG_BLOCK_PX for side in pixels.shape[-2:])
    middle = pixels[:, y : y + MIDDLE_PX, x : x + MIDDLE_PX]
    parts = [pixels] if middle.shape == pixels.shape else [middle, pixels]
    return all(_are_unlike(channel, side) for part in parts for side in (1, 4, 8) for channel in part)


def _are_unlike(channel: FloatArray, side: int) -> bool:
    """Whether neighbours are no more alike than in noise. side: of the blocks that are compared by their means.

    Faint cells stand out of the noise in blocks.
    """
    height, width = (extent // side for extent in channel.shape)
    values = channel[: height * side, : width * side].reshape(height, side, width, side).mean(axis=(1, 3))
    values = values - values.mean() if values.size else values
    return all(_alike(along, JPEG_BLOCK_PX // side) <= UNLIKELY for along in (values, values.T))


def _alike(values: FloatArray, step: int) -> float:
    """The covariance of rows on both sides of every `step`-th edge, in standard deviations of that of noise."""
    after = values[step::step]
    before = values[step - 1 :: step][: len(after)]
    expected = float(np.square(values).mean()) * np.sqrt(after.size) if after.size else 0.0
    return float(np.vdot(before, after)) / expected if expected else 0.0
