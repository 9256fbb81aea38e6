"""Smooth fields inside cells, made from labels: the flow of heat to a cell's centre, the distance to its border.

Both are solutions of one linear equation per connected piece of a cell, found by successive over-relaxation: each
pixel is set near the mean of its eight neighbours, again and again, in as many sweeps as the piece is wide. That takes
the same time whatever the number of cells, and gives what simulating a diffusion step by step ends at.
"""

from math import cosh, hypot, log, pi, sin

import cc3d
import numpy as np

from fewcell.compiled import compiled
from fewcell.types import FloatArray, Labels

__all__ = ["heat_flow", "number_pieces", "smooth_distance"]

FRAME_PX = 8
"""The frame is no border: for distances, cells are continued straight beyond it by this much."""

# A pixel's neighbours weigh 4 (sides) and 1 (corners), 20 in all: of all 3 x 3 means the one nearest to the same in
# all directions. Divided by 1 + LOSS, the mean of exp(-d) over neighbours is exp(-d), for d in px along an axis.
LOSS = 0.6 * (cosh(1.0) - 1)
OVER_WITH_LOSS = 1.21

RIDGE_SLOPE = 0.5
"""The distance grows by 1 per px, but by less within half a px of the skeleton."""


def heat_flow(labels: Labels) -> FloatArray:
    """The directions in which heat runs through each cell to its centre: (2, height, width), y and x.

    labels: (height, width); what is not positive is no cell. A connected piece (corners connect) is heated at its
    centre and cooled at its border until the heat settles; the flow is the direction of steepest ascent, of length 1.
    It is 0 at the centre and outside cells. The centre is the pixel nearest to the mean position, with those of its
    neighbours that are just as near; of pixels farther apart the first in reading order.
    """
    cells, boxes = number_pieces(labels)
    flow = np.zeros((2, *labels.shape), dtype=np.float32)
    _heat(cells, boxes, flow)
    return flow


def smooth_distance(labels: Labels) -> FloatArray:
    """The distance to the cell's border in px, and the direction (y, x) in which it grows: (3, height, width).

    labels: (height, width); what is not positive is no cell. The frame is no border. The distance is that of the
    eikonal equation, rounded off within about 1 px of the skeleton. The direction has length 1 wherever the slope is
    RIDGE_SLOPE or more, and less in proportion where it is not, on the skeleton. Pixels next to the border are at
    about 1; outside cells all is 0.
    """
    cells, boxes = number_pieces(np.pad(labels, FRAME_PX, mode="edge"))
    fields = np.zeros((3, *cells.shape), dtype=np.float32)
    _distance(cells, boxes, fields)
    return np.ascontiguousarray(fields[:, FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX])


def number_pieces(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected pieces of cells from 1; the box of piece k is boxes[k - 1]: top, bottom, left, right."""
    from scipy.ndimage import find_objects

    cells = cc3d.connected_components(np.maximum(labels, 0), connectivity=8, out_dtype=np.uint32)
    cells = cells.view(np.int32)  # numba adds signed numbers to unsigned ones as floats
    edges = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in find_objects(cells)]
    return cells, np.array(edges, dtype=np.int64).reshape(-1, 4)


@compiled
def _places(cells, number, top, bottom, left, right):
    """The places of a piece's pixels in its box with a margin of one pixel, as a flat array."""
    width = right - left + 2
    places = np.empty((bottom - top) * (right - left), dtype=np.int64)
    n = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if cells[y, x] == number:
                places[n] = (y - top + 1) * width + x - left + 1
                n += 1
    return places[:n]


@compiled
def _relax(values, places, width, kept, over, n_sweeps):
    """Bring values at these places to `kept` times the mean of their neighbours; forwards and backwards in turn.

    The neighbour that has just been changed is added last, as the processor has to wait for it.
    """
    side, corner = over * kept * 4 / 20, over * kept / 20
    n = len(places)
    for sweep in range(n_sweeps):
        ahead = 1 - 2 * (sweep % 2)
        for k in range(n):
            i = places[k] if ahead > 0 else places[n - 1 - k]
            sides = values[i - width] + values[i + width] + values[i + ahead]
            corners = values[i - width - 1] + values[i - width + 1] + values[i + width - 1] + values[i + width + 1]
            values[i] = ((1 - over) * values[i] + side * sides + corner * corners) + side * values[i - ahead]


@compiled
def _heat_centre(heat, places, width):
    """Put heat 1 into the centre; returns the other places. (Plain loops, here and below, compile fastest.)"""
    mean_y, mean_x = 0.0, 0.0
    for i in places:
        mean_y, mean_x = mean_y + (i // width) / len(places), mean_x + (i % width) / len(places)
    centre, nearest = 0, np.inf
    for i in places:
        off = (i // width - mean_y) ** 2 + (i % width - mean_x) ** 2
        if off < nearest - 1e-6:
            centre, nearest = i, off
    others = np.empty(len(places), dtype=np.int64)
    n = 0
    for i in places:
        off = (i // width - mean_y) ** 2 + (i % width - mean_x) ** 2
        beside = abs(i // width - centre // width) <= 1 and abs(i % width - centre % width) <= 1
        if off < nearest + 1e-6 and beside:
            heat[i] = 1.0
        else:
            others[n] = i
            n += 1
    return others[:n]


@compiled
def _heat(cells, boxes, flow):
    for k in range(len(boxes)):
        top, bottom, left, right = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        height, width = bottom - top, right - left + 2
        places = _places(cells, k + 1, top, bottom, left, right)
        heat = np.zeros((height + 2) * width)
        around = _heat_centre(heat, places, width)
        # The best over-relaxation for a disc or a strip as wide as this piece is on average.
        wide = len(places) / max(height, width - 2)
        over = 2 / (1 + sin(pi / (wide + 1)))
        _relax(heat, around, width, 1.0, over, 12 + (height + width) // 2)
        for i in around:
            along_y, along_x = heat[i + width] - heat[i - width], heat[i + 1] - heat[i - 1]
            length = hypot(along_y, along_x)
            if length > 0:
                y, x = i // width + top - 1, i % width + left - 1
                flow[0, y, x], flow[1, y, x] = along_y / length, along_x / length


@compiled
def _distance(cells, boxes, fields):
    for k in range(len(boxes)):
        top, bottom, left, right = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        height, width = bottom - top, right - left + 2
        places = _places(cells, k + 1, top, bottom, left, right)
        values = np.ones((height + 2) * width)
        for i in places:
            values[i] = 0.0
        wide = len(places) / max(height, width - 2)
        _relax(values, places, width, 1 / (1 + LOSS), OVER_WITH_LOSS, 8 + int(wide) // 2)
        # Outside, 1 becomes 0. Deeper than some 690 px, where the exponential ends, all is equally deep.
        for i in range(len(values)):
            values[i] = -log(max(values[i], 1e-300))
        for i in places:
            y, x = i // width + top - 1, i % width + left - 1
            along_y, along_x = (values[i + width] - values[i - width]) / 2, (values[i + 1] - values[i - 1]) / 2
            scale = max(RIDGE_SLOPE, hypot(along_y, along_x))
            fields[0, y, x], fields[1, y, x], fields[2, y, x] = values[i], along_y / scale, along_x / scale
