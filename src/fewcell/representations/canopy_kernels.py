"""Loops over pixels and nodes for canopy: the merge tree of a height, sums over its nodes, and the best choice of them.

A node is a number; leaves are hills of the height, every other node is two that met, and a parent's number is higher
than those of its children. So a loop upwards over nodes sees children first, and one downwards sees parents first.
"""

import numpy as np

from fewcell.compiled import compiled, find_root

__all__ = ["DIRECTIONS", "add_upwards", "best_ious", "choose", "gather_upwards", "merge_tree", "sums_of_own"]

DIRECTIONS = np.array([(1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1)], dtype=np.int64)
"""(y, x) of the directions in which a node's extent is measured, both ways."""

# The columns of sums over pixels and over pairs of neighbouring pixels (sides, corners); INWARD: of the flow along the
# position. Three a channel follow: values and their squares over pixels, and values over sides.
AREA, Y, X, YY, XX, YX, FRAME, FLOW_Y, FLOW_X, INWARD, SIDES, CORNERS, FIRST_CHANNEL = range(13)


def merge_tree(height, order, prominence, widest_px):
    """Flood a height from its summits down, and note which hills meet and where.

    height: (rows, columns) float32. order: the flat indices of the pixels to flood, from the highest to the lowest.
    prominence: a hill that is hardly flooded when it meets another, by less than this, becomes a part of it, unless
    both together are wider than `widest_px`: so what becomes of a hill does not depend on what is further away.

    Returns basin (rows, columns) int32, the leaf whose hill a pixel is on, -1 where nothing was flooded; then for
    each node its parent (-1: none), the height where its children met (of a leaf: its summit), and its summit. Corners
    connect; a pixel goes to the hill of its highest neighbour.
    """
    rows, columns = height.shape
    basin = np.full(rows * columns, -1, dtype=np.int32)
    most = 2 * ((rows + 1) // 2) * ((columns + 1) // 2) + 1  # two summits are never neighbours
    parent, into = np.full((2, most), -1, dtype=np.int32)
    met, summit = np.empty((2, most), dtype=np.float32)
    room = np.empty((most, 4), dtype=np.int32), np.empty(most, dtype=np.int32), np.zeros(most, dtype=np.bool_)
    n = _flood(height.ravel(), columns, order, prominence, widest_px, basin, parent, into, met, summit, *room)
    left = into[:n] < 0
    number = np.append(np.cumsum(left, dtype=np.int32) - 1, np.int32(-1))  # the last for nodes without a parent
    leaf = np.arange(n + 1, dtype=np.int32)
    leaf[:n][~left] = into[:n][~left]
    while np.any(leaf != leaf[leaf]):
        leaf = leaf[leaf]
    basin[order] = number[leaf[basin[order]]]
    return basin.reshape(rows, columns), number[parent[:n][left]], met[:n][left], summit[:n][left]


@compiled
def _join_boxes(box, one, other, to):
    """Put the box around two nodes (-top, bottom, -left, right) into a third; returns its longer side."""
    for side in range(4):
        box[to, side] = max(box[one, side], box[other, side])
    return max(box[to, 0] + box[to, 1], box[to, 2] + box[to, 3]) + 1


@compiled
def _flood(values, columns, order, prominence, widest_px, basin, parent, into, met, summit, box, top, is_leaf):
    """Fill in `merge_tree`'s arrays, with the leaf `into` which a hill went that is a part of another; returns n.

    Room for each node: box around it as it is flooded, top: leads to the node that it is part of by now, is_leaf.
    """
    rows = len(values) // columns
    n = np.int64(0)  # of one type with the numbers of nodes below, so that nothing is compiled twice
    for place in order:
        y, x = place // columns, place % columns
        first, last = max(x - 1, 0), min(x + 2, columns)
        best = -1
        for row in range(max(y - 1, 0), min(y + 2, rows)):
            for other in range(row * columns + first, row * columns + last):
                if basin[other] >= 0 and (best < 0 or values[other] > values[best]):
                    best = other
        if best < 0:
            basin[place], met[n], summit[n], is_leaf[n], top[n] = n, values[place], values[place], True, n
            box[n, 0], box[n, 1], box[n, 2], box[n, 3] = -y, y, -x, x
            n += 1
            continue
        basin[place] = basin[best]
        here = find_root(top, np.int64(basin[place]))
        box[here, 0], box[here, 1] = max(box[here, 0], -y), max(box[here, 1], y)
        box[here, 2], box[here, 3] = max(box[here, 2], -x), max(box[here, 3], x)
        for row in range(max(y - 1, 0), min(y + 2, rows)):
            for other in range(row * columns + first, row * columns + last):
                if basin[other] < 0:
                    continue
                there = find_root(top, np.int64(basin[other]))
                if there == here:
                    continue
                is_narrow = _join_boxes(box, here, there, n) <= widest_px
                low_here = is_leaf[here] and summit[here] - values[place] < prominence
                low_there = is_leaf[there] and summit[there] - values[place] < prominence
                if is_narrow and (low_here or low_there):
                    stays, goes, leaf = here, there, basin[place]
                    if low_here and (summit[there] > summit[here] or not low_there):
                        stays, goes, leaf = there, here, basin[other]
                    top[goes], into[goes] = stays, leaf
                    summit[stays] = max(summit[here], summit[there])
                    _join_boxes(box, here, there, stays)
                    here = stays
                else:
                    parent[here], parent[there], top[here], top[there], top[n] = n, n, n, n, n
                    met[n], summit[n] = values[place], max(summit[here], summit[there])
                    here = n
                    n += 1
    return n


@compiled
def _find_chains(parent, size, heavy, head):
    """Fill in the head of each node's chain: a chain goes down to the child with most nodes below, again and again.

    Room for each node: size, all 1; heavy, all -1; head, every node itself.
    """
    n = len(parent)
    for node in range(n):
        above = parent[node]
        if above >= 0:
            size[above] += size[node]
            if heavy[above] < 0 or size[node] > size[heavy[above]]:
                heavy[above] = node
    for node in range(n - 1, -1, -1):
        above = parent[node]
        if above >= 0 and heavy[above] == node:
            head[node] = head[above]


def sums_of_own(basin, parent, prediction, flow, level, n_levels):
    """Sum over the pixels, and over the pairs of neighbouring pixels, that a node holds and its children do not.

    basin: (rows, columns), the leaf of each pixel, or -1. parent: of each node. prediction: (channel, rows, columns).
    flow: (2, rows, columns), y and x. level: (rows, columns) integers below `n_levels`, the highest foreground cut that
    the pixel survives; a pair has the lower level of the two.

    Returns sums (node, level, column) float64; the border between a node's children, at all levels: how many pairs, and
    their mean value in each channel, added up (node, 1 + channel) float64; and how far a node reaches in each of
    DIRECTIONS, forth and back (node, 8, 2) int64. Pixels and reach are those of leaves, a pair belongs to the lowest
    node that holds both of its pixels.
    """
    n_channels, n = len(prediction), len(parent)
    head = np.arange(n)
    _find_chains(parent, np.ones(n, dtype=np.int64), np.full(n, -1), head)
    sums = np.zeros((n, n_levels, FIRST_CHANNEL + 3 * n_channels))
    border = np.zeros((n, 1 + n_channels))
    reach = np.full((n, len(DIRECTIONS), 2), -(2**40))
    _add_own(basin, parent, head, prediction, flow, level, sums, border, reach)
    return sums, border, reach


@compiled
def _add_own(basin, parent, head, prediction, flow, level, sums, border, reach):
    """Fill in the zeros of `sums_of_own`; head: of each node's chain."""
    n_channels, rows, columns = prediction.shape
    for y in range(rows):
        for x in range(columns):
            leaf = basin[y, x]
            if leaf < 0:
                continue
            k = level[y, x]
            own = sums[leaf, k]
            own[AREA] += 1
            own[Y] += y
            own[X] += x
            own[YY] += y * y
            own[XX] += x * x
            own[YX] += y * x
            own[FRAME] += (y == 0) + (x == 0) + (y == rows - 1) + (x == columns - 1)
            own[FLOW_Y] += flow[0, y, x]
            own[FLOW_X] += flow[1, y, x]
            own[INWARD] += y * flow[0, y, x] + x * flow[1, y, x]
            for c in range(n_channels):
                value = prediction[c, y, x]
                own[FIRST_CHANNEL + 3 * c] += value
                own[FIRST_CHANNEL + 3 * c + 1] += value * value
            is_inside = 0 < y < rows - 1 and 0 < x < columns - 1
            if not is_inside or not (
                basin[y, x - 1] == leaf
                and basin[y, x + 1] == leaf
                and basin[y - 1, x] == leaf
                and basin[y + 1, x] == leaf
            ):
                for i in range(len(DIRECTIONS)):
                    along = y * DIRECTIONS[i, 0] + x * DIRECTIONS[i, 1]
                    reach[leaf, i, 0] = max(reach[leaf, i, 0], along)
                    reach[leaf, i, 1] = max(reach[leaf, i, 1], -along)
            for row, column in ((y, x + 1), (y + 1, x), (y + 1, x + 1), (y + 1, x - 1)):
                if row == rows or column == columns or column < 0 or basin[row, column] < 0:
                    continue
                node, other = leaf, basin[row, column]
                while head[node] != head[other]:
                    above, over = parent[head[node]], parent[head[other]]
                    if over < 0 or 0 <= above < over:
                        node = above
                    else:
                        other = over
                node = max(node, other)
                shared = sums[node, min(k, level[row, column])]
                if row != y and column != x:
                    shared[CORNERS] += 1
                    continue
                shared[SIDES] += 1
                parts = leaf != basin[row, column]
                border[node, 0] += parts
                for c in range(n_channels):
                    both = prediction[c, y, x] + prediction[c, row, column]
                    shared[FIRST_CHANNEL + 3 * c + 2] += both
                    if parts:
                        border[node, 1 + c] += both / 2


def gather_upwards(parent, met, summit, sums, reach):
    """Add what every node holds to all nodes above it, in place.

    parent, met, summit: see `merge_tree`. sums, reach: see `sums_of_own`.

    Returns for each node, as (node, 3) float64: how many leaves it holds; its deepest valley, where the height is the
    least share of the lower summit beside it (1: no valley at all); the area of its smaller child (of a leaf: its own).
    """
    n = len(parent)
    gathered = np.zeros((n, 3))
    gathered[:, 1] = 1.0
    _gather(parent, met, summit, sums, reach, gathered, np.zeros(n), np.full(n, np.inf))
    return gathered


@compiled
def _gather(parent, met, summit, sums, reach, gathered, valley, smaller):
    """Do what `gather_upwards` does; room for each node: its deepest valley yet, all 0; its smaller child, all inf."""
    n, n_levels = sums.shape[0], sums.shape[1]
    for node in range(n):
        area = 0.0
        for k in range(n_levels):
            area += sums[node, k, AREA]
        if gathered[node, 0] == 0:
            gathered[node, 0], gathered[node, 2] = 1, area
        else:
            gathered[node, 1], gathered[node, 2] = min(gathered[node, 1], valley[node]), smaller[node]
        above = parent[node]
        if above < 0:
            continue
        gathered[above, 0] += gathered[node, 0]
        gathered[above, 1] = min(gathered[above, 1], gathered[node, 1])
        valley[above] = max(valley[above], met[above] / max(summit[node], 1e-6))
        smaller[above] = min(smaller[above], area)
        for k in range(n_levels):
            for i in range(sums.shape[2]):
                sums[above, k, i] += sums[node, k, i]
        for i in range(reach.shape[1]):
            reach[above, i, 0] = max(reach[above, i, 0], reach[node, i, 0])
            reach[above, i, 1] = max(reach[above, i, 1], reach[node, i, 1])


@compiled
def add_upwards(parent, values):
    """Add the values of every node (node, column) to all nodes above it, in place."""
    for node in range(len(parent)):
        if parent[node] >= 0:
            for i in range(values.shape[1]):
                values[parent[node], i] += values[node, i]


def choose(parent, gain):
    """Choose nodes that share no pixel, so that their gains add up to as much as can be.

    parent, gain: (n,); only gains above 0 are worth taking. Where a node gains as much as all that could be chosen
    below it, the node is chosen. Returns for each node the chosen one that it is or lies below, -1 if there is none.
    """
    owner = np.full(len(parent), -1, dtype=np.int32)
    _choose(parent, gain, np.zeros(len(parent)), owner)
    return owner


@compiled
def _choose(parent, gain, below, owner):
    """Fill in the owner of each node, all -1; below: room for what each node and those below it gain, all 0."""
    n = len(parent)
    for node in range(n):
        if gain[node] > 0 and gain[node] >= below[node]:
            below[node] = gain[node]
            owner[node] = node
        if parent[node] >= 0:
            below[parent[node]] += below[node]
    for node in range(n - 1, -1, -1):
        if parent[node] >= 0 and owner[parent[node]] >= 0:
            owner[node] = owner[parent[node]]


@compiled
def best_ious(parent, area, leaf, cell, shared_px, cell_px):
    """The IoU of each candidate with the true cell that fits it best: (n, c) float32.

    parent: (n,). area: (n, c), of each node at each cut. leaf, cell: (m,), a leaf and a true cell that share pixels,
    sorted by cell. shared_px: (m, c), how many, at each cut. cell_px: areas of true cells.
    """
    n, n_cuts = area.shape
    iou = np.zeros((n, n_cuts), dtype=np.float32)
    shared = np.zeros((n, n_cuts))
    first = 0
    while first < len(cell):
        last = first
        true_px = cell_px[cell[first]]
        while last < len(cell) and cell[last] == cell[first]:
            node = leaf[last]
            # Nodes ten times too large, whatever the cut, are of no interest; nor are those above them.
            while node >= 0 and area[node, n_cuts - 1] <= 10 * true_px:
                for k in range(n_cuts):
                    shared[node, k] += shared_px[last, k]
                node = parent[node]
            last += 1
        for i in range(first, last):
            node = leaf[i]
            while node >= 0 and shared[node, 0] > 0:
                for k in range(n_cuts):
                    here = shared[node, k] / (area[node, k] + true_px - shared[node, k])
                    iou[node, k] = max(iou[node, k], here)
                    shared[node, k] = 0
                node = parent[node]
        first = last
    return iou
