"""TIFF, OME-TIFF, BigTIFF and SVS, window by window: only the tiles or strips are decoded that a window touches.

SVS is read here and not by OpenSlide, so that it needs no extra and means the same as for `read_image`; OpenSlide gets
what tifffile does not turn into one right picture: SVS with JPEG 2000 in luma and chroma, Philips (tiles left out),
Ventana (tiles that overlap), Leica (several areas), Hamamatsu.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fewcell.errors import ReadError
from fewcell.images.memory import available_bytes, check_size
from fewcell.images.raster import Raster, Request, choose_plane
from fewcell.images.read import channels_first, pick_channels, read_raster
from fewcell.images.slide import PictureSlide, Slide, is_smaller, level_steps, taken
from fewcell.images.tiff import check_complete, check_page_list, expand, known_dtype, main_series
from fewcell.images.tiff_metadata import tiff_channel_names, tiff_pixel_size_um
from fewcell.kept import Kept
from fewcell.types import Window

__all__ = ["TiffSlide", "open_tiff_slide"]

# Neighbouring windows share tiles. They share all strips, which are as wide as the slide.
_TILES_KEPT_BYTES = 64 * 2**20
_STRIPS_KEPT_BYTES = 2**29
_STRIPS_KEPT_FRACTION = 1 / 8  # of the memory that is free

_APERIO_LUMA_CHROMA = 33003


@dataclass(frozen=True)
class _Plane:
    """One plane of a level: a page, or one of the colours that a page stores one after the other.

    run_at: where in the file its numbers begin, if they follow each other row by row as they are; None if they are cut
        into tiles or strips, or compressed.
    """

    page: Any
    sample: int
    run_at: int | None


@dataclass(frozen=True)
class _Stored:
    """How the file stores one level: the chosen plane of each channel, or of all channels in one.

    key: the page that says how all pages of the level are stored. axes: "YX", "CYX", "SYX", "YXS" or "YXC".
    samples: which numbers of those that a plane has at each pixel.
    """

    key: Any
    axes: str
    planes: list[_Plane]
    samples: list[int]

    @property
    def shape(self) -> tuple[int, int]:
        return self.key.imagelength, self.key.imagewidth

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Height and width of a tile or strip."""
        if self.key.is_tiled:
            return self.key.tilelength, self.key.tilewidth
        return min(self.key.rowsperstrip, self.shape[0]), self.shape[1]

    @property
    def samples_per_plane(self) -> int:
        return self.key.shaped[4]

    @property
    def taken(self) -> slice | list[int]:
        """The samples as an index."""
        return taken(self.samples, self.samples_per_plane)


def open_tiff_slide(request: Request, channels: Sequence[int] | None) -> Slide:
    """Open a TIFF as a slide; one whose planes do not lie on pages of their own is read into memory, if it fits."""
    tif = tifffile.TiffFile(request.path)
    try:
        slide = _slide(request, channels, tif)
    except BaseException:
        tif.close()
        raise
    if not isinstance(slide, TiffSlide):
        tif.close()
    return slide


def _slide(request: Request, channels: Sequence[int] | None, tif: tifffile.TiffFile) -> Slide:
    if _is_for_openslide(tif):
        from fewcell.images.slide_openslide import ScannerSlide

        return ScannerSlide(request, channels)
    check_page_list(request.path, tif)
    series = main_series(request.path, tif)
    whole = _stored(request, tif, series)
    if whole is None:
        return PictureSlide(read_raster(request), request, channels)
    smaller = (_stored(request, tif, level) for level in series.levels[1:])
    return TiffSlide(request, channels, tif, [whole, *(level for level in smaller if level is not None)])


def _is_for_openslide(tif: tifffile.TiffFile) -> bool:
    is_luma_chroma = tif.is_svs and tif.pages.first.compression == _APERIO_LUMA_CHROMA
    return bool(tif.is_ndpi or tif.is_scn or tif.is_bif or tif.is_philips or is_luma_chroma)


def _stored(request: Request, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> _Stored | None:
    """Where the chosen plane of a level lies in the file; None where planes do not lie on pages of their own."""
    path, key = request.path, series.keyframe
    index, axes = choose_plane(request, series.shape, series.axes)
    dtype = known_dtype(path, key)
    check_size(path, [min(side, 1) for side in series.shape], dtype)
    separate, depth, height, width, together = key.shaped
    y, x = ([n for n, i in enumerate(index) if isinstance(i, slice)][axes.index(a)] for a in "YX")
    before, after = series.shape[:y], series.shape[y + 2 :]
    if series.axes[y : y + 2] != "YX" or x != y + 1 or series.shape[y : y + 2] != (height, width):
        return None
    if depth != 1 or math.prod(after) != together or math.prod(before) % separate:
        return None
    run_at = series.dataoffset
    if run_at is None and math.prod(before) != len(series) * separate:
        return None
    if run_at is not None:
        check_complete(path, tif, series, [])
    numbers = np.atleast_1d(np.arange(math.prod(before)).reshape(before)[index[:y]]).tolist()
    samples = np.atleast_1d(np.arange(together).reshape(after)[index[y + 2 :]]).tolist()
    if run_at is not None:
        plane_bytes = height * width * together * dtype.itemsize
        planes = [_Plane(key, 0, run_at + n * plane_bytes) for n in numbers]
    else:
        pages = [series[n // separate] for n in numbers]
        check_complete(path, tif, series, pages)
        planes = [_plane(page, key, n % separate) for page, n in zip(pages, numbers, strict=True)]
    return _Stored(key, axes, planes, samples)


def _plane(page: Any, key: tifffile.TiffPage, sample: int) -> _Plane:
    """One plane of a page that is complete."""
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    is_run = key.is_final and (len(offsets) == 1 or np.array_equal(offsets[:-1] + counts[:-1], offsets[1:]))
    if not is_run:
        return _Plane(page, sample, None)
    return _Plane(page, sample, int(offsets[0]) + sample * (key.nbytes // key.shaped[0]))


class TiffSlide(Slide):
    """A TIFF of which windows are decoded. Made by `open_tiff_slide`."""

    def __init__(
        self, request: Request, channels: Sequence[int] | None, tif: tifffile.TiffFile, levels: Sequence[_Stored]
    ) -> None:
        """levels: the whole image, then smaller ones; those are left out that differ in more than their size."""
        self._request, self._tif, self._lock = request, tif, Lock()
        whole, *smaller = levels
        self._meaning = _meaning(request.path, tif, whole)
        self.dtype, self.pixel_size_um = self._meaning.dtype, tiff_pixel_size_um(tif, whole.key)
        self._kept, self.channel_names, self.is_colour = pick_channels(
            tiff_channel_names(tif), self._meaning.count, self._meaning.is_colour, channels, request.path
        )
        alike = [whole]
        for level in smaller:
            is_candidate = is_smaller(level.shape, alike[-1].shape) and level.axes == whole.axes
            if is_candidate and _meaning(request.path, tif, level) == self._meaning:
                alike.append(level)
        self._stored = [_only_channels(level, self._kept) for level in alike]
        self.levels = level_steps([level.shape for level in alike])
        most_bytes = max(_bytes_to_keep(request.path, level) for level in self._stored)
        self._chunks = Kept[NDArray[Any]](lambda chunk: chunk.nbytes, most_bytes)
        self.kept_bytes = min(most_bytes, 2 * math.prod(self.shape) * self.n_channels * self.dtype.itemsize)
        for level in self._stored:
            _ = level.key.decode  # made when it is first asked for, which no two threads may do at once

    def close(self) -> None:
        """Close the file; windows can no longer be read."""
        super().close()
        with self._lock:
            self._tif.close()
        self._chunks.clear()

    def _read(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        stored = _only_channels(self._stored[level], channels)
        raster = expand(self.path, Raster(self._numbers(window, level, stored), stored.axes), self._tif, stored.key)
        pixels = channels_first(raster)
        if "C" not in stored.axes:
            if len(pixels) < self._meaning.count:
                pixels = np.repeat(pixels, self._meaning.count, axis=0)  # only grays of a palette are seen
            pixels = pixels[taken([self._kept[n] for n in channels], self._meaning.count)]
        return np.ascontiguousarray(pixels)

    def _numbers(self, window: Window, level: int, stored: _Stored) -> NDArray[Any]:
        """What the file stores for a window, with the axes of the level. stored: those planes of it that are read."""
        top, left, bottom, right = window
        shape = (len(stored.planes), bottom - top, right - left, len(stored.samples))
        out = np.empty(shape, dtype=stored.key.dtype)
        for n, plane in enumerate(stored.planes):
            if plane.run_at is not None:
                out[n] = self._part_of_run(stored, plane.run_at, window)[..., stored.taken]
                continue
            for number, (y, x) in _touched(stored, plane.sample, window):
                key = level, plane.page.dataoffsets[number], number  # where it lies, whichever planes are read
                chunk = self._chunks.get(key, lambda p=plane, i=number: self._decode(stored, p, i))
                height, width = chunk.shape[:2]
                y0, y1, x0, x1 = max(top, y), min(bottom, y + height), max(left, x), min(right, x + width)
                part = chunk[y0 - y : y1 - y, x0 - x : x1 - x]
                out[n, y0 - top : y1 - top, x0 - left : x1 - left] = part[..., stored.taken]
        if stored.axes == "YX":
            return out[0, :, :, 0]
        return out[..., 0] if stored.axes[0] in "CS" else out[0]

    def _part_of_run(self, stored: _Stored, run_at: int, window: Window) -> NDArray[Any]:
        """A window of a plane that is stored row by row as it is: (height, width, samples)."""
        top, left, bottom, right = window
        dtype, together = stored.key.dtype.newbyteorder(self._tif.byteorder), stored.samples_per_plane
        part = np.empty((bottom - top, right - left, together), dtype=dtype)
        pixel_bytes, width = together * dtype.itemsize, stored.shape[1]
        rows = part.view(np.uint8).reshape(1 if right - left == width else bottom - top, -1)
        with self._lock:
            for n, row in enumerate(rows):
                self._tif.filehandle.seek(run_at + ((top + n) * width + left) * pixel_bytes)
                if self._tif.filehandle.readinto(row.data) != row.nbytes:  # pyright: ignore[reportArgumentType]
                    raise ReadError(f"{self.path}: has become shorter while it was read. Get a fresh copy.")
        return part

    def _decode(self, stored: _Stored, plane: _Plane, number: int) -> NDArray[Any]:
        """A tile or strip: (height, width, samples)."""
        page, key = plane.page, stored.key
        count = int(page.databytecounts[number])
        with self._lock:
            self._tif.filehandle.seek(page.dataoffsets[number])
            data = self._tif.filehandle.read(count)
        if len(data) != count:
            raise ReadError(f"{self.path}: has become shorter while it was read. Get a fresh copy.")
        chunk, _, _ = key.decode(data, number, jpegtables=page.jpegtables, jpegheader=key.jpegheader)
        return chunk[0]


@dataclass(frozen=True)
class _Meaning:
    """What the pixels of a level become."""

    count: int
    is_colour: bool
    dtype: np.dtype[Any]


def _meaning(path: Path, tif: tifffile.TiffFile, stored: _Stored) -> _Meaning:
    """What the pixels of a level become, seen from a few: one, or all the colours of a palette."""
    count = max(len(stored.planes), len(stored.samples))
    colours = 1 if stored.key.colormap is None else np.shape(stored.key.colormap)[-1]
    sides = {"Y": 1, "X": colours}
    few = np.empty([sides.get(letter, count) for letter in stored.axes], dtype=stored.key.dtype)
    few[...] = np.arange(colours) if stored.axes == "YX" else 0
    raster = expand(path, Raster(few, stored.axes), tif, stored.key)
    return _Meaning(len(channels_first(raster)), raster.is_colour, raster.array.dtype)


def _only_channels(stored: _Stored, kept: Sequence[int]) -> _Stored:
    """A level of which only some channels are read; all, where they are colours: these are chosen when decoded."""
    if "C" not in stored.axes:
        return stored
    if stored.axes[0] == "C":
        return replace(stored, planes=[stored.planes[i] for i in kept])
    return replace(stored, samples=[stored.samples[i] for i in kept])


def _touched(stored: _Stored, sample: int, window: Window) -> Iterator[tuple[int, tuple[int, int]]]:
    """The tiles or strips that a window touches: their numbers, and where their upper left corners lie."""
    (height, width), (chunk_height, chunk_width) = stored.shape, stored.chunk_shape
    top, left, bottom, right = window
    n_rows, n_columns = -(-height // chunk_height), -(-width // chunk_width)
    for row in range(top // chunk_height, -(-bottom // chunk_height)):
        for column in range(left // chunk_width, -(-right // chunk_width)):
            yield (sample * n_rows + row) * n_columns + column, (row * chunk_height, column * chunk_width)


def _bytes_to_keep(path: Path, stored: _Stored) -> int:
    """How many bytes of decoded tiles or strips to keep. Raises where not even one fits into memory."""
    chunked = [plane for plane in stored.planes if plane.run_at is None]
    if not chunked:
        return 0
    shape = (len(chunked), *stored.chunk_shape, stored.samples_per_plane)
    check_size(path, shape, stored.key.dtype)
    limit = _TILES_KEPT_BYTES
    if not stored.key.is_tiled:
        limit = min(_STRIPS_KEPT_BYTES, int(available_bytes() * _STRIPS_KEPT_FRACTION))
    # Some programs write the whole image as one strip.
    return max(limit, math.prod(shape) * stored.key.dtype.itemsize)
