"""Fluorescent cells, drawn: nuclei, bodies or membranes that glow, in tissue or on glass.

What is drawn is the light that comes from each place: of cells in focus, which are labelled, of others far out of it,
which are not, of the ground; and what a lens and a camera make of it.
"""

import cv2
import numpy as np

from fewcell.data.bodies import (
    RODS,
    ROUND,
    SHEETS,
    SPINDLES,
    SPREAD,
    Bodies,
    Kind,
    depth_px,
    draw_bodies,
    granules,
    is_inside,
)
from fewcell.data.draws import grain, labels_of_pieces, log_uniform, smooth_field
from fewcell.types import FloatArray, Labels

__all__ = ["fluorescent_cells"]

Generator = np.random.Generator

NUCLEI = Kind(
    longer=(1, 3), is_capsule=False, bent=(0, 0.15), tips=(0, 0), reach=0, granules=(0, 0.6), halo=(0, 0),
    has_nucleus=False, rounds_up=False, shares=0.4, sizes=(0.05, 0.45),
)  # fmt: skip
BODIES = (SPREAD, SPINDLES, SHEETS, ROUND, RODS)
OF_NUCLEI = 0.7  # of the images; else of bodies
OF_MEMBRANES = 0.25  # of the latter
FAINTEST, BRIGHTEST = 0.15, 4.0  # of the median cell; fainter ones are not asked of anyone to see


def fluorescent_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of fluorescent cells, (side, side, 3), gray, bright on dark, and their labels, (side, side) int32.

    Where cells lie on each other, their light adds up, and the label is that of one of them. A piece that is left of a
    label is a cell, and slivers are UNKNOWN. There may be no cell at all.

    diameter_px: of the circle as large as the median cell, or nucleus where these are what glows.

    Source: domain randomisation (Tobin et al., IROS 2017); a simulator of the same parts is SIMCEP (Lehmussola et al.,
    IEEE Transactions on Medical Imaging 26, 2007).
    """
    kind = NUCLEI if rng.random() < OF_NUCLEI else BODIES[int(rng.integers(len(BODIES)))]
    cells = draw_bodies(kind, side, diameter_px, rng)
    spread = rng.uniform(0.7, 1.5)  # of brightness, from cell to cell
    light = _light(kind, cells, diameter_px, spread, rng)
    if rng.random() < 0.4:
        others = draw_bodies(kind, side, diameter_px, rng)
        depths = diameter_px * rng.uniform(0.25, 0.8)
        light += rng.uniform(0.1, 0.7) * _blurred(_brightness(others, spread)[others.numbers], depths)
    light += rng.uniform(0, 0.4) * _blurred(light, diameter_px * rng.uniform(0.4, 1.5))
    light = _blurred(light + _ground(side, diameter_px, rng), log_uniform(0.5, 2, rng))
    if rng.random() < 0.3:
        coarse = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        light *= 1 + 0.4 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.2:
        light = np.minimum(light, np.float32(rng.uniform(0.5, 1)) * light.max())  # the camera is full
    light = np.maximum(light, 0)
    photons = np.float32(log_uniform(0.01, 0.2, rng)) * np.sqrt(light) * rng.standard_normal((side, side), np.float32)
    reading = np.float32(log_uniform(0.003, 0.06, rng)) * grain((side, side), 1, rng)[..., 0]
    image = (light + photons + reading).astype(np.float32)
    return np.repeat(image[..., None], 3, axis=2), labels_of_pieces(cells.numbers)


def _brightness(cells: Bodies, spread: float) -> FloatArray:
    """How bright each cell is, 0 of the ground first, about 1 at the median."""
    brightness = np.clip(cells.strengths**spread, FAINTEST, BRIGHTEST)
    brightness[0] = 0
    return brightness.astype(np.float32)


def _light(kind: Kind, cells: Bodies, diameter_px: float, spread: float, rng: Generator) -> FloatArray:
    """The light of cells in focus: flat or round, with a texture, or of their membranes alone."""
    depth = depth_px(is_inside(cells.numbers)) + np.float32(0.5) * (cells.numbers > 0)
    brightness = _brightness(cells, spread)
    if kind is not NUCLEI and rng.random() < OF_MEMBRANES:
        at_px, wide_px = rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5)
        rims = np.exp(-(((depth - at_px) / wide_px) ** 2) / 2) + np.float32(rng.uniform(0, 0.4))
        return (rims * brightness[cells.numbers]).astype(np.float32)
    dome = np.sqrt(np.minimum(depth / np.float32(0.4 * diameter_px), 1))
    flat = rng.uniform(0, 1)
    profile = (depth > 0) * (flat + (1 - flat) * dome)
    nuclei = np.asarray(cv2.GaussianBlur(cells.nuclei.astype(np.float32), (0, 0), 1.0), dtype=np.float32)
    profile = profile * np.maximum(1 + granules(kind, nuclei, diameter_px, rng), 0.1)
    profile *= 1 + rng.uniform(-0.6, 0.8) * nuclei
    light = profile * brightness[cells.numbers]
    is_above = (cells.numbers > 0) & (cells.below != cells.numbers)
    return (light + is_above * brightness[cells.below] * rng.uniform(0, 1)).astype(np.float32)


def _ground(side: int, diameter_px: float, rng: Generator) -> FloatArray:
    """Light from what is no cell: tissue that glows by itself, and specks; (side, side)."""
    ground = np.full((side, side), rng.uniform(0, 0.3), dtype=np.float32)
    for strength in (0.15 * rng.uniform() ** 2, 0.1 * rng.uniform() ** 2):
        ground += np.float32(strength) * smooth_field((side, side), log_uniform(2, 60, rng), rng)
    if rng.random() < 0.3:
        for _ in range(rng.poisson(log_uniform(0.5, 20, rng))):
            x, y = rng.integers(0, side, 2).tolist()
            radius_px, light = round(diameter_px * float(rng.uniform(0, 1 / 14))), float(rng.exponential(0.7))
            cv2.circle(ground, (x, y), radius_px, light, cv2.FILLED)
    return ground


def _blurred(light: FloatArray, sigma_px: float) -> FloatArray:
    blurred = cv2.GaussianBlur(light, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)
