"""Loops of `stars`: rays from the pixels of cells to their borders, and polygons of which the likelier wins."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fewcell.compiled import compiled
from fewcell.types import FloatArray, Labels

__all__ = ["cast_rays", "draw_winners", "polygon_pixels", "ray_directions", "ray_pixels"]

_SAMPLES = 48  # overlaps of a polygon wider than this are measured on every second, third, ... row and column


def ray_directions(n_rays: int) -> NDArray[np.float64]:
    """The directions of the rays, as unit vectors (ray, 2): row and column; the first points right, the next below it.

    n_rays: a multiple of 8. All come from one table of sines, so that turns and flips permute them to the last bit.
    """
    rising = np.sin(np.linspace(0, np.pi / 2, n_rays // 4 + 1))
    half = np.concatenate([rising, rising[-2:0:-1]])
    sine = np.concatenate([half, -half])
    return np.stack([sine, np.roll(sine, -(n_rays // 4))], axis=1)


@lru_cache(maxsize=1)
def ray_pixels(n_rays: int, max_px: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pixels that each ray from a pixel's centre enters one after the other, and how far along it does so.

    Returns steps (ray, entry, 2), row and column relative to the start, and distances (ray, entry). Every ray ends
    with `max_px`, and repeats its end so that all have the same number of entries. A diagonal ray goes through the
    corners of pixels, from one to the next.
    """
    rays = []
    for dy, dx in ray_directions(n_rays):
        halves = np.arange(np.ceil(max_px)) + 0.5
        rows, columns = (halves / abs(d) if d else halves[:0] for d in (dy, dx))
        if abs(dy) == abs(dx):
            times, steps = rows, np.ones((len(rows), 2))
        else:
            times = np.concatenate([rows, columns])
            steps = np.repeat([[1, 0], [0, 1]], [len(rows), len(columns)], axis=0)
        order = np.argsort(times)
        order = order[times[order] < max_px]
        rays.append((times[order], np.cumsum(steps[order], axis=0) * np.sign([dy, dx])))
    longest = max(len(times) for times, _ in rays) + 1
    distances = np.stack([np.pad(t, (0, longest - len(t)), constant_values=max_px) for t, _ in rays])
    pixels = np.stack([np.pad(s, ((0, longest - len(s)), (0, 0)), mode="edge") for _, s in rays])
    return pixels.astype(np.int64), distances


@compiled
def cast_rays(
    labels: Labels, leap: NDArray[np.int32], steps: NDArray[np.int64], values: FloatArray, out: FloatArray
) -> None:
    """Write, for each pixel of a cell, the value that belongs to where each ray from it leaves the cell.

    labels, leap: (height + 2, width + 2), with a frame of background; leap: how many entries of any ray may be
    skipped from a pixel, at least 1. steps: (ray, entry), as offsets into the flat labels. values: (ray, entry).
    out: (ray, height, width); outside cells nothing is written.
    """
    height, width = labels.shape
    n_rays, n_entries = steps.shape
    flat, flat_leap = labels.ravel(), leap.ravel()
    for ray in range(n_rays):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                start = y * width + x
                own = flat[start]
                if own <= 0:
                    continue
                entry = flat_leap[start] - 1
                while entry < n_entries - 1:
                    here = start + steps[ray, entry]
                    if flat[here] != own:
                        break
                    entry += flat_leap[here]
                out[ray, y - 1, x - 1] = values[ray, min(entry, n_entries - 1)]


@compiled
def _extent(ys, xs):
    """The lowest and highest y, the lowest and highest x."""
    low_y, high_y, low_x, high_x = ys[0], ys[0], xs[0], xs[0]
    for i in range(1, len(ys)):
        low_y, high_y = min(low_y, ys[i]), max(high_y, ys[i])
        low_x, high_x = min(low_x, xs[i]), max(high_x, xs[i])
    return low_y, high_y, low_x, high_x


@compiled
def polygon_pixels(ys, xs, step, shape, marks, pixels):
    """List the pixels whose centres lie inside a polygon, as positions in the flat field; returns their number.

    ys, xs: the corners. step: look only at every `step`-th row and column. shape: of the field; what lies beyond is
    cut off. marks: (height, width + 1) zeros, and zeros again afterwards. pixels: (height * width,), written into.
    """
    height, width = shape
    n_corners = len(ys)
    low_y, high_y, low_x, high_x = _extent(ys, xs)
    top, left = max(math.ceil(low_y / step), 0), max(math.ceil(low_x / step), 0)
    bottom = min(math.floor(high_y / step), (height - 1) // step) + 1
    right = min(math.floor(high_x / step), (width - 1) // step) + 1
    if bottom <= top or right <= left:
        return 0
    for i in range(n_corners):  # mark where each row, read to the right, crosses the outline, downwards or upwards
        j = i + 1 if i + 1 < n_corners else 0
        upper, lower, sign = (i, j, 1) if ys[i] < ys[j] else (j, i, -1)
        for row in range(max(math.ceil(ys[upper] / step), top), min(math.ceil(ys[lower] / step), bottom)):
            way = (row * step - ys[upper]) / (ys[lower] - ys[upper])
            column = math.ceil((xs[upper] + way * (xs[lower] - xs[upper])) / step)
            marks[row, min(max(column, left), right)] += sign
    n_inside = 0
    for row in range(top, bottom):
        crossed = 0
        for column in range(left, right):
            crossed += marks[row, column]
            marks[row, column] = 0
            if crossed != 0:
                pixels[n_inside] = row * step * width + column * step
                n_inside += 1
        marks[row, right] = 0
    return n_inside


@compiled
def draw_winners(centres, distances, directions, owners, max_overlap, min_area_px):
    """Draw polygons from the likeliest to the least likely, leaving out those that lie over one drawn before.

    A polygon is left out if more than `max_overlap` of it is taken, or if it would take more than that of one drawn
    before. Overlaps are measured on the drawing itself, so that nobody need search for neighbours.

    centres: (candidate, 2), row and column, the likeliest first. distances: (candidate, ray), px. directions:
    (ray, 2). owners: (height, width) int32 zeros, into which polygons are drawn as 1, 2, ...; where two overlap,
    the first keeps the pixels. Returns which candidates were drawn.
    """
    n_candidates, n_rays = distances.shape
    field = owners.ravel()
    marks = np.zeros((owners.shape[0], owners.shape[1] + 1), np.int64)
    pixels, met = np.zeros(field.size, np.int64), np.zeros(field.size, np.int64)
    areas, shared = np.zeros(n_candidates + 1, np.int64), np.zeros(n_candidates + 1, np.int64)
    winners = np.zeros(n_candidates, np.int64)
    ys, xs = np.zeros(n_rays), np.zeros(n_rays)
    n_winners = 0
    for candidate in range(n_candidates):
        for ray in range(n_rays):
            ys[ray] = centres[candidate, 0] + distances[candidate, ray] * directions[ray, 0]
            xs[ray] = centres[candidate, 1] + distances[candidate, ray] * directions[ray, 1]
        low_y, high_y, low_x, high_x = _extent(ys, xs)
        step = 1 + int(max(high_y - low_y, high_x - low_x) / _SAMPLES)
        n_inside = polygon_pixels(ys, xs, step, owners.shape, marks, pixels)
        taken, n_met = 0, 0
        for i in range(n_inside):
            owner = field[pixels[i]]
            if owner > 0:
                taken += 1
                if shared[owner] == 0:
                    met[n_met] = owner
                    n_met += 1
                shared[owner] += 1
        area_of_one = step * step
        wins = n_inside * area_of_one >= min_area_px and taken <= max_overlap * n_inside
        for i in range(n_met):
            wins = wins and shared[met[i]] * area_of_one <= max_overlap * areas[met[i]]
            shared[met[i]] = 0
        if wins:
            winners[n_winners] = candidate
            n_winners += 1
            areas[n_winners] = polygon_pixels(ys, xs, 1, owners.shape, marks, pixels)
            for i in range(areas[n_winners]):
                if field[pixels[i]] == 0:
                    field[pixels[i]] = n_winners
    return winners[:n_winners]
