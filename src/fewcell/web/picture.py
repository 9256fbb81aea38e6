"""An image or slide as the browser shows it: tiles at steps of 1, 2, 4 and so on, and a thumbnail."""

import io
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from fewcell.errors import StackError
from fewcell.images import (
    Contrast,
    Slide,
    SlidePyramid,
    estimate_contrast,
    normalise,
    open_slide,
)
from fewcell.types import Window
from fewcell.web.refusal import Refused

__all__ = ["TILE_PX", "Picture", "open_middle", "tile_window"]

TILE_PX = 512
OVERVIEW_PX = 4_000_000  # the largest copy that is kept in memory
THUMBNAIL_PX = 256
MOST_CHANNELS = 3
JPEG_QUALITY = 90
BRIGHT = 130  # of 255; on images brighter than this on average dark outlines stand out


class Picture:
    """An open image, stretched to what a screen shows by one contrast. Several threads may ask for tiles.

    plane: of a stack or a time series the middle one, letter -> number.
    """

    def __init__(self, path: Path) -> None:
        """Raises as `open_slide`."""
        self.slide, self.plane = open_middle(path)
        self.shape = self.slide.shape
        self.channels = [*range(min(self.slide.n_channels, MOST_CHANNELS))]
        self._lock = Lock()

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes: what is kept of the file, and the overview."""
        overview = min(self.shape[0] * self.shape[1], OVERVIEW_PX) * (4 * len(self.channels) + 3)
        return overview + self.slide.kept_bytes

    def facts(self) -> dict[str, Any]:
        """What the page has to know to show it."""
        return {
            "height": self.shape[0],
            "width": self.shape[1],
            "pixel_size_um": self.slide.pixel_size_um,
            "channel_names": [*self.slide.channel_names],
            "plane": ", ".join(f"{letter} = {number}" for letter, number in self.plane.items()),
            "is_bright": bool(self._shown_overview.mean() > BRIGHT),
            "tile_px": TILE_PX,
        }

    def tile(self, step: int, row: int, column: int) -> bytes:
        """A tile as JPEG: of the copy whose pixels are `step` of the image's wide, at a row and column of tiles."""
        window = tile_window(self.shape, step, row, column)
        _, overview_step = self._overview
        if step >= overview_step:
            times = step // overview_step
            top, left, bottom, right = (edge * times for edge in window)
            pixels = _shrunk(self._shown_overview[top:bottom, left:right], times)
        else:
            pixels = self._view(step, window)
        return _jpeg(pixels)

    def thumbnail(self) -> bytes:
        """The whole image, at most 256 px high and wide, as JPEG."""
        picture = PillowImage.fromarray(self._shown_overview)
        picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        return _jpeg(np.asarray(picture))

    def _view(self, step: int, window: Window) -> NDArray[np.uint8]:
        top, left, bottom, right = window
        of_slide = (top * step, left * step, bottom * step, right * step)
        return _eight_bits(self._pyramid.view(of_slide, (bottom - top, right - left)))

    @cached_property
    def _pyramid(self) -> SlidePyramid:
        return SlidePyramid(self.slide, self.channels, self._contrast, around_damage=True)

    @cached_property
    def _contrast(self) -> Contrast:
        """One stretch for all channels of a colour picture, so that colours stay what they are."""
        contrast = estimate_contrast(self._overview[0])
        if not self.slide.is_colour:
            return contrast
        low = contrast.low.min()
        span = max((contrast.low + contrast.span).max() - low, 1.0)
        return Contrast(np.full(len(contrast.low), low), np.full(len(contrast.low), span))

    @cached_property
    def _shown_overview(self) -> NDArray[np.uint8]:
        return _eight_bits(normalise(self._overview[0], self._contrast))

    @property
    def _overview(self) -> tuple[NDArray[np.float32], int]:
        with self._lock:  # ten people that open a slide wait for one reading of it
            return self._read_overview

    @cached_property
    def _read_overview(self) -> tuple[NDArray[np.float32], int]:
        """The numbers of a small copy, (channel, height, width), and how many pixels of the slide one of its is."""
        step = 1
        while self.shape[0] * self.shape[1] > OVERVIEW_PX * step**2:
            step *= 2
        as_it_is = Contrast(np.zeros(len(self.channels)), np.ones(len(self.channels)))
        pyramid = SlidePyramid(self.slide, self.channels, as_it_is, around_damage=True)
        height, width = (-(-side // step) for side in self.shape)
        return pyramid.numbers(step, (0, 0, height, width)), step


def open_middle(path: Path) -> tuple[Slide, dict[str, int]]:
    """A slide; of a stack or a time series its middle plane, and which that is. Raises as `open_slide`."""
    plane: dict[str, int] = {}
    while True:
        try:
            return open_slide(path, plane=plane or None), plane
        except StackError as error:
            if error.letter in plane:
                raise
            plane[error.letter] = error.size // 2


def tile_window(shape: tuple[int, int], step: int, row: int, column: int) -> Window:
    """Where a tile lies, in pixels of the copy at `step`. Raises Refused where there is no such tile or copy."""
    height, width = -(-shape[0] // max(step, 1)), -(-shape[1] // max(step, 1))
    top, left = row * TILE_PX, column * TILE_PX
    is_power = step > 0 and step & (step - 1) == 0
    if not is_power or step > 2 * max(shape) or not (0 <= top < height and 0 <= left < width):
        raise Refused(404, f"There is no tile {row}, {column} at step {step}.")
    return top, left, min(top + TILE_PX, height), min(left + TILE_PX, width)


def _shrunk(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    return pixels if times == 1 else np.asarray(PillowImage.fromarray(pixels).reduce(times))


def _eight_bits(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(3, height, width) within about [0, 1] -> (height, width, 3)."""
    return (np.clip(pixels, 0, 1).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
