"""Cells of one image that were found at two scales, as one set."""

import numpy as np

from fewcell.metrics import overlaps
from fewcell.types import Instances

__all__ = ["merge_scales"]

RIVALS_SHARE = 0.1  # of the smaller of two cells, if they share as much they cannot both be right


def merge_scales(first: Instances, second: Instances, level: float) -> Instances:
    """The cells found at two scales as one set: a cell of the second stays where it is surer than those it overlaps.

    first, second: on the same grid. Two cells are rivals if they overlap by a tenth of the smaller or more. A cell of
    the second stays if its score - level is more than those of its rivals together, each of which counts for the cell
    of the second with which it shares most; then none of its rivals stays. So what becomes of a cell depends on its
    rivals and on theirs, and on nothing further away. Where cells overlap by less, both may stay, and the first's
    keeps the pixels. Cells with scores below the level decide nothing: the second's are dropped, the first's stay
    where no cell comes in their way.
    """
    n, n_second = len(first), len(second)
    table = overlaps(first.labels, second.labels)
    i, j = table.true_ids[table.pair_true] - 1, table.predicted_ids[table.pair_predicted] - 1
    smaller = np.minimum(table.true_areas[table.pair_true], table.predicted_areas[table.pair_predicted])
    is_first, is_second = first.scores >= level, second.scores >= level
    rivals = is_first[i] & is_second[j] & (table.pair_px >= RIVALS_SHARE * smaller)
    most, where = np.zeros(n), np.flatnonzero(rivals)
    np.maximum.at(most, i[where], table.pair_px[where])
    where = where[table.pair_px[where] == most[i[where]]]
    where = where[np.unique(i[where], return_index=True)[1]]  # of two with which it shares as much, one
    against = np.bincount(j[where], weights=first.scores[i[where]] - level, minlength=n_second)
    stays = is_second & (second.scores - level > against)
    keep = np.ones(n, dtype=bool)
    keep[i[rivals & stays[j]]] = False
    keep[i[stays[j] & ~is_first[i]]] = False
    stays_first, numbers = np.append(keep, False), np.zeros(n + n_second + 1, dtype=np.int32)
    kept = np.concatenate([keep, stays])
    numbers[:-1][kept] = np.arange(1, kept.sum() + 1)
    of_first = np.where(first.labels > 0, first.labels - 1, n)
    of_second = np.where(second.labels > 0, second.labels - 1 + n, n + n_second)
    labels = np.where(stays_first[of_first], numbers[of_first], numbers[of_second])
    return Instances(labels, np.concatenate([first.scores, second.scores])[kept])
