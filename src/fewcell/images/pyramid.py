"""An image seen from any distance."""

import numpy as np
from PIL import Image as PillowImage

from fewcell.images.resample import Shape, are_alike, resize_image
from fewcell.types import FloatArray

__all__ = ["Pyramid", "Window"]

Window = tuple[int, int, int, int]
"""A part of an image: top, left, bottom, right in its pixels, ends excluded."""


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

    def level(self, scale: float) -> tuple[FloatArray, int]:
        """The smallest copy in which `scale` pixels or more stand for one of the image's, the image itself at most.

        Returns (channel, height, width) float32, one channel if the image is gray, and how many of the image's pixels
        one of its pixels is wide.
        """
        number = max(0, int(np.floor(np.log2(1 / scale))))
        while len(self._levels) <= number:
            self._levels.append(_halved(self._levels[-1]))
        return self._levels[number], 2**number

    def gray(self, scale: float) -> tuple[FloatArray, int]:
        """The mean of the channels of such a copy, (height, width), and the width of its pixels."""
        pixels, step = self.level(scale)
        if step not in self._gray:
            self._gray[step] = pixels[0] if len(pixels) == 1 else pixels.mean(axis=0)
        return self._gray[step], step

    def view(self, window: Window, shape: Shape) -> FloatArray:
        """A part of the image, resampled with little aliasing to (height, width) = shape: (3, *shape) float32."""
        top, left, bottom, right = window
        pixels, step = self.level(max(shape[0] / (bottom - top), shape[1] / (right - left)))
        first_y, first_x = top // step, left // step
        part = pixels[:, first_y : -(-bottom // step), first_x : -(-right // step)]
        box = (left / step - first_x, top / step - first_y, right / step - first_x, bottom / step - first_y)
        seen = resize_image(part, shape, box)
        return np.repeat(seen, 3, axis=0) if len(seen) == 1 else np.ascontiguousarray(seen)


def _halved(pixels: FloatArray) -> FloatArray:
    """The means of 2 x 2 pixels; of an odd last row or column, of those that are there."""
    return np.stack([np.asarray(PillowImage.fromarray(channel).reduce(2)) for channel in pixels])
