"""An image seen from any distance."""

import numpy as np
from PIL import Image as PillowImage

from fewcell.images.resample import Rows, are_alike, resample
from fewcell.types import FloatArray, Shape, Window

__all__ = ["MOST_OVERVIEW_PX", "Pyramid", "halved"]

MOST_OVERVIEW_PX = 25_000_000
MOST_GRAY_PX, COARSER_GRAY = 4_000_000, 4


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
        overview; where that has more than MOST_GRAY_PX, of one that is up to COARSER_GRAY times as coarse: it tells
        where to look, not what is there.
        """
        wanted = _step(scale)
        coarser = min(self._step_to(MOST_GRAY_PX), COARSER_GRAY * wanted)
        step = max(wanted, coarser, self._overview_step())
        if step not in self._gray:
            pixels = self._level(step)
            self._gray[step] = pixels[0] if len(pixels) == 1 else pixels.mean(axis=0)
        return self._gray[step], step

    def view(self, window: Window, shape: Shape, part: Window | None = None) -> FloatArray:
        """A part of the image, resampled with little aliasing to (height, width) = shape: (3, *shape) float32.

        part: what is wanted of that view, a window in its pixels, by default all; it is the same to the bit. Beyond its
        lower and right edge the view is mirrored, to and fro.
        """
        top, left, bottom, right = window
        y0, x0, y1, x1 = part or (0, 0, *shape)
        step = _step(max(shape[0] / (bottom - top), shape[1] / (right - left)))
        height, width = (-(-side // step) for side in self.shape)
        rows = Rows.resampled(top / step, (bottom - top) / step / shape[0], shape[0], (y0, y1), height)
        columns = Rows.resampled(left / step, (right - left) / step / shape[1], shape[1], (x0, x1), width)
        pixels = self._part(step, (rows.first, columns.first, rows.stop, columns.stop))
        seen = np.empty((3, y1 - y0, x1 - x0), dtype=np.float32)
        for channel, plane in zip(seen, pixels if len(pixels) == 3 else pixels[:1], strict=False):
            resample(plane, rows, columns, channel)
        if len(pixels) == 1:
            seen[1:] = seen[0]
        return seen

    def _overview_step(self) -> int:
        return self._step_to(MOST_OVERVIEW_PX)

    def _step_to(self, most_px: int) -> int:
        """How wide a pixel is of the largest copy that has no more than so many."""
        step = 1
        while -(-self.shape[0] // step) * -(-self.shape[1] // step) > most_px:
            step *= 2
        return step

    def _level(self, step: int) -> FloatArray:
        """The copy whose pixels are `step` of the image's wide, a power of two: one channel if the image is gray."""
        number = step.bit_length() - 1
        while len(self._levels) <= number:
            self._levels.append(halved(self._levels[-1]))
        return self._levels[number]

    def _part(self, step: int, window: Window) -> FloatArray:
        top, left, bottom, right = window
        return self._level(step)[:, top:bottom, left:right]


def _step(scale: float) -> int:
    """The largest power of two, 1 at least, so many pixels of which at the scale `scale` are no more than one."""
    return 2 ** max(0, int(np.floor(np.log2(1 / scale))))


def halved(pixels: FloatArray) -> FloatArray:
    """The means of 2 x 2 pixels; of an odd last row or column, of those that are there."""
    return np.stack([np.asarray(PillowImage.fromarray(channel).reduce(2)) for channel in pixels])
