"""How wide the cells of an image are, from what a model finds on small versions of it; and cells of two sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fewcell.images import resize_image
from fewcell.metrics import overlaps
from fewcell.types import FloatArray, Instances

__all__ = ["Look", "likely_diameters", "merge_scales", "select_instances", "thumbnails"]

SCALES = (2.0, 1.41, 1.0, 0.71, 0.5, 0.35, 0.25, 0.18, 0.125)
THUMBNAIL_PX = 512  # side of the part of a thumbnail that is looked at
TOLERANCE_OCTAVES = 0.7  # how far from the canonical diameter a cell may be and still tell the scale
NEAR_CANONICAL_OCTAVES = 0.5  # a second size counts where cells of it are found at the scale that they ask for
APART_OCTAVES = 1.3  # sizes that differ by less are found at one scale
FINEST_OCTAVES = 2.0  # a second size smaller than the first by more would cost more than 16 times as much
SHARE_OF_LARGER = 0.15  # of the evidence for the first size that there must be for a second that is larger
SHARE_OF_SMALLER = 0.35  # and for one that is smaller: what looks like small cells may be texture of large ones
RIVALS_SHARE = 0.1  # of the smaller of two cells, if they share as much they cannot both be right


@dataclass(frozen=True)
class Look:
    """What a model found on one thumbnail.

    scale: of the thumbnail. field_px: the area that it shows, in pixels of the image. diameters_px: of the cells, in
    pixels of the thumbnail. scores: of the cells.
    """

    scale: float
    field_px: float
    diameters_px: NDArray[np.float64]
    scores: FloatArray


def thumbnails(pixels: FloatArray) -> Iterator[tuple[float, FloatArray]]:
    """Each scale worth looking at, with the busiest part of a normalised image (3, height, width) at that scale."""
    for scale in SCALES:
        if scale < 1 and min(pixels.shape[1:]) * scale < 32:
            continue  # says nothing that another scale does not
        side = int(THUMBNAIL_PX / scale)
        top, left = _busiest_window(pixels, side)
        part = np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
        yield scale, resize_image(part, (round(part.shape[1] * scale), round(part.shape[2] * scale)))


def likely_diameters(looks: Sequence[Look], canonical_px: float) -> list[float]:
    """About how wide the cells are, in pixels of the image: none, one, or two where cells of two sizes are likely.

    At the right scale the model is sure of much of what it finds, and what it finds is about as wide as the cells
    that it learned from. So the scale wins that has most of such cells in its field, each weighed by the square of
    its score, by its width, and by its diameter to the power of 1.5. (By area, one clump would weigh as much as the
    cells in it; by number, specks would win.) The cells are then measured at the scale that brings them nearest to
    the canonical diameter. A second size is one far from the first, of cells that have no small share of the
    weight.
    """
    measured, weight = {}, {}
    for look in looks:
        octaves_off = np.log2(look.diameters_px / canonical_px)
        weights = look.scores**2 * np.exp(-0.5 * (octaves_off / TOLERANCE_OCTAVES) ** 2)
        if weights.sum() > 0:
            measured[look.scale] = _weighted_median(look.diameters_px, weights) / look.scale
            weight[look.scale] = (weights * (look.diameters_px / look.scale) ** 1.5).sum() / look.field_px
    if not measured:
        return []
    best = max(weight, key=weight.__getitem__)
    first = measured[best]
    for _ in range(2):
        wanted = canonical_px / first
        first = measured[min(measured, key=lambda scale: abs(np.log2(scale / wanted)))]
    rivals = [
        scale
        for scale, diameter in measured.items()
        if abs(np.log2(diameter * scale / canonical_px)) < NEAR_CANONICAL_OCTAVES
        and abs(np.log2(diameter / first)) > APART_OCTAVES
        and np.log2(first / diameter) <= FINEST_OCTAVES
        and weight[scale] >= (SHARE_OF_LARGER if diameter > first else SHARE_OF_SMALLER) * weight[best]
    ]
    return [first, *(measured[scale] for scale in sorted(rivals, key=weight.__getitem__)[-1:])]


def merge_scales(first: Instances, second: Instances, level: float) -> Instances:
    """The cells found at two scales as one set: where they overlap, those of the scale that is surer, region by region.

    first, second: on the same grid. A region is all cells that overlap each other, one scale's with the other's, by
    a tenth of the smaller or more; the scale wins that has the greater sum of score - level there, the first if both
    have the same. Where cells overlap by less, both may stay, and the first's keeps the pixels. Cells with scores below
    the level decide nothing: the second's are dropped, the first's stay where no cell comes in their way.
    """
    n, size = len(first), len(first) + len(second)
    scores = np.concatenate([first.scores, second.scores])
    is_first, counts = np.arange(size) < n, scores >= level
    table = overlaps(first.labels, second.labels)
    i, j = table.true_ids[table.pair_true] - 1, table.predicted_ids[table.pair_predicted] - 1 + n
    smaller = np.minimum(table.true_areas[table.pair_true], table.predicted_areas[table.pair_predicted])
    rivals = counts[i] & counts[j] & (table.pair_px >= RIVALS_SHARE * smaller)
    graph = coo_array((np.ones(rivals.sum()), (i[rivals], j[rivals])), shape=(size, size))
    _, region = connected_components(graph, directed=False)
    gain = np.where(counts, scores - level, 0) * np.where(is_first, 1, -1)
    first_wins = np.bincount(region, weights=gain, minlength=1) >= 0
    keep = np.where(counts, first_wins[region] == is_first, is_first)
    keep[i[keep[j] & ~counts[i]]] = False
    number = np.append(np.cumsum(keep, dtype=np.int32) * keep, np.int32(0))  # the last for pixels of no cell
    labels = number[np.where(first.labels > 0, first.labels - 1, size)]
    others = number[np.where(second.labels > 0, second.labels - 1 + n, size)]
    return Instances(np.where(labels > 0, labels, others), scores[keep])


def select_instances(found: Instances, min_score: float, *, min_area: float) -> Instances:
    """Keep instances with enough score and area, numbered anew."""
    area = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    keep = (found.scores >= min_score) & (area >= min_area)
    numbers = np.zeros(len(found) + 1, dtype=np.int32)
    numbers[1:][keep] = np.arange(1, keep.sum() + 1)
    return Instances(numbers[found.labels], found.scores[keep])


def _busiest_window(pixels: FloatArray, side: int) -> tuple[int, int]:
    """The top left corner of the window of `side` px with most contrast: cells may lie in one corner only.

    Contrast is the standard deviation in blocks; the strongest tenth counts alike, so that a speck does not win.
    """
    block = max(1, min(side // 8, *pixels.shape[1:]))
    rows, columns = (extent // block for extent in pixels.shape[1:])
    high, wide = min(side // block, rows), min(side // block, columns)
    if (high, wide) == (rows, columns):
        return 0, 0
    gray = pixels[:, : rows * block, : columns * block].mean(axis=0)
    contrast = gray.reshape(rows, block, columns, block).std(axis=(1, 3))
    contrast = np.minimum(contrast, np.percentile(contrast, 90))
    total = np.pad(contrast.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top) * block, int(left) * block


def _weighted_median(values: NDArray, weights: NDArray) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])
