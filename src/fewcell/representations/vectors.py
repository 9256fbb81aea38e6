"""Vectors on a grid, which turn with it."""

import numpy as np

from fewcell.types import FloatArray

__all__ = ["turn_vectors"]


def turn_vectors(vectors: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
    """Change the direction, not the place, of vectors (y and x, height, width) as flipping and turning a picture does.

    Flip is left to right and comes first; quarters of a circle are counterclockwise, as in `numpy.rot90`.
    """
    y, x = vectors
    if flip:
        x = -x
    for _ in range(quarters % 4):
        y, x = -x, y
    return np.stack([y, x])
