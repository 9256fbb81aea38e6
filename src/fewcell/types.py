"""The words of fewcell as types. Row before column, y before x; units stand in names.

An image is (channel, height, width) float32. Labels are (height, width) int32: 0 is background, -1 is
UNKNOWN (nobody annotated this pixel: no loss, no score), 1.. are instances. One instance is one cell.
"""

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "FloatArray", "Instances", "Labels", "Shape", "Turn", "Window"]

UNKNOWN = -1

FloatArray = NDArray[np.float32]
Labels = NDArray[np.int32]
Shape = tuple[int, int]
"""Height and width."""
Window = tuple[int, int, int, int]
"""A part of an image: top, left, bottom, right in its pixels, ends excluded."""

Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True)
class Turn:
    """How a picture is flipped (left to right), then turned counterclockwise by quarters of a circle."""

    quarters: int = 0
    flip: bool = False

    def of(self, pixels: NDArray[Pixel]) -> NDArray[Pixel]:
        """Pixels (..., height, width) so turned, a copy."""
        flipped = pixels[..., ::-1] if self.flip else pixels
        return np.ascontiguousarray(np.rot90(flipped, self.quarters, axes=(-2, -1)))

    @property
    def undo(self) -> "Turn":
        """What brings them back. With a flip that is the same once more."""
        return Turn(self.quarters if self.flip else -self.quarters % 4, self.flip)


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

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Self:
        """No cells, in an image of this height and width."""
        return cls(np.zeros(shape, dtype=np.int32), np.zeros(0, dtype=np.float32))

    def only(self, keep: NDArray[np.bool_]) -> Self:
        """Those for which `keep`, (n,), is true, numbered anew."""
        if keep.all():
            return self
        numbers = np.append(0, np.cumsum(keep) * keep).astype(np.int32)
        return type(self)(numbers[self.labels], self.scores[keep])

    def areas_px(self) -> NDArray[np.intp]:
        """How many pixels each has: (n,)."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:]

    def of_score(self, min_score: float) -> Self:
        """Those whose score is `min_score` or more."""
        return self.only(self.scores >= min_score)

    def of_area(self, min_area_px: float) -> Self:
        """Those that have `min_area_px` pixels or more."""
        return self.only(self.areas_px() >= min_area_px) if min_area_px > 0 else self
