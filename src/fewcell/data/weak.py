"""Weak labels: points and boxes that people put on cells, and regions in which every cell is annotated."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import DataError
from fewcell.types import UNKNOWN, Labels

__all__ = ["as_ellipses", "read_boxes", "read_points", "read_regions", "usual_side", "with_ellipses", "without_outline"]


def read_points(path: Path | str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Read one point a cell: (n, 2), y and x in pixels of an image of `shape`.

    The file has the columns y and x; others are left alone. Raises DataError for a file that cannot be read, a column
    that is missing, and a point outside of the image.
    """
    points = _read(Path(path), ("y", "x"))
    outside = np.any((points < -0.5) | (points > np.array(shape) - 0.5), axis=1)
    if outside.any():
        raise DataError(f"{path}: {_first(points, outside)} lies outside of the image of {shape[0]} x {shape[1]} px.")
    return points


def read_boxes(path: Path | str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Read one box a cell: (n, 4), top, left, bottom and right in pixels of an image of `shape`, cut to it.

    The file has the columns y0, x0, y1, x1; others are left alone. Raises DataError for a file that cannot be read, a
    column that is missing, and a box that holds no pixel of the image.
    """
    boxes = _read(Path(path), ("y0", "x0", "y1", "x1"))
    cut = np.clip(boxes, 0, np.array([*shape, *shape]))
    empty = np.any(cut[:, 2:] - cut[:, :2] < 1, axis=1)
    if empty.any():
        raise DataError(
            f"{path}: {_first(boxes, empty)} holds no pixel of the image of {shape[0]} x {shape[1]} px. A box is "
            "y0, x0, y1, x1 with y0 < y1 and x0 < x1."
        )
    return cut


def read_regions(path: Path | str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read polygons in which every cell is annotated: a mask of `shape`, True inside of any of them.

    The file is GeoJSON as QuPath writes it: a geometry, a feature, or a collection or list of these; x comes first, in
    pixels. Polygons and multipolygons count, holes are not inside. Raises DataError for a file that cannot be read, and
    one without a polygon.
    """
    from skimage.draw import polygon2mask

    try:
        rings = list(_rings(json.loads(Path(path).read_text(encoding="utf-8-sig"))))
        inside = np.zeros(shape, dtype=bool)
        for outer, *holes in rings:
            mask = polygon2mask(shape, outer)
            for hole in holes:
                mask &= ~polygon2mask(shape, hole)
            inside |= mask
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{path} is no GeoJSON of polygons: {error!r}.") from None
    if not rings:
        raise DataError(f"{path} holds no polygon. Draw the regions in which every cell is annotated.")
    return inside


def usual_side(boxes: NDArray[np.float64] | None) -> float | None:
    """How wide the median box is, in pixels; None where there is none. boxes: (n, 4), top, left, bottom, right."""
    if boxes is None or not len(boxes):
        return None
    return float(np.median(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))))


def as_ellipses(boxes: NDArray[np.float64], shape: tuple[int, int]) -> Labels:
    """Each box as the ellipse that fills it: labels (height, width) int32, UNKNOWN beyond, as boxes may be missing.

    They tell how wide cells are, not where their outlines lie. boxes: (n, 4), as `read_boxes` gives them.
    """
    return with_ellipses(np.full(shape, UNKNOWN, dtype=np.int32), boxes, 1, 1.0)


def with_ellipses(labels: Labels, boxes: NDArray[np.float64], first: int, share: float) -> Labels:
    """Draw an ellipse into the middle of each box where there is no cell yet, numbered from `first` on.

    labels: (height, width) int32, is changed. share: its axes, as a share of the box's sides; it has a pixel at least.
    """
    from skimage.draw import ellipse

    for number, (top, left, bottom, right) in enumerate(boxes, first):
        axes = (max(share * side / 2, 1.0) for side in (bottom - top, right - left))
        seed = ellipse((top + bottom - 1) / 2, (left + right - 1) / 2, *axes, shape=labels.shape)
        labels[seed] = np.where(labels[seed] <= 0, number, labels[seed])
    return labels


def without_outline(labels: Labels) -> NDArray[np.bool_]:
    """The pixels of cells that only UNKNOWN surrounds, as the seeds of points and boxes: (height, width).

    How far such a cell reaches is not known. labels: (height, width) int32. The frame tells nothing.
    """
    doubtful, known = (np.zeros(max(int(labels.max(initial=0)), 0) + 1, dtype=bool) for _ in range(2))
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        for cell, beside in ((a, b), (b, a)):
            at_border = (cell > 0) & (beside != cell)
            is_unknown = beside[at_border] == UNKNOWN
            doubtful[cell[at_border][is_unknown]] = True
            known[cell[at_border][~is_unknown]] = True
    return (doubtful & ~known)[np.maximum(labels, 0)]


def _rings(shape: Any) -> Iterator[list[NDArray[np.float64]]]:
    """The rings (y and x) of each polygon, the outer one first."""
    if isinstance(shape, list):
        for part in shape:
            yield from _rings(part)
    elif shape["type"] == "FeatureCollection":
        yield from _rings(shape["features"])
    elif shape["type"] == "GeometryCollection":
        yield from _rings(shape["geometries"])
    elif shape["type"] == "Feature":
        yield from _rings(shape["geometry"])
    elif shape["type"] in ("Polygon", "MultiPolygon"):
        polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        for polygon in polygons:
            # GeoJSON counts from the corner of the first pixel, masks from its middle.
            yield [np.array(ring, dtype=np.float64)[:, 1::-1] - 0.5 for ring in polygon]


def _read(path: Path, columns: tuple[str, ...]) -> NDArray[np.float64]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {', '.join(missing)}; it has {reader.fieldnames}.")
            rows = [[float(row[name]) for name in columns] for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} holds what is no number: {error}.") from None
    values = np.array(rows, dtype=np.float64).reshape(-1, len(columns))
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds numbers that are not finite.")
    return values


def _first(rows: NDArray[np.float64], which: NDArray[np.bool_]) -> str:
    number = int(np.flatnonzero(which)[0])
    return f"row {number + 1} ({', '.join(f'{value:g}' for value in rows[number])})"
