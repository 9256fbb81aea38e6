"""Loops over pixels for trails: the shortest paths inside cells, and which pixels lead to the same place."""

from math import hypot

import numpy as np

from fewcell.representations.compiled import compiled, find_root

__all__ = ["join_trails", "steps_ahead"]

CLOSE_PX = 2.0
"""Ends of steps that are no further apart than this are the same place."""


@compiled
def _sees(cells, y, x, to_y, to_x):
    """Whether the straight line between two pixels stays in the cell."""
    away = max(abs(to_y - y), abs(to_x - x))
    for i in range(1, away):
        row = int(np.floor(y + (to_y - y) * i / away + 0.5))
        column = int(np.floor(x + (to_x - x) * i / away + 0.5))
        if cells[row, column] != cells[y, x]:
            return False
    return True


def steps_ahead(cells, boxes, step_px):
    """Where the shortest path inside the cell to its centre leads within `step_px`: (2, height, width), y and x.

    cells: (height, width), pieces numbered from 1, 0 elsewhere. boxes: of each piece, top, bottom, left, right. The
    vectors are in units of `step_px`, 0 at centres and outside of cells. The centre is the pixel nearest to the mean
    position. A path is a chain of straight lines, found from the centre outwards: a pixel goes straight to where one
    of its neighbours turns, if it sees that place, else to the neighbour.
    """
    steps = np.zeros((2, *cells.shape), dtype=np.float32)
    largest = int(np.bincount(cells.ravel())[1:].max(initial=0))
    room = np.full(cells.shape, -1, dtype=np.int64), np.zeros(cells.shape), np.empty(largest, dtype=np.int64)
    _steps_ahead(cells, boxes, step_px, steps, *room)
    return steps


@compiled
def _steps_ahead(cells, boxes, step_px, steps, turn, away, queue):
    """Fill in the zeros of `steps_ahead`.

    Room: turn, the flat index of the place to which a pixel goes straight, all -1; away, the length of the whole path,
    all 0; queue, of the pixels of the largest piece.
    """
    height, width = cells.shape
    for k in range(len(boxes)):
        top, bottom, left, right = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        n, mean_y, mean_x = 0, 0.0, 0.0
        for y in range(top, bottom):
            for x in range(left, right):
                if cells[y, x] == k + 1:
                    n, mean_y, mean_x = n + 1, mean_y + y, mean_x + x
        centre, nearest = 0, np.inf
        for y in range(top, bottom):
            for x in range(left, right):
                off = (y - mean_y / n) ** 2 + (x - mean_x / n) ** 2
                if cells[y, x] == k + 1 and off < nearest - 1e-6:
                    centre, nearest = y * width + x, off
        queue[0], turn[centre // width, centre % width] = centre, centre
        first, last = 0, 1
        while first < last:
            y, x = queue[first] // width, queue[first] % width
            first += 1
            for row in range(max(y - 1, 0), min(y + 2, height)):
                for column in range(max(x - 1, 0), min(x + 2, width)):
                    if cells[row, column] != k + 1 or turn[row, column] == centre:
                        continue
                    by = turn[y, x]
                    if not _sees(cells, row, column, by // width, by % width):
                        by = y * width + x
                    length = away[by // width, by % width] + hypot(row - by // width, column - by % width)
                    if turn[row, column] < 0:
                        queue[last] = row * width + column
                        last += 1
                    elif length >= away[row, column]:
                        continue
                    turn[row, column], away[row, column] = by, length
        for i in range(n):
            start_y, start_x = queue[i] // width, queue[i] % width
            y, x, left_px, place = float(start_y), float(start_x), step_px, queue[i]
            while left_px > 0 and place != centre:
                place = turn[place // width, place % width]
                ahead_y, ahead_x = place // width - y, place % width - x
                length = hypot(ahead_y, ahead_x)
                share = min(1.0, left_px / length) if length > 0 else 1.0
                y, x, left_px = y + share * ahead_y, x + share * ahead_x, left_px - length
            steps[0, start_y, start_x] = (y - start_y) / step_px
            steps[1, start_y, start_x] = (x - start_x) / step_px


@compiled
def _target(steps, inside, y, x, step_px):
    """The pixel to which a pixel leads: the end of its step, or of half, or a quarter of it, where that is inside."""
    height, width = inside.shape
    length = step_px
    for _ in range(3):
        row = int(np.floor(y + length * steps[0, y, x] + 0.5))
        column = int(np.floor(x + length * steps[1, y, x] + 0.5))
        if 0 <= row < height and 0 <= column < width and inside[row, column]:
            return row * width + column
        length /= 2
    return y * width + x


def join_trails(steps, inside, step_px, sink_px):
    """Number the pixels that lead to the same place: (height, width) int64 of flat indices, -1 where not `inside`.

    steps: (2, height, width), y and x in units of `step_px`. A pixel has arrived if its step is shorter than `sink_px`,
    or if the next step leads back. Neighbours that have both arrived are at the same place if their steps end within
    CLOSE_PX of each other; corners connect.
    """
    ends = np.full(inside.shape, -1, dtype=np.int64)
    _join_trails(steps, inside, step_px, sink_px, np.arange(inside.size), np.zeros(inside.shape, dtype=np.bool_), ends)
    return ends


@compiled
def _join_trails(steps, inside, step_px, sink_px, leader, arrived, ends):
    """Fill in the ends, all -1; room: leader, every pixel itself; arrived, all False."""
    height, width = inside.shape
    for y in range(height):
        for x in range(width):
            if not inside[y, x]:
                continue
            target = _target(steps, inside, y, x, step_px)
            row, column = target // width, target % width
            if hypot(row - y, column - x) <= sink_px:
                arrived[y, x] = True
            back = _target(steps, inside, row, column, step_px)
            if hypot(back // width - y, back % width - x) < min(CLOSE_PX, hypot(row - y, column - x)):
                arrived[y, x], arrived[row, column] = True, True
            leader[find_root(leader, y * width + x)] = find_root(leader, target)
    for y in range(height):
        for x in range(width):
            if not arrived[y, x]:
                continue
            end_y, end_x = y + step_px * steps[0, y, x], x + step_px * steps[1, y, x]
            for row, column in ((y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)):
                if row == height or column < 0 or column == width or not arrived[row, column]:
                    continue
                off_y = row + step_px * steps[0, row, column] - end_y
                off_x = column + step_px * steps[1, row, column] - end_x
                if hypot(off_y, off_x) < CLOSE_PX:
                    leader[find_root(leader, y * width + x)] = find_root(leader, row * width + column)
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                ends[y, x] = find_root(leader, y * width + x)
