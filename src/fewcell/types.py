"""The words of fewcell as types. Row before column, y before x; units stand in names.

An image is (channel, height, width) float32. Labels are (height, width) int32: 0 is background, -1 is
UNKNOWN (nobody annotated this pixel: no loss, no score), 1.. are instances. One instance is one cell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "FloatArray", "Instances", "Labels"]

UNKNOWN = -1

FloatArray = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Instances:
    """The cells found in one image.

    labels: (height, width) int32, 0 background, 1..n without gaps.
    scores: (n,) float32 in [0, 1]; scores[i] is the probability that instance i + 1 is right, that is,
        that it overlaps a true cell with an intersection over union of 0.5 or more.
    """

    labels: Labels
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, keep: NDArray[np.bool_]) -> "Instances":
        """Those for which `keep`, (n,), is true, numbered anew."""
        numbers = np.append(0, np.cumsum(keep) * keep).astype(np.int32)
        return Instances(numbers[self.labels], self.scores[keep])
