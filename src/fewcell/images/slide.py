"""Large images, read window by window: a slide is never in memory as a whole.

What pixels mean is the same as for `read_image`: brighter is larger, alpha is dropped, palettes are expanded, a file
that is cut short is an error. Besides:
- A slide may hold smaller copies of itself. Those that differ in more than their size are left out.
- A palette is gray if all its colours are, not only those that the image shows.
- What a whole-slide scanner left out (transparent in Mirax, for instance) is white.
"""

import hashlib
import json
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ReadError, TooLargeError
from fewcell.images.memory import check_size
from fewcell.images.raster import Raster, Request
from fewcell.images.read import (
    SUFFIXES,
    channels_first,
    check_channels,
    check_is_image_file,
    is_tiff,
    one_clear_error,
    pick_channels,
    quiet_libraries,
    read_raster,
)
from fewcell.types import Window

__all__ = [
    "SCANNER_SUFFIXES",
    "SLIDE_SUFFIXES",
    "Level",
    "PictureSlide",
    "Slide",
    "is_smaller",
    "level_steps",
    "open_slide",
    "read_around_damage",
    "taken",
]

# Formats of whole-slide scanners that OpenSlide reads.
SCANNER_SUFFIXES = (".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".dcm")
SLIDE_SUFFIXES = (*SUFFIXES, ".zarr", *SCANNER_SUFFIXES)

SQUARES_PX = (256, 64)  # sides of what is read at once around damage


@dataclass(frozen=True)
class Level:
    """A copy of a slide at one size.

    shape: height and width of the copy, in its own pixels.
    step: how many pixels of level 0 one of its pixels is high and wide, (y, x).
    """

    shape: tuple[int, int]
    step: tuple[float, float]


class Slide(ABC):
    """A large image of which windows are read; close it after use, or use it in a `with` statement.

    levels: the copies of the slide; level 0 is the largest, each of the others is smaller than the one before.
    channel_names, is_colour, pixel_size_um: as of an `Image`; the pixel size is that of level 0.
    dtype: the type of the numbers in the file. kept_bytes: about how much memory it holds while it is open.

    Several threads may read at the same time.
    """

    levels: tuple[Level, ...]
    channel_names: tuple[str, ...]
    is_colour: bool
    dtype: np.dtype[Any]
    pixel_size_um: float | None
    kept_bytes: int = 64 * 2**20
    _request: Request
    _kept: list[int]  # the numbers of the channels that were chosen
    _is_closed = False

    @property
    def path(self) -> Path:
        """The file or folder of the slide."""
        return self._request.path

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole slide, in pixels of level 0."""
        return self.levels[0].shape

    @property
    def n_channels(self) -> int:
        """How many channels a window has."""
        return len(self.channel_names)

    def read(self, window: Window, level: int = 0, channels: Sequence[int] | None = None) -> NDArray[Any]:
        """Read one window: (channel, height, width), the file's own numbers.

        window: top, left, bottom, right in pixels of that level, ends excluded; it must lie inside. channels: which of
        the slide's, in order, by default all; the others are not decoded where the file stores them apart.

        Raises ReadError where this part of the file is damaged, TooLargeError where the window would not fit into
        memory, AxesError for channels that it does not have, ValueError where the window does not lie inside or the
        slide has been closed.
        """
        if self._is_closed:
            raise ValueError(f"{self.path}: the slide has been closed. Open it again with open_slide.")
        if not 0 <= level < len(self.levels):
            raise ValueError(f"{self.path}: has no level {level}, only 0 to {len(self.levels) - 1}.")
        height, width = self.levels[level].shape
        top, left, bottom, right = map(operator.index, window)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"{self.path}: the window {window} (top, left, bottom, right) is empty or not inside level {level}, "
                f"which is {height} x {width} px."
            )
        chosen = tuple(range(self.n_channels) if channels is None else channels)
        check_channels(chosen, self.channel_names, str(self.path))
        check_size(self.path, (len(chosen), bottom - top, right - left), self.dtype)
        with one_clear_error(self.path):
            return self._read((top, left, bottom, right), level, chosen)

    def fingerprint(self) -> str:
        """16 letters that change when the file or what was chosen of it changes.

        Made of names, sizes and times of the files, not of their content, so it is quick for any slide.
        """
        with one_clear_error(self.path):
            files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in sorted(self._files())]
        planes = sorted((letter.lower(), int(number)) for letter, number in (self._request.plane or {}).items())
        chosen = [self._request.axes, planes, self._kept, self.shape]
        text = json.dumps([files, chosen, self.channel_names, str(self.dtype), self.pixel_size_um])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def close(self) -> None:
        """Close the files; windows can no longer be read."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _read(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        """Read channels of the slide in a window that lies inside. Called by several threads at once."""

    def _files(self) -> Iterable[tuple[str, os.stat_result]]:
        """The files that the slide consists of: a name for each, and what the system says about it."""
        yield self.path.name, self.path.stat()


class PictureSlide(Slide):
    """A picture in memory, served like a slide with one level: its file can only be read as a whole."""

    def __init__(self, raster: Raster, request: Request, channels: Sequence[int] | None) -> None:
        """raster: what `read_raster` gives for the request. channels: as for `open_slide`."""
        pixels = channels_first(raster)
        picked = pick_channels(raster.channel_names, len(pixels), raster.is_colour, channels, request.path)
        self._request = request
        self._kept, self.channel_names, self.is_colour = picked
        self._pixels = pixels[taken(self._kept, len(pixels))]
        self.dtype, self.pixel_size_um = pixels.dtype.newbyteorder("="), raster.pixel_size_um
        self.levels = level_steps([(pixels.shape[1], pixels.shape[2])])
        self.kept_bytes = pixels.nbytes

    def _read(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        top, left, bottom, right = window
        pixels = self._pixels[:, top:bottom, left:right][taken(channels, self.n_channels)]
        return np.array(pixels, dtype=self.dtype, order="C")

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self._pixels = np.empty((0, 0, 0), dtype=self.dtype)


def open_slide(
    path: str | os.PathLike[str],
    *,
    channels: Sequence[int] | None = None,
    axes: str | None = None,
    plane: Mapping[str, int] | None = None,
) -> Slide:
    """Open a large image to read it window by window: TIFF, OME-TIFF, SVS, OME-Zarr, and scanners' own formats.

    channels, axes, plane: as for `read_image`. PNG, JPEG, BMP and TIFFs of an unusual layout are read into memory at
    once, if they fit. NDPI, MRXS, SCN, BIF, VMS, CZI and the like need the extra `slides`.

    Raises AxesError where the file holds more than one plane or does not say what its dimensions are,
    TooLargeError where what can only be read as a whole would not fit into memory, ReadError where it is damaged or
    of another kind, MissingDependencyError where the extra is missing.
    """
    request = Request(Path(path), axes, plane)
    with one_clear_error(request.path), quiet_libraries():
        return _open(request, channels)


def _open(request: Request, channels: Sequence[int] | None) -> Slide:
    path = request.path
    if path.is_dir():
        from fewcell.images.slide_zarr import ZarrSlide

        return ZarrSlide(request, channels)
    check_is_image_file(path, SLIDE_SUFFIXES)
    if path.suffix.lower() in SCANNER_SUFFIXES:
        from fewcell.images.slide_openslide import ScannerSlide

        return ScannerSlide(request, channels)
    if is_tiff(path):
        from fewcell.images.slide_tiff import open_tiff_slide

        return open_tiff_slide(request, channels)
    return PictureSlide(read_raster(request), request, channels)


def read_around_damage(
    slide: Slide, window: Window, level: int = 0, channels: Sequence[int] | None = None
) -> NDArray[Any]:
    """Read a window of a slide, (channel, height, width); where parts are damaged, as float32 with NaN in their place.

    channels: as for `Slide.read`. What cannot be read at once is read in squares, these in smaller ones, and what is
    left of them is left out.
    """
    chosen = range(slide.n_channels) if channels is None else channels
    return _read_squares(slide, window, level, chosen, SQUARES_PX)


def _read_squares(
    slide: Slide, window: Window, level: int, channels: Sequence[int], sides_px: Sequence[int]
) -> NDArray[Any]:
    try:
        return slide.read(window, level, channels)
    except TooLargeError:
        raise
    except ReadError:
        top, left, bottom, right = window
        pixels = np.full((len(channels), bottom - top, right - left), np.nan, dtype=np.float32)
        for side in sides_px[:1]:
            for y, x in product(range(top, bottom, side), range(left, right, side)):
                square = (y, x, min(y + side, bottom), min(x + side, right))
                part = np.s_[:, y - top : square[2] - top, x - left : square[3] - left]
                pixels[part] = _read_squares(slide, square, level, channels, sides_px[1:])
        return pixels


def taken(numbers: Sequence[int], count: int) -> slice | list[int]:
    """Some of the numbers below `count` as an index, which copies nothing where it is all of them in order."""
    return slice(None) if [*numbers] == [*range(count)] else [*numbers]


def is_smaller(shape: tuple[int, int], than: tuple[int, int]) -> bool:
    """Whether a copy is smaller than another: nowhere larger, and not of the same size."""
    return shape[0] <= than[0] and shape[1] <= than[1] and shape != than


def level_steps(shapes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """The levels that have these heights and widths, the largest first.

    Programs halve (or quarter) again and again and round up or down, so a step is taken as a whole number where that
    gives these sizes.
    """
    full = shapes[0]
    longest = int(np.argmax(full))
    levels = []
    for shape in shapes:
        whole = round(full[longest] / shape[longest])
        is_whole = all(abs(a / whole - b) < 1 for a, b in zip(full, shape, strict=True))
        step = (float(whole), float(whole)) if is_whole else (full[0] / shape[0], full[1] / shape[1])
        levels.append(Level(shape, step))
    return tuple(levels)
