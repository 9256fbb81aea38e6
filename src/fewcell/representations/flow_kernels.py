"""Following a flow from every pixel, and finding out which pixels end together."""

from math import hypot

import cc3d
import numpy as np

from fewcell.compiled import compiled, find_root
from fewcell.types import Labels

__all__ = ["arrive", "follow", "join_ends", "split_by_sink"]

SETTLED_PX = 0.02
"""A point that moves by less in a step has arrived."""


@compiled
def follow(flow, inside, n_steps, suppressed):
    """Where each pixel ends that follows the flow: flat indices (height, width) int64 of pixels, -1 where not `inside`.

    flow: (2, height, width), y and x; taken as 0 where not `inside`, as 1 in length where it is longer, and
    interpolated between pixels. A step is as long as the flow; if `suppressed`, step number t, counted from 1, is
    divided by t. No point leaves the frame.
    """
    height, width = inside.shape
    field = np.zeros((height, width, 2), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            if inside[y, x]:
                length = max(1.0, hypot(flow[0, y, x], flow[1, y, x]))
                field[y, x, 0], field[y, x, 1] = flow[0, y, x] / length, flow[1, y, x] / length
    ends = np.full((height, width), -1, dtype=np.int64)
    for row in range(height):
        for column in range(width):
            if inside[row, column]:
                y, x = _end(field, row, column, n_steps, suppressed)
                ends[row, column] = int(y + 0.5) * width + int(x + 0.5)
    return ends


@compiled
def _end(field, row, column, n_steps, suppressed):
    height, width = field.shape[:2]
    y, x = float(row), float(column)
    last_y, last_x, stride = 0.0, 0.0, 1.0
    for step in range(n_steps):
        top, left = int(y), int(x)
        low, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        a, b, c, d = (1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx
        move_y = a * field[top, left, 0] + b * field[top, right, 0] + c * field[low, left, 0] + d * field[low, right, 0]
        move_x = a * field[top, left, 1] + b * field[top, right, 1] + c * field[low, left, 1] + d * field[low, right, 1]
        if move_y * last_y + move_x * last_x < 0:
            stride /= 2  # jumped over a sink, and shall settle in it
        last_y, last_x = move_y, move_x
        length = stride / (step + 1) if suppressed else stride
        if (move_y * move_y + move_x * move_x) * stride * stride < SETTLED_PX * SETTLED_PX:
            break
        y = min(max(y + length * move_y, 0.0), height - 1.0)
        x = min(max(x + length * move_x, 0.0), width - 1.0)
    return y, x


@compiled
def arrive(leads):
    """Where one gets in the end who goes from each pixel to the one that it leads to: (height, width) int64.

    leads: (height, width) int64, flat indices, -1 where nothing leads on. An end is a pixel that leads nowhere, or to
    itself; of pixels that lead round in a ring, the first in reading order. -1 stays -1. No way is gone twice.
    """
    ahead = leads.ravel()
    last = np.full(ahead.size, -1, dtype=np.int64)
    trail = np.empty(ahead.size, dtype=np.int64)
    on_trail = -2
    for start in range(ahead.size):
        if ahead[start] < 0:
            continue
        length, place = 0, start
        while ahead[place] >= 0 and last[place] == -1:
            last[place], trail[length] = on_trail, place
            length, place = length + 1, ahead[place]
        end = place
        if last[place] == on_trail:
            turn = ahead[place]
            while turn != place:
                end, turn = min(end, turn), ahead[turn]
        elif last[place] >= 0:
            end = last[place]
        for i in range(length):
            last[trail[i]] = end
    return last.reshape(leads.shape)


def split_by_sink(ends: np.ndarray, sink_px: int, n_climbs: int) -> Labels:
    """Put the pixels together that end in the same sink: labels (height, width) int32, not without gaps.

    ends: as from `follow`. An end point moves on, n_climbs times, to the pixel within sink_px (along each axis) where
    most points end, counted over 3 x 3 pixels. A pixel from where it would move no more is a sink; points that do
    not get to one belong to no instance. Of an instance only one connected piece (corners connect) is kept, the one
    nearest to the sink, and nothing if that is farther than n_climbs * sink_px. So an instance depends on nothing
    but what ends within (n_climbs + 1) * sink_px + 1 of its sink.
    """
    count = np.bincount(ends[ends >= 0], minlength=ends.size)
    taken = np.flatnonzero(count)
    uphill = _uphill(count, taken, *ends.shape, sink_px)
    sinks = taken[uphill[taken] == taken]
    number = np.zeros(ends.size + 1, dtype=np.int32)
    number[sinks] = np.arange(1, len(sinks) + 1)
    last = ends
    for _ in range(n_climbs):
        last = uphill[last]  # -1 stays -1: it is the last place
    labels = number[last]
    pieces = cc3d.connected_components(labels, connectivity=8, out_dtype=np.uint32).view(np.int32)
    kept = _nearest_pieces(labels, pieces, sinks, n_climbs * sink_px, int(pieces.max(initial=0)))
    return np.where(kept[pieces], labels, 0)


@compiled
def _uphill(count, taken, height, width, sink_px):
    """For each place that is taken the densest one within sink_px; for others, and for one place more, -1."""
    density = np.zeros(height * width, dtype=np.int64)
    for i in taken:
        y, x = i // width, i % width
        for v in range(max(y - 1, 0), min(y + 2, height)):
            for u in range(max(x - 1, 0), min(x + 2, width)):
                density[i] += count[v * width + u]
    uphill = np.full(height * width + 1, -1, dtype=np.int64)
    for i in taken:
        y, x = i // width, i % width
        best = i
        for v in range(max(y - sink_px, 0), min(y + sink_px + 1, height)):
            for u in range(max(x - sink_px, 0), min(x + sink_px + 1, width)):
                j = v * width + u
                # Of equals the first in reading order, so that two pixels agree on which is higher.
                better = density[j] > density[best] or (density[j] == density[best] and count[j] > count[best])
                if better or (density[j] == density[best] and count[j] == count[best] and j < best):
                    best = j
        uphill[i] = best
    return uphill


@compiled
def _nearest_pieces(labels, pieces, sinks, radius, n_pieces):
    height, width = labels.shape
    kept = np.zeros(n_pieces + 1, dtype=np.bool_)
    for k in range(len(sinks)):
        y, x = sinks[k] // width, sinks[k] % width
        nearest, piece = 2 * radius * radius + 1, 0
        for v in range(max(y - radius, 0), min(y + radius + 1, height)):
            for u in range(max(x - radius, 0), min(x + radius + 1, width)):
                if labels[v, u] == k + 1 and (v - y) ** 2 + (u - x) ** 2 < nearest:
                    nearest, piece = (v - y) ** 2 + (u - x) ** 2, pieces[v, u]
        kept[piece] = piece > 0
    return kept


@compiled
def join_ends(ends, flow, boundary):
    """Put the pixels together whose end points hang together: labels (height, width) int64, not without gaps.

    ends: as from `follow`. flow: (2, height, width). boundary: (height, width) bool. End points on pixels that touch,
    corners included, hang together; unless both lie on a boundary and the flow there parts them.
    """
    height, width = ends.shape
    parent = np.full(height * width, -1, dtype=np.int64)
    for y in range(height):
        for x in range(width):
            if ends[y, x] >= 0:
                parent[ends[y, x]] = ends[y, x]
    for y in range(height):
        for x in range(width):
            i = y * width + x
            if parent[i] < 0:
                continue
            for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
                v, u = y + dy, x + dx
                if v < 0 or u < 0 or u >= width or parent[v * width + u] < 0:
                    continue
                parting = (flow[0, v, u] - flow[0, y, x]) * dy + (flow[1, v, u] - flow[1, y, x]) * dx
                if parting > 0 and boundary[y, x] and boundary[v, u]:
                    continue
                a, b = find_root(parent, i), find_root(parent, v * width + u)
                parent[max(a, b)] = min(a, b)
    labels = np.zeros((height, width), dtype=np.int64)
    for y in range(height):
        for x in range(width):
            if ends[y, x] >= 0:
                labels[y, x] = find_root(parent, ends[y, x]) + 1
    return labels
