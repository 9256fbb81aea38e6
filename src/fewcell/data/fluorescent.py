"""Fluorescent cells, drawn: nuclei, bodies or membranes that glow, in tissue or on glass.

What is drawn is the light that comes from each place: of cells in focus, which are labelled, of others far out of it,
which are not, of the ground; and what a lens and a camera make of it.
"""

from functools import partial

import cv2
import numpy as np

from fewcell.data.bodies import KINDS, Bodies, Kind, blurred, depth_px, draw_bodies, granules
from fewcell.data.draws import grain, labels_of_pieces, log_uniform, smooth_field, uneven
from fewcell.types import FloatArray, Labels

__all__ = ["fluorescent_cells"]

Generator = np.random.Generator

NUCLEI = Kind(
    longer=(1, 3), is_capsule=False, bent=(0, 0.15), tips=(0, 0), reach=0, granules=(0, 0.6),
    has_nucleus=False, rounds_up=False, shares=0.4, sizes=(0.05, 0.45),
)  # fmt: skip
OF_NUCLEI = 0.7  # of the images; else of whole cells
OF_MEMBRANES = 0.25  # of the latter
FAINTEST, BRIGHTEST = 0.15, 4.0  # cells are, against the median one


def fluorescent_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of fluorescent cells, (side, side, 3), gray, bright on dark, and their labels, (side, side) int32.

    Where cells lie on each other, their light adds up, and the label is that of one of them. A piece that is left of a
    label is a cell, and slivers are UNKNOWN. There may be no cell at all.

    diameter_px: of the circle as large as the median cell, or nucleus where these are what glows.

    Source: domain randomisation (Tobin et al., IROS 2017); a simulator of the same parts is SIMCEP (Lehmussola et al.,
    IEEE Transactions on Medical Imaging 26, 2007).
    """
    kind = NUCLEI if rng.random() < OF_NUCLEI else KINDS[int(rng.integers(len(KINDS)))]
    cells = draw_bodies(kind, side, diameter_px, rng)
    ground, reading = _ground(side, diameter_px, rng), float(log_uniform(0.003, 0.06, rng))
    faintest = max(FAINTEST, 2 * float(ground.std()), 2 * reading)  # nobody is asked to see what noise hides
    spread = rng.uniform(0.7, 1.5)  # of brightness, from cell to cell
    light = _light(kind, cells, _brightness(cells, spread, faintest, rng), diameter_px, rng)
    if rng.random() < 0.4:
        others = draw_bodies(kind, side, diameter_px, rng)
        beside = np.minimum(_brightness(others, spread, 0, rng), 1)[others.numbers]
        light += np.float32(rng.uniform(0.1, 0.7)) * blurred(beside, diameter_px * rng.uniform(0.5, 1.2))
    light += np.float32(rng.uniform(0, 0.4)) * blurred(light, diameter_px * rng.uniform(0.4, 1.5))
    light = blurred(light + ground, log_uniform(0.5, 2, rng))
    if rng.random() < 0.3:
        light *= 1 + np.float32(0.4) * uneven((side, side), rng)
    if rng.random() < 0.2:
        light = np.minimum(light, np.float32(rng.uniform(0.5, 1)) * light.max())  # the camera is full
    light = np.maximum(light, 0)
    photons = np.float32(log_uniform(0.01, 0.2, rng)) * np.sqrt(light) * rng.standard_normal((side, side), np.float32)
    image = light + photons + np.float32(reading) * grain((side, side), 1, rng)[..., 0]
    return np.repeat(image[..., None], 3, axis=2).astype(np.float32), labels_of_pieces(cells.numbers)


def _brightness(cells: Bodies, spread: float, faintest: float, rng: Generator) -> FloatArray:
    """How bright each cell is, the ground, 0, first; about 1 at the median. What has rounded up holds more of a dye."""
    brightness = cells.strengths**spread
    brightness[cells.is_swollen] *= rng.uniform(1, 2.5)
    brightness[1:] = np.clip(brightness[1:], faintest, BRIGHTEST)
    return brightness.astype(np.float32)


def _light(kind: Kind, cells: Bodies, brightness: FloatArray, diameter_px: float, rng: Generator) -> FloatArray:
    """The light of cells in focus: flat or round, with a texture, or of their membranes alone.

    Where one lies on another, the light of both is seen.
    """
    own, hidden = depth_px(cells.numbers), depth_px(cells.below)
    is_above = cells.below != cells.numbers
    own = np.where(is_above, own, np.maximum(own, hidden))  # a cell goes on below another
    if kind is not NUCLEI and rng.random() < OF_MEMBRANES:
        at_px, wide_px = rng.uniform(0.5, 1.5, 2)
        profile = partial(_membrane, at_px=at_px, wide_px=wide_px, inside=rng.uniform(0, 0.4))
    else:
        profile = partial(_body, radius_px=0.4 * diameter_px, flat=rng.uniform(0, 1))
    light = profile(own) * brightness[cells.numbers] + is_above * profile(hidden) * brightness[cells.below]
    light = light * np.maximum(1 + granules(kind, cells.nuclei, diameter_px, rng), 0.1)
    return (light * (1 + rng.uniform(-0.6, 0.8) * cells.nuclei)).astype(np.float32)


def _membrane(depth: FloatArray, at_px: float, wide_px: float, inside: float) -> FloatArray:
    rim = np.exp(-(((depth - at_px) / wide_px) ** 2) / 2)
    return np.asarray((depth > 0) * (rim + inside), dtype=np.float32)


def _body(depth: FloatArray, radius_px: float, flat: float) -> FloatArray:
    """Between a disc of even brightness, flat = 1, and a dome: as bright as the root of how deep it is there."""
    ball = np.sqrt(np.minimum(depth / radius_px, 1))
    return np.asarray((depth > 0) * (flat + (1 - flat) * ball), dtype=np.float32)


def _ground(side: int, diameter_px: float, rng: Generator) -> FloatArray:
    """Light from what is no cell: tissue that glows by itself, and specks; (side, side)."""
    ground = np.full((side, side), rng.uniform(0, 0.3), dtype=np.float32)
    for strength in (0.15 * rng.uniform() ** 2, 0.1 * rng.uniform() ** 2):
        ground += np.float32(strength) * smooth_field((side, side), log_uniform(2, 60, rng), rng)
    if rng.random() < 0.3:
        specks = np.zeros_like(ground)
        for _ in range(rng.poisson(log_uniform(0.5, 20, rng))):
            x, y = rng.integers(0, side, 2).tolist()
            radius_px, light = round(diameter_px * float(rng.uniform(0, 1 / 14))), float(rng.exponential(0.7))
            cv2.circle(specks, (x, y), radius_px, light, cv2.FILLED)
        ground += specks
    return ground
