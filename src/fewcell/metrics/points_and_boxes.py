"""Predicted cells against weak truth: one point a cell, or one box a cell."""

import numpy as np
from numpy.typing import NDArray

from fewcell.metrics.matching import Counts
from fewcell.types import Labels

__all__ = ["bounding_boxes", "box_iou", "count_boxes", "count_points", "fitting_boxes", "holders"]

BOXES_AT_ONCE = 500  # are compared with all others: of very many, each with each is more than fits into memory


def count_points(found: Labels, points: NDArray[np.float64]) -> Counts:
    """A cell is right if it holds exactly one point.

    found: (height, width). points: (n, 2), y and x, one on every cell.
    """
    held = np.bincount(holders(found, points), minlength=int(found.max(initial=0)) + 1)[1:]
    return Counts(int(np.count_nonzero(held == 1)), len(points), int(np.count_nonzero(np.unique(found) > 0)))


def holders(found: Labels, points: NDArray[np.float64]) -> Labels:
    """The cell that holds each point, 0 where none does: (n,). found, points: as `count_points`."""
    y, x = np.clip(np.rint(points), 0, np.array(found.shape) - 1).astype(int).T
    return found[y, x]


def count_boxes(found: Labels, boxes: NDArray[np.float64], iou: float = 0.5) -> Counts:
    """A cell is right if its bounding box and a box overlap by this IoU or more, each with one other at most.

    found: (height, width). boxes: (n, 4), top, left, bottom, right, one around every cell.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching  # both take a third of a second to import

    its = bounding_boxes(found)
    its = its[its[:, 2] > 0]
    cell, box, _ = fitting_boxes(its, boxes, iou)
    fits = csr_array((np.ones(len(cell), dtype=bool), (cell, box)), shape=(len(its), len(boxes)))
    n_right = int(np.count_nonzero(maximum_bipartite_matching(fits) >= 0)) if fits.nnz else 0
    return Counts(n_right, len(boxes), len(its))


def bounding_boxes(found: Labels) -> NDArray[np.float64]:
    """Top, left, bottom and right of each cell, ends excluded: (n, 4); all 0 for a number that no pixel has."""
    from scipy.ndimage import find_objects

    corners = [(s[0].start, s[1].start, s[0].stop, s[1].stop) if s else (0,) * 4 for s in find_objects(found)]
    return np.array(corners, dtype=float).reshape(-1, 4)


def fitting_boxes(
    one: NDArray[np.float64], other: NDArray[np.float64], least: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Which of n boxes overlap with which of m others by this IoU or more: places in both, and the IoU, (k,) each."""
    places: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    others: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    ious: list[NDArray[np.float64]] = [np.zeros(0)]
    for first in range(0, len(other), BOXES_AT_ONCE):
        iou = box_iou(one, other[first : first + BOXES_AT_ONCE])
        place, beside = np.nonzero(iou >= least)
        places.append(place)
        others.append(first + beside)
        ious.append(iou[place, beside])
    return np.concatenate(places), np.concatenate(others), np.concatenate(ious)


def box_iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of n boxes with m boxes: (n, m)."""
    top_left = np.maximum(one[:, None, :2], other[None, :, :2])
    bottom_right = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(bottom_right - top_left, 0), axis=2)
    area_one, area_other = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other))
    return shared / (area_one[:, None] + area_other[None] - shared)
