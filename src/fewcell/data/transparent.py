"""Transparent cells, drawn: as phase contrast, DIC and brightfield show cells that nobody stained.

What is drawn is how thick an image is: bodies with nuclei and granules, the ground that they lie on, and debris. How a
microscope shows that is left to `optics`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fewcell.data.bodies import (
    KINDS,
    RODS,
    ROUND,
    SHEETS,
    SPINDLES,
    SPREAD,
    SWOLLEN_RADIUS,
    Bodies,
    Kind,
    blurred,
    depth_px,
    draw_bodies,
    granules,
    is_inside,
)
from fewcell.data.draws import grain, labels_of_pieces, log_uniform, smooth_field, uneven
from fewcell.data.optics import defocused, dic, phase_contrast
from fewcell.types import FloatArray, Labels

__all__ = ["transparent_cells"]

Generator = np.random.Generator

# How wide halos are in phase contrast, in widths of a cell.
HALOS = {SPREAD: (0.06, 0.3), SPINDLES: (0.06, 0.3), SHEETS: (0.06, 0.3), ROUND: (0.1, 0.8), RODS: (0.2, 1.2)}
DARKEST = 8.0  # of what is seen, in units of what the rims of most cells show: a camera has an end, too
PHASE, DIC = 0.6, 0.2  # how often; else brightfield


def transparent_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of transparent cells, (side, side, 3), gray, and their labels, (side, side) int32.

    What lies on top hides what is below it; a piece that is left is a cell, and slivers are UNKNOWN. There may be no
    cell at all.

    diameter_px: of the circle as large as the median cell.

    Source: domain randomisation (Tobin et al., IROS 2017), of thickness instead of brightness.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    cells = draw_bodies(kind, side, diameter_px, rng)
    thickness = _thickness(kind, cells, diameter_px, rng) + _ground(side, diameter_px, rng)
    thickness = blurred(thickness, log_uniform(0.4, 1.5, rng))
    chance = rng.random()
    if chance < PHASE:
        shown = phase_contrast(_wrapped(thickness, rng), diameter_px * log_uniform(*HALOS[kind], rng), rng)
    else:
        shown = dic(thickness, rng) if chance < PHASE + DIC else defocused(thickness, rng)
    rims = _rims(cells)
    shown = np.clip(_in_units_of(shown, rims), -DARKEST, DARKEST)
    if rng.random() < 0.3:  # light that is absorbed, or scattered into the image
        shown += np.float32(rng.uniform(-0.6, 0.6)) * np.clip(_in_units_of(thickness, rims), -DARKEST, DARKEST)
    if rng.random() < 0.5:  # uneven light
        shown += uneven((side, side), rng)
    shown += np.float32(log_uniform(0.01, 0.2, rng)) * grain((side, side), 1, rng)[..., 0]
    return np.repeat(shown[..., None], 3, axis=2).astype(np.float32), labels_of_pieces(cells.numbers)


def _thickness(kind: Kind, cells: Bodies, diameter_px: float, rng: Generator) -> FloatArray:
    """How thick cells are, (side, side): flat or round as lenses, with nuclei and granules, thinner where they meet."""
    depth, from_ground = depth_px(cells.numbers), depth_px((cells.numbers > 0).astype(np.int32))
    slope_px = diameter_px * log_uniform(0.03, 0.5, rng)
    valley = rng.uniform(0.4, 1)
    profile = valley * _slope(depth, slope_px) + (1 - valley) * _slope(from_ground, slope_px)
    profile += rng.uniform(0, 0.6) * np.exp(-((depth - rng.uniform(1, 3)) ** 2) / 2) * (depth > 0)  # a ruffled edge
    radius_px = SWOLLEN_RADIUS * diameter_px
    dome = rng.uniform(1.5, 5) * np.sqrt(np.maximum(1 - (1 - np.minimum(depth / radius_px, 1)) ** 2, 0))
    if kind.has_nucleus and rng.random() < 0.7:  # a thick middle in a thin fringe
        hump = blurred(cells.nuclei, diameter_px * rng.uniform(0.08, 0.25))
        fringe = rng.uniform(0.3, 1)
        profile *= fringe + (1 - fringe) * hump / max(float(hump.max()), 1e-6)
    profile *= np.maximum(1 + granules(kind, cells.nuclei, diameter_px, rng), 0.1)
    profile *= 1 + rng.uniform(-0.4, 1.0) * cells.nuclei
    shape = np.where(cells.is_swollen[cells.numbers], dome, profile)
    return (shape * cells.strengths[cells.numbers]).astype(np.float32)


def _slope(depth: FloatArray, slope_px: float) -> FloatArray:
    """A cell is steep where it meets the glass, however gently it rises from there."""
    gentle, steep = np.exp(-depth / np.float32(slope_px)), np.exp(-depth)
    return 1 - np.float32(0.7) * gentle - np.float32(0.3) * steep


def _ground(side: int, diameter_px: float, rng: Generator) -> FloatArray:
    """What lies between cells, and on them: an uneven ground, specks, now and then a scratch, or what floats above."""
    drawn = np.zeros((side, side), dtype=np.float32)
    for _ in range(rng.poisson(log_uniform(0.5, 40, rng))):
        x, y = rng.integers(0, side, 2).tolist()
        cv2.circle(drawn, (x, y), round(diameter_px * float(rng.uniform(0, 1 / 12))), float(rng.normal(0, 0.4)), -1)
    if rng.random() < 0.1:
        ends = rng.integers(-side // 4, 5 * side // 4, 4).tolist()
        cv2.line(drawn, (ends[0], ends[1]), (ends[2], ends[3]), float(rng.normal(0, 0.4)), 1)
    if rng.random() < 0.2:
        floating = np.zeros_like(drawn)
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.integers(0, side, 2).tolist()
            cv2.circle(floating, (x, y), round(diameter_px * float(rng.uniform(0.2, 1))), float(rng.normal(0, 1)), -1)
        drawn += blurred(floating, diameter_px * rng.uniform(0.3, 0.6))
    if rng.random() < 0.6:
        drawn += np.float32(0.1 * rng.uniform() ** 2) * smooth_field((side, side), log_uniform(1, 40, rng), rng)
    return drawn.astype(np.float32)


def _wrapped(thickness: FloatArray, rng: Generator) -> FloatArray:
    """Phase contrast in proportion to thickness as long as that is small; what is thick turns bright again.

    Source: the phase plate of Zernike, who adds a quarter of a wave to the light that passes unbent.
    """
    phase = np.float32(rng.uniform(0.2, 0.9)) * thickness
    return np.sin(phase) + np.cos(phase) - 1


def _rims(cells: Bodies) -> NDArray[np.bool_]:
    """Where cells that have not rounded up end, or meet others; (side, side)."""
    is_rim = (cells.numbers > 0) & (is_inside(cells.numbers) == 0) & ~cells.is_swollen[cells.numbers]
    return blurred(is_rim, 0.8) > 0.1


def _in_units_of(shown: FloatArray, rims: NDArray[np.bool_]) -> FloatArray:
    """In units of how much most of what shows rims departs from 0, so that noise can be told in them."""
    strong = np.quantile(np.abs(shown[rims]), 0.75) if rims.any() else 1.0
    return shown / np.float32(max(float(strong), 1e-3))
