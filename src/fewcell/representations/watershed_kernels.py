"""Loops over pixels for the watershed representation: distances inside cells, and the summits that mark cells."""

import numpy as np

from fewcell.compiled import compiled, find_root

__all__ = ["border_distance", "centre_closeness", "prominent_summits"]


@compiled
def border_distance(labels: np.ndarray, range_px: int) -> np.ndarray:
    """Each pixel's distance to the nearest pixel of another label, or `range_px` if that is nearer.

    labels: (height, width) integers. Returns float32 of that shape, exact; 0 where the label is 0. The edge of the
    field is no border.
    """
    height, width = labels.shape
    along = np.full((height, width), range_px, dtype=np.int32)  # the distance within the row
    for y in range(height):
        steps = range_px
        for x in range(1, width):
            steps = steps + 1 if labels[y, x] == labels[y, x - 1] else 1
            along[y, x] = min(steps, range_px)
        steps = range_px
        for x in range(width - 2, -1, -1):
            steps = steps + 1 if labels[y, x] == labels[y, x + 1] else 1
            along[y, x] = min(steps, along[y, x])
    distance = np.zeros((height, width), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] == 0:
                continue
            square = along[y, x] ** 2
            # Up, then down: as long as the label lasts, its rows know more; its end is itself another label.
            for step in (-1, 1):
                row, away = y + step, 1
                while 0 <= row < height and away * away < square:
                    if labels[row, x] != labels[y, x]:
                        square = away * away
                        break
                    square = min(square, away * away + along[row, x] ** 2)
                    row, away = row + step, away + 1
            distance[y, x] = np.sqrt(square)
    return distance


@compiled
def centre_closeness(labels: np.ndarray, count: int, alpha: float) -> np.ndarray:
    """1 / (1 + alpha d / sqrt(area)) in each cell, d the distance to its centre; 0 outside of cells.

    labels: (height, width), 0 background, 1..count. The centre is the centroid; if that lies outside of the cell,
    the pixel of the cell nearest to it.
    """
    height, width = labels.shape
    area, centre_y, centre_x = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1)
    for y in range(height):
        for x in range(width):
            n = labels[y, x]
            area[n] += 1
            centre_y[n] += y
            centre_x[n] += x
    nearest, pixel = np.zeros(count + 1), np.full(count + 1, -1)
    for y in range(height):
        for x in range(width):
            n = labels[y, x]
            square = (y - centre_y[n] / area[n]) ** 2 + (x - centre_x[n] / area[n]) ** 2
            if pixel[n] < 0 or square < nearest[n]:
                nearest[n], pixel[n] = square, y * width + x
    for n in range(1, count + 1):
        outside = nearest[n] > 0.51  # half a pixel's diagonal, squared
        centre_y[n] = pixel[n] // width if outside else centre_y[n] / area[n]
        centre_x[n] = pixel[n] % width if outside else centre_x[n] / area[n]
    closeness = np.zeros((height, width), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            n = labels[y, x]
            if n > 0:
                square = (y - centre_y[n]) ** 2 + (x - centre_x[n]) ** 2
                closeness[y, x] = 1 / (1 + alpha * np.sqrt(square / area[n]))
    return closeness


@compiled
def prominent_summits(surface: np.ndarray, order: np.ndarray, height: float, prominence: float) -> np.ndarray:
    """Number the summits that are high enough, and from which one descends far enough on the way to a higher one.

    surface: (height, width). order: the flat indices of the pixels that count, from the highest to the lowest.
    Returns int32 of the surface's shape: 1.. at the summits, 0 elsewhere. A plateau has one summit.
    """
    rows, columns = surface.shape
    values = surface.ravel()
    summits = np.zeros(rows * columns, dtype=np.int32)
    parent = np.full(rows * columns, -1, dtype=np.int32)  # of flooded pixels; a root is the summit of its hill
    rank = np.zeros(rows * columns, dtype=np.int32)  # of equally high summits, the first is the higher one
    count = 0
    for i in range(len(order)):
        place = order[i]
        parent[place], rank[place] = place, i
        y, x = place // columns, place % columns
        top = place
        for row in range(max(y - 1, 0), min(y + 2, rows)):
            for column in range(max(x - 1, 0), min(x + 2, columns)):
                root = row * columns + column
                if parent[root] < 0:
                    continue
                root = find_root(parent, root)
                if root == top:
                    continue
                low, top = (root, top) if rank[root] > rank[top] else (top, root)
                parent[low] = top
                if values[low] > height and values[low] - values[place] > prominence:
                    count += 1
                    summits[low] = count
    for i in range(len(order)):
        place = order[i]
        if parent[place] == place and values[place] > height:
            count += 1
            summits[place] = count
    return summits.reshape(rows, columns)
