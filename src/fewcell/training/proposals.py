"""From what a teacher finds to labels that a student may learn from: by trust, by points, by boxes; the rest UNKNOWN.

All labels are (height, width) int32 on one grid; cells found are numbered 1 to n.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewcell.data.weak import with_ellipses
from fewcell.metrics import bounding_boxes, fitting_boxes, holders, overlaps
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = ["agreement", "all_marked", "best_in_boxes", "by_boxes", "by_points", "by_trust", "in_boxes", "with_points"]

SEED = 0.1  # radius of the seed that a point leaves, in cell diameters
RING = 0.75  # radius of what is not known around it
DOUBT = 0.15  # from which foreground on a pixel is no sure background
BOX_IOU = 0.6  # of a cell's bounding box with the box that it fills
BOX_SEED = 0.4  # axes of the seed that an empty box leaves, as a share of its sides


def agreement(found: Labels, views: Sequence[Labels]) -> FloatArray:
    """The IoU of each cell with the one that fits it best in each view: (cell, view), 0 where none does.

    views: what was found in the same field, seen otherwise.
    """
    best = np.zeros((int(found.max(initial=0)), len(views)), dtype=np.float32)
    for column, view in enumerate(views):
        table = overlaps(found, view)
        np.maximum.at(best[:, column], table.pair_true, table.pair_iou.astype(np.float32))
    return best


def by_trust(found: Labels, kept: NDArray[np.bool_], views: Sequence[Labels], foreground: FloatArray) -> Labels:
    """The kept cells; background is what no view takes for a cell, or comes near it; all else is UNKNOWN.

    kept: (n,), whether a cell is to be learned from. foreground: (height, width), 0 to 1, the most that any view says.
    A cell that is missed in all views must not be taught as background: students would miss more and more.
    """
    labels = _numbered(found, np.where(kept, np.arange(1, len(kept) + 1), UNKNOWN))
    for may_be in (*(view > 0 for view in views), foreground >= DOUBT):
        labels[(labels == 0) & may_be] = UNKNOWN
    return labels


def all_marked(inside: NDArray[np.bool_], found: Labels) -> Labels:
    """What is known of what bears no mark, if all cells inside have one: it is background; beyond, nothing is.

    A cell that lies mostly beyond need not have a mark: nothing is known of any of it.
    """
    n_px = np.bincount(found.ravel())
    is_beyond = 2 * np.bincount(found[inside], minlength=len(n_px)) < n_px
    is_beyond[0] = False
    return np.where(inside & ~is_beyond[found], 0, UNKNOWN).astype(np.int32)


def with_points(found: Labels, points: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many points each cell holds: (cell,)."""
    return np.bincount(holders(found, points), minlength=int(found.max(initial=0)) + 1)[1:]


def in_boxes(found: Labels, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the middle of each cell's own bounding box lies in any box: (cell,)."""
    middle = bounding_boxes(found).reshape(-1, 2, 2).mean(axis=1)[:, None]
    return np.all((middle >= boxes[:, :2]) & (middle <= boxes[:, 2:]), axis=2).any(axis=1)


def by_points(found: Labels, points: NDArray[np.float64], unmarked: Labels, diameter_px: float) -> Labels:
    """The cells that hold exactly one point; of what holds none, what is known of `unmarked`.

    A cell that holds several is UNKNOWN; its points, and those that no cell holds, become small cells of their own
    (numbered after the others), with UNKNOWN around them.

    points: (n, 2), y and x. unmarked: (height, width), see `all_marked` and `by_trust`. diameter_px: of a usual cell.
    """
    holder, n_points = holders(found, points), np.append(0, with_points(found, points))
    of_cell = np.where(n_points == 1, np.arange(len(n_points)), UNKNOWN)
    labels = np.where(n_points[found] > 0, of_cell[found], unmarked).astype(np.int32)
    lonely = points[(holder == 0) | (n_points[holder] > 1)]
    return _with_seeds(labels, lonely, diameter_px, len(n_points))


def by_boxes(found: Labels, boxes: NDArray[np.float64], unmarked: Labels) -> Labels:
    """The cells that fill a box; outside of boxes, what is known of `unmarked`.

    A cell fills a box if its bounding box overlaps it by an IoU of 0.6 or more, each with one other at most, the best
    first. A box that no cell fills is UNKNOWN, but for a small ellipse in its middle, which is a cell (numbered after
    the others).

    boxes: (n, 4), top, left, bottom, right. unmarked: (height, width), see `all_marked` and `by_trust`.
    """
    its = bounding_boxes(found)
    fills, filled = np.zeros(len(its), dtype=bool), np.zeros(len(boxes), dtype=bool)
    for _, cell, box in _fitting(its, boxes):
        if not fills[cell] and not filled[box]:
            fills[cell] = filled[box] = True
    kept = _numbered(found, np.where(fills, np.arange(1, len(its) + 1), 0))
    labels = unmarked.copy()
    for top, left, bottom, right in np.rint(boxes[~filled]).astype(int):
        labels[top:bottom, left:right] = UNKNOWN
    labels = np.where(kept > 0, kept, labels)
    return with_ellipses(labels, boxes[~filled], len(its) + 1, BOX_SEED)


def best_in_boxes(found: Sequence[Labels], boxes: NDArray[np.float64]) -> Labels:
    """For each box the cell that fills it best, of those found in several ways; a better one hides others.

    found: label images of one shape. boxes: (n, 4), top, left, bottom, right.
    """
    all_its = [bounding_boxes(labels) for labels in found]
    ranked = sorted(
        (-iou, way, cell, box) for way, its in enumerate(all_its) for iou, cell, box in _fitting(its, boxes)
    )
    best, filled, used = np.zeros_like(found[0]), set[int](), set[tuple[int, int]]()
    for _, way, cell, box in ranked:
        if box in filled or (way, cell) in used:
            continue
        filled.add(box)
        used.add((way, cell))
        top, left, bottom, right = all_its[way][cell].astype(int)
        part = np.s_[top:bottom, left:right]
        best[part][(found[way][part] == cell + 1) & (best[part] == 0)] = len(filled)
    return best


def _fitting(its: NDArray[np.float64], boxes: NDArray[np.float64]) -> list[tuple[float, int, int]]:
    """Which of these boxes overlap with which of the others by BOX_IOU or more: IoU and places in both, best first."""
    cell, box, iou = fitting_boxes(its, boxes, BOX_IOU)
    best = np.lexsort((box, cell, -iou))
    return list(zip(iou[best].tolist(), cell[best].tolist(), box[best].tolist(), strict=True))


def _numbered(found: Labels, numbers: NDArray[np.integer]) -> Labels:
    """Labels whose cell i has become numbers[i - 1]."""
    return np.append(0, numbers).astype(np.int32)[found]


def _with_seeds(labels: Labels, points: NDArray[np.float64], diameter_px: float, first: int) -> Labels:
    """Discs around points, from number `first` on, in what is not known around them."""
    from skimage.draw import disk

    for centre in points:
        ring = disk(tuple(centre), max(RING * diameter_px, 2.0), shape=labels.shape)
        labels[ring] = np.where(labels[ring] == 0, UNKNOWN, labels[ring])
    for number, centre in enumerate(points, first):
        seed = disk(tuple(centre), max(SEED * diameter_px, 1.0), shape=labels.shape)
        labels[seed] = np.where(labels[seed] <= 0, number, labels[seed])
    return labels
