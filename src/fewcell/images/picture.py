"""PNG, JPEG and BMP: single pictures, gray or in colour."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin
from PIL import Image as PillowImage

from fewcell.errors import ReadError
from fewcell.images.memory import check_size
from fewcell.images.raster import Raster, Request, choose_plane

__all__ = ["gray_or_colour", "read_bmp", "read_jpeg", "read_png"]

PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # parts of a PNG: words, and the profile of a display


def read_png(request: Request) -> Raster:
    """Read a PNG of any depth with its own values, after checking what decoders let pass."""
    path = request.path
    (width, height, bits, colour_type), data = _check_png(path, path.read_bytes())
    if bits == 16:
        # Pillow would round colours to 8 bits.
        check_size(path, (1 if colour_type == 0 else 4, height, width), np.dtype(np.uint16))
        return _one_plane(_from_samples(imagecodecs.png_decode(data)), request)
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
        raster = _read_picture(picture, request)
    if colour_type == 0 and bits in (2, 4):
        # Pillow stretches these to 255; the file's own values are wanted.
        return replace(raster, array=raster.array // (255 // (2**bits - 1)))
    return raster


def read_jpeg(request: Request) -> Raster:
    """Read a JPEG: gray, colour, or CMYK turned to colour. Never labels."""
    if request.as_labels:
        raise ReadError(f"{request.path}: JPEG blurs the numbers of cells. Save labels as TIFF or PNG.")
    with JpegImagePlugin.JpegImageFile(request.path) as picture:
        return _read_picture(picture, request)


def read_bmp(request: Request) -> Raster:
    """Read a BMP: black and white, gray, colour, or with a palette."""
    with BmpImagePlugin.BmpImageFile(request.path) as picture:
        return _read_picture(picture, request)


def gray_or_colour(colours: NDArray[Any]) -> Raster:
    """An expanded palette, (height, width, 3): gray where all its colours are gray."""
    red, green, blue = (colours[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return Raster(red, "YX")
    return Raster(colours, "YXS", is_colour=True)


def _read_picture(picture: PillowImage.Image, request: Request) -> Raster:
    """Decode what Pillow has opened, of 8 bits a value or fewer. Labels keep the indices into a palette."""
    expands = picture.mode == "P" and not request.as_labels
    samples = 3 if expands else len(picture.getbands())
    check_size(request.path, (samples, picture.height, picture.width), np.dtype(np.uint8))
    if expands:
        return _one_plane(gray_or_colour(np.asarray(picture.convert("RGB"))), request)
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")
    return _one_plane(_from_samples(np.asarray(picture)), request)


def _from_samples(array: NDArray[Any]) -> Raster:
    """Rows, columns and perhaps samples: drop alpha, which is the last of two or four samples."""
    if array.ndim == 2:
        return Raster(array, "YX")
    if array.shape[2] <= 2:
        return Raster(array[:, :, 0], "YX")
    return Raster(array[:, :, :3], "YXS", is_colour=True)


def _one_plane(raster: Raster, request: Request) -> Raster:
    index, axes = choose_plane(request, raster.array.shape, raster.axes)
    is_colour = raster.is_colour and not {"S", "C"}.isdisjoint(axes)
    return replace(raster, array=raster.array[index], axes=axes, is_colour=is_colour)


def _check_png(path: Path, data: bytes) -> tuple[tuple[int, int, int, int], bytes]:
    """Width, height, bits and colour type of a PNG, and its bytes without texts: Pillow refuses long ones.

    Raise where it is damaged, cut short, or an animation.
    """
    position, header, stored, needed = 8, None, 0, [data[:8]]
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        # A lower-case letter first marks extras (text, time, resolution) that do not change the picture.
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if kind[:1].isupper() and zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise ReadError(f"{path}: is damaged (wrong checksum in its part {kind!r}). Get a fresh copy.")
        if kind == b"IHDR":
            header = struct.unpack_from(">IIBB", data, position + 8)
        if kind == b"acTL" and struct.unpack_from(">I", data, position + 8)[0] > 1:
            raise ReadError(f"{path}: is an animation. Save the one picture that you want.")
        if kind not in PNG_TEXTS:
            needed.append(data[position:end])
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
            return header, b"".join(needed)
        position = end
    raise ReadError(f"{path}: is cut short (its end is missing). Get a fresh copy.")
