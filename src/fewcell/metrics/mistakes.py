"""What went wrong, cell by cell: missed, split, merged with a neighbour, or found where there is none."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.metrics.matching import Overlaps

__all__ = ["MISTAKES", "Mistakes", "find_mistakes"]

MISTAKES = ("missed", "split", "merged", "badly_outlined", "false")


@dataclass(frozen=True)
class Mistakes:
    """Which cells are wrong, and how; each wrong cell is wrong in one way.

    A pair is right at an IoU above 0.5, where it is the only one (at exactly 0.5, F1 counts one of several). Of the
    true cells that are not: `merged` lie for more than half in a prediction that holds more than half of another
    true cell as well; `split` hold more than half of each of two predictions or more; `badly_outlined` share at
    least a tenth of their area with one prediction; `missed` are the rest. Of the predictions that are not right:
    `false` have not even a tenth of their area in true cells. Predictions mostly in UNKNOWN are never false.

    All are boolean, (n_true,) or, for `false`, (n_predicted,), by position in the table of overlaps.
    """

    missed: NDArray[np.bool_]
    split: NDArray[np.bool_]
    merged: NDArray[np.bool_]
    badly_outlined: NDArray[np.bool_]
    false: NDArray[np.bool_]

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {name: int(np.count_nonzero(mask)) for name, mask in vars(self).items()}


def find_mistakes(table: Overlaps) -> Mistakes:
    """Say of every cell that is not right what is wrong with it; O(pairs)."""
    true, predicted = table.pair_true, table.pair_predicted
    right = table.pair_iou > 0.5
    true_right, predicted_right = np.zeros(table.n_true, bool), np.zeros(table.n_predicted, bool)
    true_right[true[right]] = True
    predicted_right[predicted[right]] = True

    of_true = table.pair_px / table.true_areas[true]
    of_predicted = table.pair_px / np.maximum(table.predicted_areas[predicted], 1)
    inside = of_true > 0.5  # the true cell lies in the prediction
    held = np.bincount(predicted[inside], minlength=table.n_predicted)
    merged = np.zeros(table.n_true, bool)
    merged[true[inside & (held[predicted] >= 2)]] = True
    parts = np.bincount(true[of_predicted > 0.5], minlength=table.n_true)
    touched = np.zeros(table.n_true, bool)
    touched[true[of_true >= 0.1]] = True
    covered = np.bincount(predicted, weights=of_predicted, minlength=table.n_predicted)

    merged &= ~true_right
    split = (parts >= 2) & ~true_right & ~merged
    outlined = touched & ~true_right & ~merged & ~split
    return Mistakes(
        missed=~(true_right | merged | split | outlined),
        split=split,
        merged=merged,
        badly_outlined=outlined,
        false=~predicted_right & (covered < 0.1) & ~table.mostly_unknown,
    )
