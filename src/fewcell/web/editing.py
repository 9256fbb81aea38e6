"""Changes to labels as people draw them: delete, merge, split by a line, draw anew."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fewcell.types import Labels
from fewcell.web.refusal import Refused

__all__ = ["Points", "cells_under", "delete_cells", "draw_cell", "merge_cells", "split_cells"]

Points = NDArray[np.float64]
"""Corners of a line, (n, 2): y and x in pixels of the labels, the middle of the first pixel at 0."""

SMALLEST_PX = 4  # a part of a cell or a drawn one that is smaller than this is none


def cells_under(labels: Labels, line: Points) -> list[int]:
    """The cells that a line touches."""
    return [cell for cell in np.unique(labels[_drawn_line(labels.shape, line)]).tolist() if cell > 0]


def delete_cells(labels: Labels, cells: Sequence[int]) -> Labels:
    """Make background of cells."""
    return np.where(np.isin(labels, cells), 0, labels)


def merge_cells(labels: Labels, cells: Sequence[int], new: int) -> Labels:
    """Make one cell, of this number, of several. Raises Refused for fewer than two."""
    if len(set(cells)) < 2:
        raise Refused(422, "Choose two cells or more to merge: click one, then others with Shift held down.")
    return np.where(np.isin(labels, cells), new, labels)


def split_cells(labels: Labels, line: Points, new: int) -> Labels:
    """Cut every cell that a line goes right through into its parts, numbered from `new` on.

    The pixels under the line go to the nearest part. Raises Refused if the line cuts no cell in two.
    """
    import cc3d
    from scipy.ndimage import distance_transform_edt

    under = _drawn_line(labels.shape, line)
    after = labels.copy()
    for cell in cells_under(labels, line):
        inside = labels == cell
        # Pixels that touch in corners only are apart, so a line that goes down stairs cuts as well.
        parts = np.asarray(cc3d.connected_components(inside & ~under, connectivity=4, out_dtype=np.uint32))
        area = np.bincount(parts.ravel())
        large = [part for part in range(1, len(area)) if area[part] >= SMALLEST_PX]
        if len(large) < 2:
            continue
        numbers = np.zeros(len(area), dtype=np.int32)
        numbers[large] = np.arange(new, new + len(large))
        new += len(large)
        given = numbers[parts]
        nearest = np.asarray(distance_transform_edt(given == 0, return_distances=False, return_indices=True))
        after[inside] = given[tuple(nearest)][inside]
    if np.array_equal(after, labels):
        raise Refused(422, "The line cuts no cell in two. Draw it from outside a cell right through to the other side.")
    return after


def draw_cell(labels: Labels, outline: Points, new: int) -> Labels:
    """Make a new cell of what lies inside an outline and belongs to no cell yet: the largest connected part of it.

    Raises Refused if that leaves hardly a pixel.
    """
    import cc3d
    from skimage.draw import polygon

    inside = np.zeros(labels.shape, dtype=bool)
    if len(outline):
        inside[polygon(outline[:, 0], outline[:, 1], labels.shape)] = True
    parts = np.asarray(cc3d.connected_components(inside & (labels <= 0), connectivity=4, out_dtype=np.uint32))
    area = np.bincount(parts.ravel())[1:]
    if not len(area) or area.max() < SMALLEST_PX:
        raise Refused(422, "There is no room for a cell there. Delete the cells that are wrong first.")
    return np.where(parts == area.argmax() + 1, new, labels).astype(np.int32)


def _drawn_line(shape: tuple[int, ...], line: Points) -> NDArray[np.bool_]:
    from skimage.draw import line as pixels_of_line

    under = np.zeros(shape, dtype=bool)
    corners = np.round(line).astype(int)
    for (y0, x0), (y1, x1) in pairwise(corners):
        y, x = pixels_of_line(y0, x0, y1, x1)
        is_in = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
        under[y[is_in], x[is_in]] = True
    return under
