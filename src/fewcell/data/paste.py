"""Cells of one crop set into another.

Images here are (height, width, 3) float32; labels lie on a grid `stride` times coarser, with a margin around it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fewcell.types import FloatArray, Labels

__all__ = ["paste_cells"]

SHARE = (0.2, 1.0)  # of the cells for which there is room
EDGE_PX = 1  # of the labels: what is pasted of a cell's surroundings
RING_PX = 3  # of the labels: how far around a cell its background is looked at


def paste_cells(
    image: FloatArray,
    labels: Labels,
    donor: FloatArray,
    donor_labels: Labels,
    margin: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, Labels]:
    """Set whole cells of a donor into an image where they cover no labelled cell; both are of one shape.

    A cell keeps its place and its contrast to its own surroundings, not its brightness: it is shifted so that these
    would look like what it covers. Between pasted cells labels stay as they are, UNKNOWN too. margin: how far labels
    reach beyond the image, in their own pixels. Returns new arrays, or those given where there is nothing to paste.

    Source: after Ghiasi et al., Simple copy-paste is a strong data augmentation (CVPR 2021); that only what is sure is
    pasted, and by its contrast, is ours.
    """
    chosen = _choose(labels, donor_labels, margin, rng)
    if not chosen.any():
        return image, labels
    pasted = np.where(donor_labels > 0, chosen[np.maximum(donor_labels, 0)] * donor_labels, 0)
    new_labels = np.where(pasted > 0, pasted + np.int32(labels.max(initial=0)), labels)

    inner = slice(margin, -margin or None)
    size = image.shape[1::-1]
    near = _grown(pasted, EDGE_PX)[inner, inner]
    own = cv2.resize(near.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    around = np.where(donor_labels == 0, _grown(pasted, EDGE_PX + RING_PX), 0)[inner, inner]
    ring = cv2.resize(around.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    count = len(chosen)
    shift = _means(image, own, count) - _means(donor, ring, count)
    lonely = ~np.bincount(ring.ravel(), minlength=count).astype(bool)  # no background around: cells all about it
    shift[lonely] = 0
    soft = cv2.GaussianBlur((own > 0).astype(np.float32), (0, 0), 1.0)[..., None]
    moved = donor + shift[_grown(own, 4)]  # beyond the edge as well, where it fades
    return (soft * moved + (1 - soft) * image).astype(np.float32), new_labels.astype(np.int32)


def _choose(labels: Labels, donor_labels: Labels, margin: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of the donor's cells are pasted, by number: some of those that are whole and have room."""
    count = int(donor_labels.max(initial=0)) + 1
    cells = np.maximum(donor_labels, 0)
    has_room = np.bincount(cells.ravel(), minlength=count) > 0
    has_room[cells[_grown(np.maximum(labels, 0), EDGE_PX) > 0]] = False
    inside = np.zeros(labels.shape, dtype=bool)
    first = margin + EDGE_PX
    inside[first : -first or None, first : -first or None] = True
    has_room[cells[~inside]] = False
    has_room[0] = False
    return has_room & (rng.random(count) < rng.uniform(*SHARE))


def _grown(labels: Labels, by_px: int) -> Labels:
    """Labels with cells `by_px` larger, over background; where two meet, the greater number wins."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    grown = cv2.dilate(labels.astype(np.float32), kernel).astype(np.int32)
    return np.where(labels > 0, labels, grown)


def _means(image: FloatArray, labels: Labels, count: int) -> FloatArray:
    """The mean of each channel in each cell: (count, 3); 0 where there are no pixels."""
    flat = labels.ravel()
    pixels = np.maximum(np.bincount(flat, minlength=count), 1)
    sums = [np.bincount(flat, weights=image[..., c].ravel(), minlength=count) for c in range(image.shape[2])]
    return (np.stack(sums, axis=1) / pixels[:, None]).astype(np.float32)
