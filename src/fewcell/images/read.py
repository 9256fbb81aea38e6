"""Read microscopy images and label images from PNG, JPEG, BMP and TIFF files.

What is decided here, once:
- The content counts, not the suffix: a PNG named `.jpg` is read as the PNG it is. The suffix must be a known
  one.
- Alpha is dropped, and so is the fourth sample beside red, green and blue.
- Palettes are expanded to colours, or to gray where all their colours are gray; but in ImageJ and OME files,
  where a palette is only a way to display measured values, the values are kept. Labels keep their numbers.
- Rows and columns are as stored: EXIF and TIFF orientation tags are not applied, as in ImageJ and
  scikit-image, so that labels drawn there fit.
- Brighter is larger: gray TIFFs that store white as 0 are turned round (labels never are).
- A file that is cut short is an error; missing strips or tiles are never filled in.
"""

import io
import logging
import math
import os
import re
import struct
import warnings
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin
from PIL import Image as PillowImage

from fewcell.errors import AxesError, FewcellError, ReadError, TooLargeError
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = ["MEMORY_FRACTION", "SUFFIXES", "Image", "list_images", "read_image", "read_labels"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".btf", ".tf8", ".svs")

# An image may take this share of the memory that is free, counted as stored plus as float32: the rest of the
# work needs room too.
MEMORY_FRACTION = 0.5


@dataclass(frozen=True)
class Image:
    """An image as read from a file, with what the file says about it.

    pixels: (channel, height, width) float32, the file's own values, not normalised; NaN and infinity stay.
    pixel_size_um: micrometres per pixel; None where the file does not say, says something that only matters
        to printers (such as 72 or 300 dots per inch), or where rows and columns differ by more than 1 %.
    channel_names: one name a channel; the file's own where it has them.
    is_colour: the channels are red, green and blue, in this order.
    """

    pixels: FloatArray
    pixel_size_um: float | None
    channel_names: tuple[str, ...]
    is_colour: bool = False


@dataclass(frozen=True)
class _Raster:
    """Pixels as stored, before channels are put first. `axes` has one letter a dimension."""

    array: np.ndarray[Any, Any]
    axes: str
    is_colour: bool = False
    pixel_size_um: float | None = None
    channel_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Request:
    """What the caller wants from a file."""

    path: Path
    axes: str | None = None
    plane: Mapping[str, int] | None = None
    as_labels: bool = False


def read_image(
    path: str | os.PathLike[str],
    *,
    channels: Sequence[int] | None = None,
    axes: str | None = None,
    plane: Mapping[str, int] | None = None,
) -> Image:
    """Read one two-dimensional image, with all or some of its channels.

    channels: which channels, in which order; the first is 0. None takes all.
    axes: what the dimensions of the file are, such as "CYX" or "YXC"; needed where the file does not say.
    plane: which plane of a stack, such as {"z": 3}; the first is 0.

    Raises AxesError where the file holds more than one plane or does not say what its dimensions are,
    TooLargeError where it would not fit into memory, ReadError where it is damaged or of another kind.
    """
    request = _Request(Path(path), _checked_axes(path, axes), plane)
    with _one_clear_error(request.path):
        raster = _read_raster(request)
        return _to_image(raster, channels, request.path)


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read a label image: 0 is background, -1 not annotated, every other number one cell.

    Returns (height, width) int32. Palette images give their indices. Raises ReadError for JPEG (it blurs the
    numbers), for colour, stacks, fractions, numbers below -1, and numbers too large for int32.
    """
    request = _Request(Path(path), as_labels=True)
    with _one_clear_error(request.path):
        return _to_labels(_read_raster(request), request.path)


def list_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files among files and folders (folders are not searched deeper), each once.

    Files keep the order given; a folder's are sorted by name, and hidden ones left out. Raises ReadError for
    a path that does not exist, a file of an unknown kind, and a folder without any image.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = [
                f for f in sorted(path.iterdir()) if _has_known_suffix(f) and f.is_file() and f.name[0] != "."
            ]
            if not files:
                raise ReadError(f"{path}: the folder holds no image. Supported are {', '.join(SUFFIXES)}.")
            found.update(dict.fromkeys(files))
        else:
            _check_is_image_file(path)
            found[path] = None
    return list(found)


def _checked_axes(path: str | os.PathLike[str], axes: str | None) -> str | None:
    if axes is None:
        return None
    letters = axes.upper()
    if not letters.isalpha() or len(set(letters)) < len(letters) or not {"Y", "X"} <= set(letters):
        raise AxesError(
            f"{path}: axes {axes!r} must be different letters, one a dimension, with Y (rows) and X "
            '(columns) among them, such as --axes CYX (axes="CYX") or --axes YXC.'
        )
    return letters


def _has_known_suffix(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _check_is_image_file(path: Path) -> None:
    if path.is_dir():
        raise ReadError(f"{path}: is a folder, not an image. Name a file inside it.")
    if not path.exists():
        raise ReadError(
            f"{path}: there is no such file or folder. Check the spelling and the current folder."
        )
    if not path.is_file():
        raise ReadError(f"{path}: is not an ordinary file. Copy the image into one.")
    if not _has_known_suffix(path):
        raise ReadError(
            f"{path}: files of the kind {path.suffix or '(no suffix)'!r} are not supported. Supported are "
            f"{', '.join(SUFFIXES)}; export microscope formats as OME-TIFF (for instance with Fiji)."
        )


@contextmanager
def _one_clear_error(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes one ReadError that names the file; libraries keep silent."""
    logger = logging.getLogger("tifffile")

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FewcellError:
        raise
    except MemoryError as error:
        raise TooLargeError(
            f"{path}: there is not enough memory to read this image. Close other programs, or cut the image."
        ) from error
    except OSError as error:
        what = error.strerror or _short(error)
        raise ReadError(
            f"{path}: cannot be read: {what}. Check that the file is complete and yours."
        ) from error
    # Decoders answer damaged files with struct.error, KeyError, IndexError, zlib.error, SyntaxError, their
    # own classes and RecursionError: no list would be complete, and the user needs the same words for all.
    except Exception as error:
        raise ReadError(
            f"{path}: is damaged, or of a variety that is not supported ({_short(error)}). "
            "Open it in another program (for instance Fiji) and save it as TIFF."
        ) from error
    finally:
        logger.removeFilter(drop)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _available_bytes() -> int:
    """Memory that is free, as far as the system says; 8 GiB where it does not say."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            return int(found[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, AttributeError, ValueError):
        return 8 * 2**30


def _check_size(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise before any memory is taken if an image has no pixels, odd numbers, or too many of them."""
    if dtype.kind not in "buif":
        raise ReadError(
            f"{path}: holds {dtype} numbers, which are not intensities. Save it as integers or real numbers."
        )
    count = math.prod(int(n) for n in shape)
    by = " x ".join(map(str, shape))
    if count <= 0:
        raise ReadError(f"{path}: has no pixels ({by}). Save the image again.")
    needed, allowed = count * (dtype.itemsize + 4), int(_available_bytes() * MEMORY_FRACTION)
    if needed > allowed:
        raise TooLargeError(
            f"{path}: {by} pixels of {dtype} would need {needed / 2**30:,.1f} GiB of memory; "
            f"{allowed / 2**30:,.1f} GiB may be used. Cut the image into parts, choose a plane, or "
            "use a machine with more memory."
        )


def _read_raster(request: _Request) -> _Raster:
    path = request.path
    _check_is_image_file(path)
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == b"\x89PNG\r\n\x1a\n":
        raster = _read_png(path, request.as_labels)
    elif magic[:3] == b"\xff\xd8\xff":
        if request.as_labels:
            raise ReadError(f"{path}: JPEG blurs the numbers of cells. Save labels as TIFF or PNG.")
        with JpegImagePlugin.JpegImageFile(path) as picture:
            raster = _read_picture(path, picture)
    elif magic[:2] == b"BM":
        with BmpImagePlugin.BmpImageFile(path) as picture:
            raster = _read_picture(path, picture, request.as_labels)
    elif magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(request)
    else:
        what = "is empty" if not magic else f"does not hold an image (it begins with {magic!r})"
        raise ReadError(f"{path}: {what}. Supported are PNG, JPEG, BMP and TIFF.")
    axes = _given_axes(request, raster.array.shape, raster.axes)
    index, axes = _plane_index(request, raster.array.shape, axes)
    return replace(raster, array=raster.array[index], axes=axes)


def _read_picture(path: Path, picture: PillowImage.Image, keep_palette: bool = False) -> _Raster:
    """Decode through Pillow: gray, colour, CMYK, palette; 8 bits a value, or 16 for gray."""
    values = {"1": "?", "I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}.get(picture.mode, "u1")
    samples = 3 if picture.mode == "P" and not keep_palette else len(picture.getbands())
    shape = (picture.height, picture.width, samples)[: 2 if samples == 1 else 3]
    _check_size(path, shape, np.dtype(values))
    if picture.mode == "P" and not keep_palette:
        return _as_gray_if_gray(np.asarray(picture.convert("RGB")))
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    return _from_samples(np.asarray(picture))


def _from_samples(array: np.ndarray[Any, Any]) -> _Raster:
    """Rows, columns and perhaps samples: drop alpha, which is the last of two or four samples."""
    if array.ndim == 2:
        return _Raster(array, "YX")
    if array.shape[2] in (1, 2):
        return _Raster(array[:, :, 0], "YX")
    return _Raster(array[:, :, :3], "YXS", is_colour=True)


def _as_gray_if_gray(colours: np.ndarray[Any, Any]) -> _Raster:
    red, green, blue = (colours[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return _Raster(red, "YX")
    return _Raster(colours, "YXS", is_colour=True)


def _read_png(path: Path, keep_palette: bool) -> _Raster:
    data = path.read_bytes()
    width, height, bits, colour_type = _check_png(path, data)
    # Pillow would round colours of 16 bits to 8.
    if bits == 16 and colour_type != 0:
        _check_size(path, (height, width, 4), np.dtype("u2"))
        return _from_samples(imagecodecs.png_decode(data))
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise ReadError(f"{path}: is an animation. Save the one picture that you want.")
        raster = _read_picture(path, picture, keep_palette)
    if colour_type == 0 and bits in (2, 4):
        # Pillow stretches these to 255; the file's own values are wanted.
        return replace(raster, array=raster.array // (255 // (2**bits - 1)))
    return raster


def _check_png(path: Path, data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits and colour type of a PNG, after checking what decoders let pass."""
    position, header, stored = 8, None, 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        # A lower-case letter first marks extras (text, time, resolution) that do not change the picture.
        if kind[:1].isupper() and zlib.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise ReadError(f"{path}: is damaged (wrong checksum in its part {kind!r}). Get a fresh copy.")
        if kind == b"IHDR":
            header = struct.unpack_from(">IIBB", data, position + 8)
        if kind == b"IDAT":
            stored += length
        if kind == b"IEND" and header:
            width, height, bits, _ = header
            # Deflate cannot shrink more than about 1,032-fold: the header promises pixels that are not there.
            if width * height * bits / 8 > 1100 * stored:
                raise ReadError(
                    f"{path}: should hold {height} x {width} pixels, but has only {stored} bytes for them. "
                    "Get a fresh copy."
                )
            return header
        position = end
    raise ReadError(f"{path}: is cut short (its end is missing). Get a fresh copy.")


def _given_axes(request: _Request, shape: Sequence[int], axes: str) -> str:
    if request.axes is None:
        return axes
    if len(request.axes) != len(shape):
        raise AxesError(
            f"{request.path}: axes {request.axes!r} name {len(request.axes)} dimensions, but the image has "
            f"{len(shape)}: {_describe(axes, shape)}. Name each of them."
        )
    return request.axes


def _describe(axes: str, shape: Sequence[int]) -> str:
    return f"shape ({', '.join(map(str, shape))}), axes {axes}"


def _plane_index(request: _Request, shape: Sequence[int], axes: str) -> tuple[tuple[int | slice, ...], str]:
    """What to take of each dimension, and the letters that remain: Y, X, and C or S or both.

    Raises AxesError where more than one plane would remain, or it is not known what a dimension is.
    """
    path, wanted = request.path, {k.upper(): v for k, v in (request.plane or {}).items()}
    described = _describe(axes, shape)
    for letter, number in wanted.items():
        size = shape[axes.index(letter)] if letter in axes else 1
        if letter in "YX" or not isinstance(number, int | np.integer):
            raise AxesError(
                f"{path}: plane {letter.lower()}={number!r} is none. Type for instance --plane z=3."
            )
        if not 0 <= number < size:
            raise AxesError(
                f"{path}: there is no plane {letter.lower()}={number}: the image has {size} along "
                f"{letter.lower()}, and the first is 0 ({described})."
            )
    index: list[int | slice] = []
    for letter, size in zip(axes, shape, strict=True):
        if letter in wanted:
            index.append(wanted[letter])
        elif letter in "YX" or (letter in "CS" and size > 1):
            index.append(slice(None))
        elif size == 1:
            index.append(0)
        elif request.as_labels:
            raise AxesError(f"{path}: labels must be a single plane, but are {described}. Save one plane.")
        else:
            raise AxesError(_which_axes(path, letter, size, described, axes))
    left = "".join(a for a, i in zip(axes, index, strict=True) if isinstance(i, slice))
    if not {"Y", "X"} <= set(left):
        raise AxesError(f"{path}: rows or columns are missing: {described}. Name them, such as --axes CYX.")
    if "C" in left and "S" in left:
        raise AxesError(
            f"{path}: has several channels of several colours each: {described}. Choose one, such as "
            "--plane c=0."
        )
    return tuple(index), left


def _which_axes(path: Path, letter: str, size: int, described: str, axes: str) -> str:
    middle, small = size // 2, letter.lower()
    flag = f'--plane {small}={middle} (plane={{"{small}": {middle}}})'
    known = {"Z": "a z-stack", "T": "a time series"}
    if letter in known:
        what = f"{path}: is {known[letter]} of {size} planes: {described}"
        return f"{what}. Choose one plane, the first is 0: {flag}."
    ways = [f"to choose one plane, the first is 0, type {flag}"]
    if "Z" not in axes:
        as_stack = axes.replace(letter, "Z")
        ways.insert(0, f"if they are a stack, --axes {as_stack} with a plane such as --plane z={middle}")
    if "C" not in axes and "S" not in axes:
        as_channels = axes.replace(letter, "C")
        ways.insert(0, f'if they are channels, type --axes {as_channels} (axes="{as_channels}")')
    return f"{path}: does not say what its {size} planes are: {described}; {'; '.join(ways)}."


def _read_tiff(request: _Request) -> _Raster:
    path = request.path
    with tifffile.TiffFile(path) as tif:
        _check_page_list(path, tif)
        series = _main_series(path, tif)
        page = series.keyframe
        axes = _given_axes(request, series.shape, series.axes)
        index, left = _plane_index(request, series.shape, axes)
        if page.dtype is None:
            raise ReadError(f"{path}: holds numbers of an unknown kind. Save it as 8, 16 or 32 bits.")
        numbers = _page_numbers(series, index)
        wanted = [series[n] for n in numbers] if numbers else list(series)
        _check_size(path, (len(wanted), *page.shape) if numbers else series.shape, series.dtype)
        _check_complete(path, tif, series, wanted)
        if numbers:
            array = tif.asarray(key=numbers, series=series).reshape(
                [n for n, i in zip(series.shape, index, strict=True) if isinstance(i, slice)]
            )
        else:
            array = tif.asarray(series=series)[index]
        raster = _Raster(array, left, False, _tiff_pixel_size_um(tif, page), _tiff_channel_names(tif))
        return raster if request.as_labels else _expand(path, raster, tif, page)


def _main_series(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
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


def _page_numbers(series: tifffile.TiffPageSeries, index: tuple[int | slice, ...]) -> list[int]:
    """Which pages hold the chosen plane; none where pages are not planes: then all are read."""
    page_dims = len(series.keyframe.shape)
    stack, of_page = series.shape[: len(series.shape) - page_dims], index[len(index) - page_dims :]
    one_each = series.shape[len(stack) :] == series.keyframe.shape and len(series) == math.prod(stack)
    is_stored = series.dataoffset is None or not series.is_truncated
    if not stack or not one_each or not is_stored or any(i != slice(None) for i in of_page):
        return []
    return np.arange(len(series)).reshape(stack)[index[: len(stack)]].ravel().tolist()


# By how much a compression can shrink data at most; more is promised only by damaged files.
_GREATEST_SHRINKAGE = {1: 1, 5: 1500, 8: 1100, 32946: 1100, 32773: 64}


def _check_page_list(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise where the list of pages breaks off or runs in a circle: tifffile would leave out the rest."""
    numbers, size, entry, first = ("Q", 8, 20, 8) if tif.is_bigtiff else ("H", 2, 12, 4)
    link = "Q" if tif.is_bigtiff else "I"
    seen: set[int] = set()
    beyond = tif.filehandle.size
    with path.open("rb") as file:

        def number(position: int, kind: str) -> int:
            file.seek(min(position, beyond))
            found = file.read(struct.calcsize(kind))
            return (
                struct.unpack(tif.byteorder + kind, found)[0]
                if len(found) == struct.calcsize(kind)
                else beyond
            )

        offset = number(first, link)
        while offset:
            if offset in seen or offset >= beyond:
                raise ReadError(
                    f"{path}: is cut short or damaged: its list of pages breaks off. Get a new copy."
                )
            seen.add(offset)
            offset = number(offset + size + entry * number(offset, numbers), link)


def _check_complete(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, pages: Sequence[Any]
) -> None:
    """Raise where strips or tiles are missing or beyond the end of the file: tifffile would put zeros."""
    if any(page is not None and page.parent is not tif for page in pages):
        raise ReadError(
            f"{path}: is one of several files of one image. Save the image as a single file, for instance "
            "in Fiji."
        )
    key, file_size = series.keyframe, tif.filehandle.size
    run_at = series.dataoffset
    has_all_pages = run_at is not None or len(series) * math.prod(key.shape) == series.size
    # Where an ImageJ stack is shorter than it says, tifffile takes what is there as another kind of file.
    is_whole = has_all_pages and not (tif.is_imagej and series.kind in ("generic", "uniform"))
    if run_at is not None:
        is_whole &= 0 < run_at <= file_size - series.nbytes
    needed = math.prod(key.shape) * key.bitspersample / 8 / _GREATEST_SHRINKAGE.get(key.compression, math.inf)
    for page in pages if is_whole and run_at is None else ():
        is_whole &= page is not None and _has_its_bytes(page, key, needed, file_size)
    if not is_whole or not pages:
        raise ReadError(f"{path}: is cut short or damaged: some of its pixels are missing. Get a fresh copy.")


def _has_its_bytes(page: Any, key: tifffile.TiffPage, needed: float, file_size: int) -> bool:
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    if len(offsets) == 0 or offsets.min() <= 0:
        return False
    if key.is_contiguous:
        return int(offsets[0]) + key.nbytes <= file_size
    return (
        len(offsets) == len(counts) >= math.prod(key.chunked)
        and counts.min() > 0
        and (offsets + counts).max() <= file_size
        and counts.sum() >= needed
    )


def _expand(path: Path, raster: _Raster, tif: tifffile.TiffFile, page: Any) -> _Raster:
    """Turn what TIFF calls photometric interpretation into gray or colour where brighter is larger."""
    kind, array = getattr(page.photometric, "name", str(page.photometric)), raster.array
    is_measured = tif.is_imagej or tif.is_ome
    if kind == "PALETTE" and page.colormap is not None and not is_measured and raster.axes == "YX":
        table = np.asarray(page.colormap).T
        if not (table & 0xFF).any() or np.array_equal(table >> 8, table & 0xFF):
            table = (table >> 8).astype(np.uint8)
        expanded = _as_gray_if_gray(table[array])
        return replace(raster, array=expanded.array, axes=expanded.axes, is_colour=expanded.is_colour)
    if kind == "MINISWHITE" and array.dtype.kind in "bu" and not is_measured:
        full = array.dtype.type(2**page.bitspersample - 1)
        return _without_alpha(replace(raster, array=full ^ array), page)
    # Compressed as JPEG, luma and chroma have been turned to RGB by the decoder.
    is_decoded = kind == "YCBCR" and page.compression in (6, 7, 33007)
    if is_decoded or is_measured or kind in ("RGB", "MINISBLACK", "MINISWHITE", "MASK"):
        return _without_alpha(raster, page)
    raise ReadError(f"{path}: stores colours as {kind}, which is not supported. Save it as RGB.")


def _without_alpha(raster: _Raster, page: Any) -> _Raster:
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


_UM_PER_UNIT = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "pm": 1e-6, "å": 1e-4, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip

# Coarser pixels are no microscope's: 1270 dots per inch and fewer (72, 96, 150, 300) are for printers.
_COARSEST_UM = 20.0
_PRINTER_DPI = (2400, 4800, 9600)


def _um_per(unit: str | None) -> float:
    """Micrometres in a unit, as programs spell it; not-a-number for pixels, unknown and missing units."""
    name = (unit or "").replace("\\u00B5", "µ").replace("μ", "u").replace("µ", "u").strip().lower()
    return _UM_PER_UNIT.get(name, _UM_PER_UNIT.get(name.removesuffix("s"), math.nan))


def _square_pixel_um(x_um: float, y_um: float) -> float | None:
    """One size for both directions; None where they differ by more than 1 %, or are no sizes."""
    if not (0 < x_um < math.inf and 0 < y_um < math.inf) or abs(x_um - y_um) > 0.01 * min(x_um, y_um):
        return None
    return (x_um + y_um) / 2


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _tiff_pixel_size_um(tif: tifffile.TiffFile, page: Any) -> float | None:
    if tif.is_ome:
        pixels = _ome_pixels(tif)
        x_um, y_um = (
            _number(pixels.get(f"PhysicalSize{a}")) * _um_per(pixels.get(f"PhysicalSize{a}Unit", "µm"))
            for a in "XY"
        )
        return _square_pixel_um(x_um, y_um)
    if tif.is_svs:
        found = re.search(r"MPP\s*=\s*([\d.]+)", page.description)
        um = _number(found[1]) if found else math.nan
        return _square_pixel_um(um, um)
    tags = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if any(not isinstance(tag, tuple) or len(tag) != 2 or 0 in tag for tag in tags):
        return None
    if tif.is_imagej:
        unit = _um_per(str((tif.imagej_metadata or {}).get("unit", "")))
    else:
        # Without the tag, the unit is the inch: so the TIFF standard.
        unit = {2: _um_per("inch"), 3: _um_per("cm")}.get(page.tags.valueof("ResolutionUnit", 2), math.nan)
    x_um, y_um = (unit * below / above for above, below in tags)
    is_for_printers = unit >= _um_per("cm") and (
        x_um > _COARSEST_UM or any(abs(25_400 / x_um - dpi) < 1 for dpi in _PRINTER_DPI)
    )
    return None if is_for_printers else _square_pixel_um(x_um, y_um)


def _ome_pixels(tif: tifffile.TiffFile) -> ElementTree.Element:
    """The first image in the OME description; an empty one where the description does not parse."""
    try:
        found = ElementTree.fromstring(tif.ome_metadata or "").find(".//{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        found = None
    return ElementTree.Element("Pixels") if found is None else found


def _tiff_channel_names(tif: tifffile.TiffFile) -> tuple[str, ...]:
    if tif.is_ome:
        names = [c.get("Name") for c in _ome_pixels(tif).findall("{*}Channel")]
        return tuple(n for n in names if n) if all(names) else ()
    return tuple(map(str, (tif.imagej_metadata or {}).get("Labels", ()) if tif.is_imagej else ()))


def _to_image(raster: _Raster, channels: Sequence[int] | None, path: Path) -> Image:
    channel_axis = next((a for a in "CS" if a in raster.axes), "")
    array = raster.array.transpose([raster.axes.index(a) for a in channel_axis + "YX"])
    array = array if channel_axis else array[np.newaxis]
    count = len(array)
    if len(raster.channel_names) == count:
        names = raster.channel_names
    elif raster.is_colour:
        names = ("red", "green", "blue")
    else:
        names = tuple(f"channel_{i}" for i in range(count)) if count > 1 else ("intensity",)
    chosen = range(count) if channels is None else channels
    if not len(chosen) or any(not 0 <= i < count for i in chosen):
        raise AxesError(
            f"{path}: channels {list(chosen)} were asked for, but it has {count}: "
            f"{', '.join(names)}; the first is 0."
        )
    if list(chosen) != list(range(count)):
        array = array[list(chosen)]
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(array, dtype=np.float32)
    is_colour = raster.is_colour and list(chosen) == [0, 1, 2]
    return Image(pixels, raster.pixel_size_um, tuple(names[i] for i in chosen), is_colour)


def _to_labels(raster: _Raster, path: Path) -> Labels:
    array = raster.array
    if array.ndim > 2:
        numbers = array.shape[raster.axes.index((set(raster.axes) - {"Y", "X"}).pop())]
        raise ReadError(
            f"{path}: labels must have one number a pixel, but there are {numbers} (colours or channels). "
            "Save them as gray TIFF or PNG, each cell with its own number."
        )
    if raster.axes == "XY":
        array = array.T
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (
        np.isfinite(low) and np.isfinite(high) and np.all(array == np.floor(array))
    ):
        raise ReadError(f"{path}: labels must be whole numbers, but some have fractions or are not finite.")
    if low < UNKNOWN or high > np.iinfo(np.int32).max:
        raise ReadError(
            f"{path}: labels must lie between {UNKNOWN} (not annotated) and {np.iinfo(np.int32).max:,}, but "
            f"reach from {low} to {high}. Number the cells again, from 1."
        )
    return np.ascontiguousarray(array, dtype=np.int32)
