"""Cells of one image that were found at two scales, as one set."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fewcell.metrics import overlaps
from fewcell.types import Instances

__all__ = ["merge_scales"]

RIVALS_SHARE = 0.1  # of the smaller of two cells, if they share as much they cannot both be right


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
