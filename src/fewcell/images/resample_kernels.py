"""An image on another grid: rows are made of rows, columns of columns."""

import numpy as np

from fewcell.compiled import compiled

__all__ = ["blend"]


@compiled
def blend(plane, first_row, row_weights, first_column, column_weights, made):
    """Fill in an image whose rows and columns are weighted sums of those of another that follow one another.

    plane: (h, w) float32. first_row: (height,) uint32, of the rows that make a new one the first: no number is looked
    at for being negative. row_weights: (n, height) float32, of the first to the last of them. first_column,
    column_weights: the same for columns. made: (height, width) float32.
    """
    line = np.empty(plane.shape[1], np.float32)
    for y in range(made.shape[0]):
        line[:] = 0
        for k in range(row_weights.shape[0]):
            weight, row = row_weights[k, y], plane[first_row[y] + k]
            for x in range(len(line)):
                line[x] += weight * row[x]
        new = made[y]
        new[:] = 0
        for k in range(column_weights.shape[0]):
            for x in range(len(new)):
                new[x] += column_weights[k, x] * line[first_column[x] + k]
