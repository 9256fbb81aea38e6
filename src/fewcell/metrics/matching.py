"""Which predicted cells are right: pixel overlaps, and the matching rule of the NeurIPS 2022 challenge.

The rule (Ma et al., Nature Methods 2024, and the scoring program of the challenge):

1. Truth and prediction separately lose every instance with a pixel in the outer 2-px frame
   (`remove_border`).
2. True and predicted cells are assigned one to one at the least cost, which is
   -[IoU >= t] - IoU / (2 min(n_true, n_predicted)) a pair; assigned pairs with IoU >= t are right
   (`count_matches`).
3. F1 = 2 TP / (n_true + n_predicted), 0 when TP = 0 (`scores.f1`).
4. Images of 25,000,000 pixels or more are zero-padded to multiples of 2000 and cut into tiles of 2000
   without overlap; rule 1 goes for each tile, and the counts are summed (`scored_overlaps`).

No assignment has to be solved. All IoU terms together are at most 1/2, less than one right pair, so the
least cost has the most right pairs: TP is the size of a largest matching among the pairs with IoU >= t.
Above 1/2 no two such pairs share a cell, and TP is their number. At 1/2 exactly two predictions may each
be one half of the same true cell (or the other way round), and below that more may touch: there the
largest matching is computed.

UNKNOWN (-1 in the truth: nobody annotated these pixels) is our addition. Without it all is exactly the
rule above.

- Rule 1 comes first and looks at whole instances, also at their part in UNKNOWN; UNKNOWN itself stays. A
  cell that touches an UNKNOWN area but not the frame is kept.
- Then UNKNOWN pixels are taken out of both sides: no area, overlap, or IoU counts them.
- A prediction with more than half of its whole area in UNKNOWN counts only if it matches: at each
  threshold the unmatched ones are left out of n_predicted. Where two predictions could take the same true
  cell equally well, one that lies mostly in the known part takes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ConfigError, DataError
from fewcell.types import UNKNOWN, Labels

__all__ = ["Counts", "Overlaps", "count_matches", "match", "overlaps", "remove_border", "scored_overlaps"]

LARGE_IMAGE_PX = 25_000_000
LARGE_IMAGE_TILE_PX = 2000
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Overlaps:
    """How many pixels each true cell shares with each predicted one; only pairs that share any are listed.

    Areas and overlaps are in pixels outside UNKNOWN.

    true_ids, true_areas: (n_true,) ids in the label image, ascending, and areas.
    predicted_ids, predicted_areas: (n_predicted,) the same of the prediction; area 0 if all is in UNKNOWN.
    mostly_unknown: (n_predicted,) True where more than half of the whole prediction lies in UNKNOWN.
    pair_true, pair_predicted: (n_pairs,) positions in `true_ids` and `predicted_ids`, sorted by both.
    pair_px: (n_pairs,) pixels shared.
    """

    true_ids: NDArray[np.int64]
    true_areas: NDArray[np.int64]
    predicted_ids: NDArray[np.int64]
    predicted_areas: NDArray[np.int64]
    mostly_unknown: NDArray[np.bool_]
    pair_true: NDArray[np.int64]
    pair_predicted: NDArray[np.int64]
    pair_px: NDArray[np.int64]

    @property
    def n_true(self) -> int:
        return len(self.true_ids)

    @property
    def n_predicted(self) -> int:
        return len(self.predicted_ids)

    @property
    def pair_iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, (n_pairs,)."""
        areas = self.true_areas[self.pair_true] + self.predicted_areas[self.pair_predicted]
        return self.pair_px / (areas - self.pair_px)

    def right_and_known(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which predictions have an IoU of 0.5 or more with a true cell, and of which that is known.

        Both (n_predicted,). Of a wrong one that lies mostly in UNKNOWN it is not known whether it is wrong.
        """
        is_right = np.zeros(self.n_predicted, dtype=bool)
        is_right[self.pair_predicted[self.pair_iou >= 0.5]] = True
        return is_right, is_right | ~self.mostly_unknown


@dataclass(frozen=True)
class Counts:
    """How many cells there are, were predicted, and were found.

    n_predicted leaves out unmatched predictions that lie mostly in UNKNOWN.
    """

    true_positives: int
    n_true: int
    n_predicted: int


def overlaps(true: Labels, predicted: Labels) -> Overlaps:
    """Count the pixels that true and predicted cells share.

    One pass over the pixels and a sort of the runs of equal pixels: ids may have gaps and reach 2**31 - 1.
    Nothing is removed at the border. DataError: the shapes differ, a side is no label image, or the
    prediction has UNKNOWN.
    """
    true, predicted = _checked_pair(true, predicted)
    # One number for a pair of ids; the truth's sign survives in the upper half.
    starts, lengths = _runs(keys := ((true.astype(np.int64) << 32) | predicted).ravel())
    pairs, run_pair = np.unique(keys[starts], return_inverse=True)
    px = _sums(run_pair, lengths, len(pairs))
    true_id, predicted_id = pairs >> 32, pairs & 0xFFFFFFFF

    in_true, in_predicted = true_id > 0, predicted_id > 0
    true_ids, predicted_ids = np.unique(true_id[in_true]), np.unique(predicted_id[in_predicted])
    true_at, predicted_at = np.searchsorted(true_ids, true_id), np.searchsorted(predicted_ids, predicted_id)
    both, nowhere = in_true & in_predicted, in_predicted & (true_id == UNKNOWN)

    whole_px = _sums(predicted_at[in_predicted], px[in_predicted], len(predicted_ids))
    unknown_px = _sums(predicted_at[nowhere], px[nowhere], len(predicted_ids))
    return Overlaps(
        true_ids=true_ids,
        true_areas=_sums(true_at[in_true], px[in_true], len(true_ids)),
        predicted_ids=predicted_ids,
        predicted_areas=whole_px - unknown_px,
        mostly_unknown=2 * unknown_px > whole_px,
        pair_true=true_at[both],
        pair_predicted=predicted_at[both],
        pair_px=px[both],
    )


def remove_border(labels: Labels, width_px: int = 2) -> Labels:
    """Remove the cells that touch the outermost pixels of an image, since they are cut off (rule 1).

    The others are numbered 1, 2, ... in the order of their ids. UNKNOWN stays, also in the frame. An image no
    wider than two frames loses every cell.
    """
    labels = _checked(labels)
    if width_px < 0:
        raise ConfigError(f"width_px is {width_px}: give the width of the frame in pixels, 0 or more.")
    height, width = labels.shape
    low, right = max(height - width_px, 0), max(width - width_px, 0)
    frame = (labels[:width_px], labels[low:], labels[:, :width_px], labels[:, right:])
    cut = np.unique(np.concatenate([strip.ravel() for strip in frame]))

    flat = labels.ravel()
    starts, lengths = _runs(flat)
    ids, run_id = np.unique(flat[starts], return_inverse=True)
    kept = (ids > 0) & ~np.isin(ids, cut)
    new_ids = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    new_ids[ids == UNKNOWN] = UNKNOWN
    return np.repeat(new_ids[run_id], lengths).reshape(labels.shape)


def scored_overlaps(true: Labels, predicted: Labels) -> Overlaps:
    """Compare two label images as the challenge does: without cut cells, large images in tiles (rules 1, 4).

    Ids are those after rule 1 and, from a large image, start anew in each tile.
    """
    true, predicted = _checked_pair(true, predicted)
    tables = [
        overlaps(remove_border(true_part), remove_border(predicted_part))
        for true_part, predicted_part in _parts(true, predicted)
    ]
    return tables[0] if len(tables) == 1 else _side_by_side(tables)


def count_matches(table: Overlaps, threshold: float) -> Counts:
    """Count the cells found: pairs of a true and a predicted cell with an IoU of `threshold` or more.

    This is rule 2, and exactly what its assignment gives, also for ties. threshold: above 0, up to 1.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"The IoU threshold is {threshold}: give a number above 0 and up to 1.")
    right = table.pair_iou >= threshold
    found = _largest_matching(table, right, threshold)
    # A largest matching among the mostly known predictions can be widened to a largest one of all without
    # giving up any of them (augmenting paths): so few of the mostly unknown ones have to match.
    known = right & ~table.mostly_unknown[table.pair_predicted]
    unknown_found = found - _largest_matching(table, known, threshold)
    n_predicted = int(np.count_nonzero(~table.mostly_unknown)) + unknown_found
    return Counts(true_positives=found, n_true=table.n_true, n_predicted=n_predicted)


def match(true: Labels, predicted: Labels, threshold: float = 0.5) -> Counts:
    """Count the cells found in an image (rules 1, 2, and 4); at several thresholds, see `count_matches`."""
    return count_matches(scored_overlaps(true, predicted), threshold)


def _largest_matching(table: Overlaps, allowed: NDArray[np.bool_], threshold: float) -> int:
    """The most pairs out of the allowed ones of which no two share a cell."""
    n_allowed = int(np.count_nonzero(allowed))
    if threshold > 0.5 or n_allowed < 2:
        return n_allowed
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching  # both take a third of a second to import

    entries = (table.pair_true[allowed], table.pair_predicted[allowed])
    graph = csr_array((np.ones(n_allowed, np.int8), entries), shape=(table.n_true, table.n_predicted))
    return int(np.count_nonzero(maximum_bipartite_matching(graph) >= 0))


def _parts(true: Labels, predicted: Labels) -> Iterator[tuple[Labels, Labels]]:
    """The whole image, or the zero-padded tiles of a large one (only one tile is ever copied)."""
    if true.size < LARGE_IMAGE_PX:
        yield true, predicted
        return
    side = LARGE_IMAGE_TILE_PX
    for y in range(0, true.shape[0], side):
        for x in range(0, true.shape[1], side):
            window = (slice(y, y + side), slice(x, x + side))
            height, width = true[window].shape
            missing = ((0, side - height), (0, side - width))
            yield np.pad(true[window], missing), np.pad(predicted[window], missing)


def _side_by_side(tables: Sequence[Overlaps]) -> Overlaps:
    """One table of several that share no cell, as if their images lay side by side."""
    first_true = np.cumsum([0] + [table.n_true for table in tables])
    first_predicted = np.cumsum([0] + [table.n_predicted for table in tables])

    def joined(name: str, first: Sequence[int] | NDArray[np.int64]) -> NDArray:
        return np.concatenate([getattr(table, name) + at for table, at in zip(tables, first, strict=False)])

    none = [0] * len(tables)
    return Overlaps(
        true_ids=joined("true_ids", none),
        true_areas=joined("true_areas", none),
        predicted_ids=joined("predicted_ids", none),
        predicted_areas=joined("predicted_areas", none),
        mostly_unknown=np.concatenate([table.mostly_unknown for table in tables]),
        pair_true=joined("pair_true", first_true),
        pair_predicted=joined("pair_predicted", first_predicted),
        pair_px=joined("pair_px", none),
    )


def _runs(flat: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First positions and lengths of stretches of equal values: far fewer than pixels, so cheap to sort."""
    new = np.ones(flat.size, bool)
    new[1:] = flat[1:] != flat[:-1]
    starts = np.flatnonzero(new)
    return starts, np.diff(starts, append=flat.size)


def _sums(at: NDArray[np.int64], px: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Sum of px at each of n positions; float64 holds pixel counts exactly up to 2**53."""
    return np.bincount(at, weights=px, minlength=n).astype(np.int64)


def _checked_pair(true: Labels, predicted: Labels) -> tuple[Labels, Labels]:
    true, predicted = _checked(true), _checked(predicted)
    if true.shape != predicted.shape:
        raise DataError(
            f"The true labels are {true.shape[0]} x {true.shape[1]} pixels (height x width), the predicted "
            f"{predicted.shape[0]} x {predicted.shape[1]}: compare label images of one and the same image."
        )
    if predicted.min(initial=0) < 0:
        raise DataError(
            f"The prediction holds the label {predicted.min()}: a prediction has 0 for background and "
            "1, 2, ... for cells; only true labels may have -1 (unknown)."
        )
    return true, predicted


def _checked(labels: Labels) -> Labels:
    """int32 labels of the same values, or what is wrong with them."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Labels are whole numbers in (height, width); got {labels.dtype} of shape {labels.shape}. "
            "A yes/no mask needs its cells numbered first."
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < UNKNOWN or high > LARGEST_ID:
        raise DataError(
            f"Labels go from {low} to {high}: use -1 for unknown, 0 for background and 1 to {LARGEST_ID} for cells."
        )
    return labels.astype(np.int32, copy=False)
