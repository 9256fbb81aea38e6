"""Vectors on a grid, which turn with it."""

import numpy as np

from fewcell.types import FloatArray

__all__ = ["divergence", "turn_vectors"]


def divergence(vectors: FloatArray) -> FloatArray:
    """By how much vectors part (y and x, height, width) at each pixel: 2 if all around point away from it, -2 if to it.

    Differences are taken over two pixels; on the outermost pixels those across the edge count as 0.
    """
    parting = np.zeros(vectors.shape[1:], dtype=np.float32)
    parting[1:-1] += (vectors[0, 2:] - vectors[0, :-2]) / 2
    parting[:, 1:-1] += (vectors[1, :, 2:] - vectors[1, :, :-2]) / 2
    return parting


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
