"""TIFF, OME-TIFF, BigTIFF and SVS: one plane of the main image, whole or not at all."""

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from fewcell.errors import ReadError
from fewcell.images.memory import check_size
from fewcell.images.picture import gray_or_colour
from fewcell.images.raster import Raster, Request, choose_plane
from fewcell.images.tiff_metadata import tiff_channel_names, tiff_pixel_size_um

__all__ = ["check_complete", "check_page_list", "expand", "known_dtype", "main_series", "read_tiff"]


def read_tiff(request: Request) -> Raster:
    """Read the plane that was asked for, and nothing else where planes are stored one by one."""
    path = request.path
    with tifffile.TiffFile(path) as tif:
        check_page_list(path, tif)
        series = main_series(path, tif)
        page = series.keyframe
        index, axes = choose_plane(request, series.shape, series.axes)
        dtype = known_dtype(path, page)
        numbers = _page_numbers(series, index)
        wanted = [series[n] for n in numbers] if numbers else list(series)
        check_size(path, (len(wanted), *page.shape) if numbers else series.shape, dtype)
        check_complete(path, tif, series, wanted)
        if numbers:
            kept = [n for n, i in zip(series.shape, index, strict=True) if isinstance(i, slice)]
            array = tif.asarray(key=numbers, series=series).reshape(kept)
        else:
            array = tif.asarray(series=series)[index]
        raster = Raster(array, axes, False, tiff_pixel_size_um(tif, page), tiff_channel_names(tif))
        return raster if request.as_labels else expand(path, raster, tif, page)


def main_series(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The only image of a TIFF, or the largest where the others are its thumbnail, label or overview."""
    if not tif.series:
        raise ReadError(f"{path}: holds no image. Get a fresh copy.")
    first, *others = tif.series
    extras = ("thumbnail", "label", "macro", "overview", "map")
    for other in others:
        is_extra = other.keyframe.is_reduced or other.name.lower().startswith(extras)
        if not (is_extra and other.size < first.size):
            shapes = ", ".join(str(s.shape) for s in tif.series[:5]) + (", ..." if len(others) > 4 else "")
            raise ReadError(
                f"{path}: holds {len(tif.series)} images that do not belong together, of shapes {shapes}. "
                "Save the one that you want as its own file."
            )
    return first


def known_dtype(path: Path, page: tifffile.TiffPage) -> np.dtype[Any]:
    """The type of the numbers of a page. Raises ReadError where tifffile does not know it."""
    if page.dtype is None:
        raise ReadError(f"{path}: holds numbers of an unknown kind. Save it as 8, 16 or 32 bits.")
    return page.dtype


def _page_numbers(series: tifffile.TiffPageSeries, index: tuple[int | slice, ...]) -> list[int]:
    """Which pages hold the chosen plane; none where pages are not planes: then all are read."""
    page_dims = len(series.keyframe.shape)
    stack, of_page = series.shape[: len(series.shape) - page_dims], index[len(index) - page_dims :]
    one_each = series.shape[len(stack) :] == series.keyframe.shape and len(series) == math.prod(stack)
    if not stack or not one_each or any(i != slice(None) for i in of_page):
        return []
    return np.arange(len(series)).reshape(stack)[index[: len(stack)]].ravel().tolist()


def check_page_list(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise where the list of pages breaks off or runs in a circle: tifffile would leave out the rest."""
    layout, file = tif.tiff, tif.filehandle

    def number(position: int, kind: str) -> int:
        file.seek(position)
        return struct.unpack(kind, file.read(struct.calcsize(kind)))[0]

    seen: set[int] = set()
    offset = number(8 if tif.is_bigtiff else 4, layout.offsetformat)
    while offset:
        if offset in seen or offset >= file.size:
            raise ReadError(f"{path}: is cut short or damaged: its list of pages breaks off. Get a fresh copy.")
        seen.add(offset)
        tags_size = number(offset, layout.tagnoformat) * layout.tagsize
        offset = number(offset + layout.tagnosize + tags_size, layout.offsetformat)


def check_complete(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, pages: Sequence[Any]) -> None:
    """Raise where strips or tiles are missing or beyond the end of the file: tifffile would put zeros."""
    if any(page is not None and page.parent is not tif for page in pages):
        raise ReadError(
            f"{path}: is one of several files of one image. Save the image as a single file, for instance in Fiji."
        )
    key, file_size, run_at = series.keyframe, tif.filehandle.size, series.dataoffset
    if run_at is not None:
        is_whole = 0 < run_at <= file_size - series.nbytes
    else:
        has_all_pages = len(series) * math.prod(key.shape) == series.size
        is_whole = has_all_pages and all(page and _has_its_bytes(page, key, file_size) for page in pages)
    # Where an ImageJ stack is shorter than it says, tifffile takes what is there as another kind of file.
    is_short_stack = tif.is_imagej and series.kind in ("generic", "uniform")
    if not is_whole or is_short_stack:
        raise ReadError(f"{path}: is cut short or damaged: some of its pixels are missing. Get a fresh copy.")


def _has_its_bytes(page: Any, key: tifffile.TiffPage, file_size: int) -> bool:
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    if key.is_contiguous:
        # Some programs write wrong counts here, and they are not needed.
        return offsets[0] > 0 and int(offsets[0]) + key.nbytes <= file_size
    return (
        len(offsets) == len(counts) >= math.prod(key.chunked)
        and offsets.min() > 0
        and counts.min() > 0
        and (offsets + counts).max() <= file_size
    )


def expand(path: Path, raster: Raster, tif: tifffile.TiffFile, page: Any) -> Raster:
    """Turn what TIFF calls photometric interpretation into gray or colour where brighter is larger."""
    kind, array = getattr(page.photometric, "name", str(page.photometric)), raster.array
    is_measured = tif.is_imagej or tif.is_ome
    if kind == "PALETTE" and not is_measured and raster.axes == "YX":
        table = np.asarray(page.colormap).T
        # Colours of 8 bits are stored as 16, by some programs times 257, by others times 256.
        if not (table & 0xFF).any() or np.array_equal(table >> 8, table & 0xFF):
            table = (table >> 8).astype(np.uint8)
        expanded = gray_or_colour(table[array])
        return replace(raster, array=expanded.array, axes=expanded.axes, is_colour=expanded.is_colour)
    if kind == "MINISWHITE" and array.dtype.kind in "bu" and not is_measured:
        full = array.dtype.type(2**page.bitspersample - 1)
        return _without_alpha(replace(raster, array=full ^ array), page)
    # Compressed as JPEG, luma and chroma have been turned to RGB by the decoder.
    is_decoded = kind == "YCBCR" and page.compression in (6, 7, 33007)
    if is_decoded or is_measured or kind in ("RGB", "MINISBLACK", "MINISWHITE", "MASK"):
        return _without_alpha(raster, page)
    raise ReadError(f"{path}: stores colours as {kind}, which is not supported. Save it as RGB.")


def _without_alpha(raster: Raster, page: Any) -> Raster:
    if "S" not in raster.axes:
        return raster
    axis = raster.axes.index("S")
    samples, is_rgb = raster.array.shape[axis], page.photometric.name in ("RGB", "YCBCR")
    keep = samples
    if is_rgb and samples in (3, 4):
        keep = 3
    elif any(extra in (1, 2) for extra in page.extrasamples[-1:]):
        keep = samples - 1
    array = raster.array.take(range(keep), axis) if keep < samples else raster.array
    return replace(raster, array=array, is_colour=is_rgb and keep == 3)
