"""An image seen from any distance."""

import numpy as np
from PIL import Image as PillowImage

from fewcell.images.resample import Shape, are_alike, resize_image
from fewcell.types import FloatArray

__all__ = ["MOST_OVERVIEW_PX", "Field", "Pyramid", "Window"]

Window = tuple[int, int, int, int]
"""A part of an image: top, left, bottom, right in its pixels, ends excluded."""
Field = tuple[float, float, float, float]
"""As a window, whose edges may cut pixels."""

MARGIN_PX = 3  # of a copy: beyond the edge of a field, as far as resampling looks
MOST_OVERVIEW_PX = 16_000_000


class Pyramid:
    """A normalised image and, as soon as they are asked for, copies of half its size, a quarter and so on.

    What a view costs depends on how many pixels it has, not on how many the image has there: an image that is larger
    than need be costs one pass to make it smaller.
    """

    def __init__(self, pixels: FloatArray) -> None:
        """pixels: (3, height, width) float32, finite."""
        self._levels = [pixels[:1] if are_alike(pixels) else pixels]
        self._gray: dict[int, FloatArray] = {}
        self.shape: Shape = (pixels.shape[1], pixels.shape[2])
        self.whole: Window = (0, 0, *self.shape)

    def overview(self) -> FloatArray:
        """The image, (channel, height, width) float32, or of a very large one the largest copy that is not."""
        return self._level(self._overview_step())

    def gray(self, scale: float) -> tuple[FloatArray, int]:
        """The mean of the channels of a copy, (height, width), and how many of the image's pixels one of its is wide.

        Of the smallest copy in which `scale` pixels or more stand for one of the image's, but no larger than the
        overview.
        """
        step = max(_step(scale), self._overview_step())
        if step not in self._gray:
            pixels = self._level(step)
            self._gray[step] = pixels[0] if len(pixels) == 1 else pixels.mean(axis=0)
        return self._gray[step], step

    def view(self, field: Field, shape: Shape, scale: float | None = None) -> FloatArray:
        """A part of the image, resampled with little aliasing to (height, width) = shape: (3, *shape) float32.

        scale: pixels of the view for one of the image's, to take all views of one scale from the same copy; by default
        as the shape asks for. Parts of a view are views of parts.
        """
        top, left, bottom, right = field
        step = _step(scale or max(shape[0] / (bottom - top), shape[1] / (right - left)))
        height, width = (-(-side // step) for side in self.shape)
        first_y, first_x = (max(int(edge / step) - MARGIN_PX, 0) for edge in (top, left))
        last_y = min(int(np.ceil(bottom / step)) + MARGIN_PX, height)
        last_x = min(int(np.ceil(right / step)) + MARGIN_PX, width)
        part = self._part(step, (first_y, first_x, last_y, last_x))
        box = (left / step - first_x, top / step - first_y, right / step - first_x, bottom / step - first_y)
        seen = resize_image(part, shape, box)
        return np.repeat(seen, 3, axis=0) if len(seen) == 1 else np.ascontiguousarray(seen)

    def _overview_step(self) -> int:
        step = 1
        while -(-self.shape[0] // step) * -(-self.shape[1] // step) > MOST_OVERVIEW_PX:
            step *= 2
        return step

    def _level(self, step: int) -> FloatArray:
        """The copy whose pixels are `step` of the image's wide, a power of two: one channel if the image is gray."""
        number = step.bit_length() - 1
        while len(self._levels) <= number:
            self._levels.append(_halved(self._levels[-1]))
        return self._levels[number]

    def _part(self, step: int, window: Window) -> FloatArray:
        top, left, bottom, right = window
        return self._level(step)[:, top:bottom, left:right]


def _step(scale: float) -> int:
    """The largest power of two, 1 at least, so many pixels of which at the scale `scale` are no more than one."""
    return 2 ** max(0, int(np.floor(np.log2(1 / scale))))


def _halved(pixels: FloatArray) -> FloatArray:
    """The means of 2 x 2 pixels; of an odd last row or column, of those that are there."""
    return np.stack([np.asarray(PillowImage.fromarray(channel).reduce(2)) for channel in pixels])
