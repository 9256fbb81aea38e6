"""Measure the cells of an image: where they are, how large, how bright."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewcell.errors import DataError
from fewcell.types import Instances

__all__ = ["measure_cells"]


def measure_cells(
    instances: Instances,
    pixels: ArrayLike,
    *,
    pixel_size_um: float | None = None,
    channel_names: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Measure every cell: one row each, in the order of their numbers.

    pixels: (channel, height, width), the image file's own values. channel_names: one a channel; by default
    channel_0, channel_1 and so on. Returns columns of one value a cell: id; score; y, x (the centre; that of
    the first pixel is 0.0); area_px; diameter_px (of the circle of the same area); area_um2 and diameter_um,
    always there, NaN where the pixel size is not known; mean_<channel>, without pixels that are NaN.
    """
    labels, values = np.asarray(instances.labels), np.asarray(pixels)
    if values.ndim != 3 or values.shape[1:] != labels.shape:
        raise DataError(f"The image {values.shape} and the labels {labels.shape} differ in height or width.")
    count, names = len(instances), _column_names(channel_names, len(values))
    if labels.max(initial=0) > count:
        raise DataError(f"The labels reach {labels.max()}, but there are scores for {count} cells only.")
    area, y, x, totals, known = _sums(labels, values, count)
    um = np.nan if pixel_size_um is None else pixel_size_um
    # Numbers without any pixel, and cells whose pixels are all NaN, have no centre or no mean.
    with np.errstate(invalid="ignore"):
        diameter = np.sqrt(4 * area / np.pi)
        columns = {
            "id": np.arange(1, count + 1),
            "score": np.asarray(instances.scores),
            "y": y / area,
            "x": x / area,
            "area_px": area.astype(np.int64),
            "diameter_px": diameter,
            "area_um2": area * um**2,
            "diameter_um": diameter * um,
        }
        columns.update(zip(names, totals / known, strict=True))
    return columns


def _sums(labels: NDArray[Any], values: NDArray[Any], count: int) -> tuple[NDArray[np.float64], ...]:
    """Per cell: pixels, sum of y, sum of x; per channel and cell: sum, and pixels that are not NaN."""
    height, width = labels.shape
    place = np.zeros((3, count + 1))
    totals, known = np.zeros((2, len(values), count + 1))
    # Some rows at a time: float64 weights of a whole slide would need more memory than the slide.
    rows = max(1, 2**21 // max(width, 1))
    for top in range(0, height, rows):
        block = labels[top : top + rows]
        inside = block > 0
        ids = block[inside]
        y, x = (np.broadcast_to(i, block.shape)[inside] for i in np.ogrid[: len(block), :width])
        here = np.bincount(ids, minlength=count + 1)
        place[0] += here
        place[1] += np.bincount(ids, y, count + 1) + top * here
        place[2] += np.bincount(ids, x, count + 1)
        for i, channel in enumerate(values[:, top : top + rows]):
            value = channel[inside]
            missing = np.isnan(value)
            totals[i] += np.bincount(ids, np.where(missing, 0, value), count + 1)
            known[i] += here - np.bincount(ids[missing], minlength=count + 1)
    return (*place[:, 1:], totals[:, 1:], known[:, 1:])


def _column_names(channel_names: Sequence[str], count: int) -> list[str]:
    """mean_<channel>, each name once: repeated ones get a number."""
    names = list(channel_names) or [f"channel_{i}" for i in range(count)]
    if len(names) != count:
        raise DataError(f"{len(names)} channel names were given for {count} channels: {', '.join(names)}.")
    unique: list[str] = []
    for i, name in enumerate(names):
        column = f"mean_{name}"
        while column in unique:
            column += f"_{i}"
        unique.append(column)
    return unique
