"""The own formats of whole-slide scanners, such as NDPI, MRXS, SCN and BIF, read by OpenSlide."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from fewcell.errors import AxesError, MissingDependencyError, require
from fewcell.images.raster import Request, choose_plane
from fewcell.images.read import pick_channels
from fewcell.images.slide import Slide, is_smaller, level_steps
from fewcell.images.tiff_metadata import square_pixel_um
from fewcell.types import Window

__all__ = ["ScannerSlide"]


class ScannerSlide(Slide):
    """A slide that OpenSlide reads, always red, green and blue of 8 bits. What the scanner left out is white.

    Where a level's step is no whole number, OpenSlide moves its pixels by a fraction of one.
    """

    def __init__(self, request: Request, channels: Sequence[int] | None) -> None:
        """channels: as for `open_slide`."""
        require("slides", "openslide")
        try:
            import openslide
        except (ImportError, OSError) as error:  # the library in C is a package of its own
            raise MissingDependencyError("openslide-bin", "slides") from error
        self._request, self._library = request, openslide
        self._slide = openslide.OpenSlide(request.path)
        self._steps = self._slide.level_downsamples
        shapes = [(height, width) for width, height in self._slide.level_dimensions]
        if choose_plane(request, (*shapes[0], 3), "YXS")[1] != "YXS":
            raise AxesError(
                f"{request.path}: its colours are no planes. Choose one as a channel, such as --channels 0."
            )
        picked = pick_channels((), 3, True, channels, request.path)
        self._kept, self.channel_names, self.is_colour = picked
        # The levels below one that is not smaller would have other numbers than in the file.
        n_smaller = next((n for n in range(1, len(shapes)) if not is_smaller(shapes[n], shapes[n - 1])), len(shapes))
        self.levels = level_steps(shapes[:n_smaller])
        self.dtype = np.dtype(np.uint8)
        said = [self._slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        x_um, y_um = (float(um) if um else float("nan") for um in said)
        self.pixel_size_um = square_pixel_um(x_um, y_um)

    def close(self) -> None:
        """Close the files; windows can no longer be read."""
        super().close()
        self._slide.close()

    def _read(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        top, left, bottom, right = window
        step = self._steps[level]
        corner = round(left * step), round(top * step)
        size = right - left, bottom - top
        try:
            seen = self._slide.read_region(corner, level, size)
        except self._library.OpenSlideError:  # one that has failed once, for whoever it was, fails ever after
            self._slide = self._library.OpenSlide(self.path)
            seen = self._slide.read_region(corner, level, size)
        white = PillowImage.new("RGBA", seen.size, (255, 255, 255, 255))
        pixels = np.asarray(PillowImage.alpha_composite(white, seen))
        return np.ascontiguousarray(pixels[..., [self._kept[n] for n in channels]].transpose(2, 0, 1))

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """The file, and those in the folder of the same name, where Mirax keeps the pixels."""
        yield from super()._files()
        folder = self.path.with_suffix("")
        if folder.is_dir() and self.path.suffix.lower() == ".mrxs":
            for file in folder.iterdir():
                yield f"{folder.name}/{file.name}", file.stat()
