"""OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3), window by window: only the chunks are decoded that a window touches.

Chunks that are missing hold the array's fill value, as Zarr defines it.
"""

import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, WrapperStore

from fewcell.errors import ReadError
from fewcell.images.memory import check_size
from fewcell.images.raster import Raster, Request, choose_plane
from fewcell.images.read import channels_first, pick_channels
from fewcell.images.slide import Slide, is_smaller, level_steps, taken
from fewcell.images.tiff_metadata import square_pixel_um, um_per
from fewcell.kept import Kept
from fewcell.types import Window

__all__ = ["ZarrSlide"]

LEAST_BLOCK_PX = 512  # side of what is read at once
KEPT_BYTES = 64 * 2**20  # of blocks that were read last; at least one is kept, however large its chunks are
_METADATA_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_COLOURS = (["red", "green", "blue"], ["r", "g", "b"])


class ZarrSlide(Slide):
    """An image of an OME-Zarr folder. Labels that lie in the folder beside it do not count as images.

    The channels count as colours if the file calls them red, green and blue: the standard has no other sign of it.
    """

    def __init__(self, request: Request, channels: Sequence[int] | None) -> None:
        """channels: as for `open_slide`."""
        self._request = request
        group, ome = _find_image(request.path)
        image = ome["multiscales"][0]
        letters = _axes(request.path, image)
        arrays = _levels(request.path, group, image, letters)
        index, self._axes = choose_plane(request, arrays[0].shape, letters)
        y, x = ([n for n, i in enumerate(index) if isinstance(i, slice)][self._axes.index(a)] for a in "YX")
        self._index, self._y, self._x = list[Any](index), y, x
        self._arrays = self._alike(arrays)
        self.levels = level_steps([(array.shape[y], array.shape[x]) for array in self._arrays])
        self.dtype = np.dtype(arrays[0].dtype).newbyteorder("=")
        self.pixel_size_um = _pixel_size_um(image, (y, x))
        self._choose_channels(ome, channels)
        largest = max(high * wide for high, wide in map(self._block_shape, range(len(self._arrays))))
        self.kept_bytes = max(KEPT_BYTES, largest * self.n_channels * self.dtype.itemsize)
        self._blocks = Kept[NDArray[Any]](lambda block: block.nbytes, self.kept_bytes)

    def _choose_channels(self, ome: Mapping[str, Any], channels: Sequence[int] | None) -> None:
        """Settle which channels are read and what they are called."""
        names = tuple(str(c.get("label", "")) for c in ome.get("omero", {}).get("channels", ()))
        names = names if all(names) else ()
        n = next((n for n, i in enumerate(self._index) if isinstance(i, slice) and n not in (self._y, self._x)), None)
        count, self._c = 1 if n is None else self._arrays[0].shape[n], n
        is_colour = [name.lower() for name in names] in _COLOURS and count == 3
        picked = pick_channels(names, count, is_colour, channels, self.path)
        self._kept, self.channel_names, self.is_colour = picked

    def _alike(self, arrays: Sequence[Any]) -> list[Any]:
        """Those levels that are smaller than the one before and differ in nothing else, each checked."""

        def all_but_size(array: Any) -> tuple[Any, ...]:
            return array.dtype, *(side for n, side in enumerate(array.shape) if n not in (self._y, self._x))

        def size(array: Any) -> tuple[int, int]:
            return array.shape[self._y], array.shape[self._x]

        alike: list[Any] = []
        for array in arrays:
            is_candidate = not alike or is_smaller(size(array), size(alike[-1]))
            if is_candidate and all_but_size(array) == all_but_size(arrays[0]):
                alike.append(_checked(self.path, array))
        return alike

    def _read(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        try:
            return self._from_blocks(window, level, channels)
        except Exception:  # whatever a codec raises: what is damaged may lie in a block, but not in the window
            return np.ascontiguousarray(self._direct(window, level, channels), dtype=self.dtype)

    def _from_blocks(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        top, left, bottom, right = window
        high, wide = self._block_shape(level)
        pixels = np.empty((len(channels), bottom - top, right - left), dtype=self.dtype)
        for y in range(top // high * high, bottom, high):
            for x in range(left // wide * wide, right, wide):
                key = level, y, x, channels
                block = self._blocks.get(key, partial(self._block, level, y, x, channels))
                seen = block[:, max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                y0, x0 = max(y - top, 0), max(x - left, 0)
                pixels[:, y0 : y0 + seen.shape[1], x0 : x0 + seen.shape[2]] = seen
        return pixels

    def _block_shape(self, level: int) -> tuple[int, int]:
        """Height and width of what is read and kept at once: whole chunks, several where they are small."""
        array = self._arrays[level]
        high, wide = (array.chunks[axis] * -(-LEAST_BLOCK_PX // array.chunks[axis]) for axis in (self._y, self._x))
        return min(high, array.shape[self._y]), min(wide, array.shape[self._x])

    def _block(self, level: int, top: int, left: int, channels: tuple[int, ...]) -> NDArray[Any]:
        (high, wide), (height, width) = self._block_shape(level), self.levels[level].shape
        return self._direct((top, left, min(top + high, height), min(left + wide, width)), level, channels)

    def _direct(self, window: Window, level: int, channels: tuple[int, ...]) -> NDArray[Any]:
        array, index, numbers = self._arrays[level], list(self._index), [self._kept[n] for n in channels]
        index[self._y], index[self._x] = slice(window[0], window[2]), slice(window[1], window[3])
        if self._c is None:
            return channels_first(Raster(array.oindex[tuple(index)], self._axes))[taken(numbers, 1)]
        index[self._c] = taken(numbers, array.shape[self._c])
        return channels_first(Raster(array.oindex[tuple(index)], self._axes))

    def close(self) -> None:
        """Let go of what is kept; windows can no longer be read."""
        super().close()
        self._blocks.clear()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for array in self._arrays:
            yield from _files_below(self.path / array.path, f"{self.path.name}/{array.path}")


def _files_below(folder: Path, name: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(Path(entry.path), f"{name}/{entry.name}")
            else:
                yield f"{name}/{entry.name}", entry.stat()


def _find_image(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """The group that is the image, and what OME-Zarr says of it: the folder itself, or the only image in it."""
    if not any((path / name).is_file() for name in _METADATA_FILES):
        raise ReadError(f"{path}: is a folder, not an image, nor is it an OME-Zarr. Name a file inside it.")
    found = zarr.open(str(path), mode="r", use_consolidated=False)
    if not isinstance(found, zarr.Group):
        raise ReadError(f"{path}: is one array of a Zarr. Name the OME-Zarr folder that it belongs to.")
    ome = _ome(found)
    if "image-label" in ome or path.absolute().parent.name == "labels":
        raise ReadError(f"{path}: holds labels, not an image. Name the OME-Zarr folder of an image.")
    if ome.get("multiscales"):
        return found, ome
    inside = {name: (group, _ome(group)) for name, group in found.groups() if name != "labels"}
    images = {n: (g, o) for n, (g, o) in inside.items() if o.get("multiscales") and "image-label" not in o}
    if len(images) == 1:
        return next(iter(images.values()))
    if images:
        first = path / min(images)
        raise ReadError(f"{path}: holds {len(images)} images: {', '.join(sorted(images))}. Name one, such as {first}.")
    raise ReadError(f"{path}: is a Zarr, but holds no image of OME-Zarr (no multiscales). Save the image as OME-Zarr.")


def _ome(group: Any) -> Mapping[str, Any]:
    """What OME-Zarr says of a group: since 0.5 under a name of its own."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _axes(path: Path, image: Mapping[str, Any]) -> str:
    """One letter for each dimension; Q for those that have no known name."""
    axes = image.get("axes")
    if not axes:
        raise ReadError(
            f"{path}: does not name its dimensions: it is older than OME-Zarr 0.4. Convert it to 0.4 or 0.5."
        )
    letters = ""
    for axis in axes:
        name = (axis if isinstance(axis, str) else axis["name"]).upper()
        kind = "" if isinstance(axis, str) else axis.get("type")
        letters += {"channel": "C", "time": "T"}.get(kind, name if name in ("C", "T", "Z", "Y", "X") else "Q")
    if not {"Y", "X"} <= set(letters) or len(set(letters)) < len(letters):
        raise ReadError(f"{path}: its dimensions, {letters}, are not different ones with Y and X among them.")
    return letters


def _levels(path: Path, group: Any, image: Mapping[str, Any], letters: str) -> list[Any]:
    """The arrays of an image, the largest first."""
    levels = []
    for dataset in image["datasets"]:
        name = PurePosixPath(dataset["path"])
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise ReadError(
                f"{path}: says that a level lies at {dataset['path']!r}, outside of its folder. Do not use this file."
            )
        array = group[str(name)]
        if not isinstance(array, zarr.Array) or array.ndim != len(letters):
            raise ReadError(f"{path}: {name} is not an array with the dimensions {letters}. Get a fresh copy.")
        levels.append(array)
    if not levels:
        raise ReadError(f"{path}: names no levels. Save the image again.")
    return levels


def _checked(path: Path, array: Any) -> Any:
    """The array, if its chunks fit into memory and cannot run code, made safe against chunks that are cut short."""
    dtype = np.dtype(array.dtype)
    check_size(path, [min(side, 1) for side in array.shape], dtype)
    check_size(path, array.chunks, dtype)
    metadata = array.metadata
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor else ())]
    else:
        codecs = list(metadata.codecs)
    if "pickle" in repr(codecs).lower():
        raise ReadError(f"{path}: is stored as pickles, which can run code. Do not use this file.")
    is_blosc = bool(codecs) and "blosc" in type(codecs[-1]).__name__.lower()
    store = (_StoreOfBlosc if is_blosc else _StoreOfChunks)(LocalStore(path, read_only=True))
    return zarr.open_array(store, path=array.path, mode="r")


class _StoreOfChunks(WrapperStore[LocalStore]):
    """A folder of chunks; an empty file is damage, and not a chunk that was never written, for which zarr takes it."""

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The content of a file; ReadError where there is none of it."""
        found = await super().get(key, prototype, byte_range)
        if found is not None and byte_range is None and not len(found):
            raise ReadError(f"{self._store.root}: is damaged: its part {key} is empty. Get a fresh copy.")
        return found


class _StoreOfBlosc(_StoreOfChunks):
    """A folder whose chunks are compressed by Blosc, whose decoder reads beyond the end of a chunk that is cut short.

    See https://github.com/zarr-developers/numcodecs/issues/228.
    """

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The content of a file; ReadError where it is shorter than its first bytes say."""
        found = await super().get(key, prototype, byte_range)
        if found is None or byte_range is not None or key.endswith(_METADATA_FILES):
            return found
        start = found[:16].to_bytes()
        if len(start) < 16 or len(found) < struct.unpack_from("<I", start, 12)[0]:
            raise ReadError(f"{self._store.root}: is damaged: its part {key} is cut short. Get a fresh copy.")
        return found


def _pixel_size_um(image: Mapping[str, Any], yx: tuple[int, int]) -> float | None:
    """Micrometres per pixel of level 0; None where the file does not say."""
    steps = [*image["datasets"][0].get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    if not scales:
        return None
    y_um, x_um = (math.prod(float(scale[n]) for scale in scales) * um_per(_unit(image["axes"][n])) for n in yx)
    return square_pixel_um(x_um, y_um)


def _unit(axis: Any) -> str | None:
    return axis.get("unit") if isinstance(axis, Mapping) else None
